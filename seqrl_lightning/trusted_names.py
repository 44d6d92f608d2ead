"""The classes and functions that any file may name, and the names by which they are found.

Nothing here starts a process, imports a module, or opens a file by a name that it is given.
"""

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import gymnasium as gym
import torch
from torch import nn

OWN_ROOMS = ("seqrl_lightning.algorithms", "seqrl_lightning.networks", "seqrl_lightning.envs")

_LAYERS = (
    "Identity Flatten Unflatten Linear Bilinear Embedding Conv1d Conv2d Conv3d MaxPool1d MaxPool2d AvgPool1d AvgPool2d "
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d LayerNorm RMSNorm GroupNorm BatchNorm1d "
    "BatchNorm2d Dropout Dropout1d Dropout2d RNN GRU LSTM RNNCell GRUCell LSTMCell MultiheadAttention "
    "TransformerEncoderLayer ReLU ReLU6 LeakyReLU PReLU ELU SELU CELU GELU SiLU Mish Tanh Sigmoid Softplus Softsign "
    "Hardtanh Hardswish Hardsigmoid Softmax LogSoftmax"
)
# Functions of a tensor. Not those that take a size, like one_hot and interpolate.
_ACTIVATIONS = "relu tanh sigmoid selu celu sin cos erf exp square softmax log_softmax hardshrink"
_ACTIVATIONS_OF_NN = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid logsigmoid softplus softsign hardtanh hardswish "
    "hardsigmoid hardshrink softshrink tanhshrink softmax log_softmax softmin glu"
)
_OPTIMIZERS = "Adam AdamW Adamax NAdam RAdam SGD ASGD RMSprop Rprop Adagrad Adadelta Adafactor Muon"
# Not LambdaLR, MultiplicativeLR and CyclicLR, which take functions.
_SCHEDULERS = (
    "StepLR MultiStepLR ConstantLR LinearLR ExponentialLR PolynomialLR CosineAnnealingLR "
    "CosineAnnealingWarmRestarts OneCycleLR ReduceLROnPlateau"
)
_OWN_KINDS = (nn.Module, gym.Env)  # not what else the rooms export
# Not RecordVideo, which writes files, HumanRendering, which opens a window, or what takes functions.
_WRAPPERS = (
    "AtariPreprocessing Autoreset ClipReward DelayObservation DiscretizeObservation DtypeObservation FilterObservation "
    "FlattenObservation FrameStackObservation GrayscaleObservation MaxAndSkipObservation NormalizeObservation "
    "NormalizeReward OrderEnforcing PassiveEnvChecker RecordEpisodeStatistics RepeatAction RescaleObservation "
    "ReshapeObservation ResizeObservation StickyAction TimeAwareObservation TimeLimit"
)
# Gymnasium's other tasks either open files that an argument names (MuJoCo) or import a module by name (GymV26).
TASK_MODULES = ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text", "gymnasium.envs.box2d", *OWN_ROOMS)


def names_of(code: object) -> tuple[str, ...]:
    """Return the names by which a class or function can be found in the module that defines it.

    There are two for a function like ``torch.tanh``, whose ``__qualname__`` is that of a method.
    """
    if not (isinstance(code, type) or inspect.isfunction(code) or inspect.isbuiltin(code)):
        return ()
    return tuple(f"{code.__module__}.{name}" for name in dict.fromkeys((code.__name__, code.__qualname__)))


def _listed(module: types.ModuleType, names: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield each class and function under the name that a config gives it and under those of its own module."""
    for name in names.split():
        if (found := getattr(module, name, None)) is not None:  # older versions lack some
            yield from ((full_name, found) for full_name in (f"{module.__name__}.{name}", *names_of(found)))


LISTED: dict[str, Callable[..., Any]] = {
    **dict(_listed(nn, _LAYERS)),
    **dict(_listed(torch, _ACTIVATIONS)),
    **dict(_listed(nn.functional, _ACTIVATIONS_OF_NN)),
    **dict(_listed(torch.optim, _OPTIMIZERS)),
    **dict(_listed(torch.optim.lr_scheduler, _SCHEDULERS)),
    **dict(_listed(gym.wrappers, _WRAPPERS)),
}


@functools.cache
def own_classes() -> Mapping[str, type]:
    """Return the algorithms, networks and environments that this package exports, by each of their names."""
    rooms = [import_module(room) for room in OWN_ROOMS]
    exported = [each for room in rooms for name in room.__all__ for each in _listed(room, name)]
    return {name: found for name, found in exported if isinstance(found, type) and issubclass(found, _OWN_KINDS)}


def is_known(cls: Callable[..., Any]) -> bool:
    """Return whether a class is this package's or a listed one, of which it is known what its settings may be."""
    return is_listed(cls) or is_in(cls.__module__, ("seqrl_lightning",))


def is_listed(cls: Callable[..., Any]) -> bool:
    """Return whether a class is one of torch's or Gymnasium's that any file may name."""
    return cls in LISTED.values()


def is_dotted(name: str) -> bool:
    """Return whether a text is a name, or several with dots between them, as Python writes them."""
    return all(part.isidentifier() for part in name.split("."))


def is_in(module: str, modules: Iterable[str]) -> bool:
    """Return whether a module is one of several, or lies in one of them."""
    return any(module == other or module.startswith(f"{other}.") for other in modules)
