"""Decide which classes, functions and tasks a file may name.

A checkpoint, an exported policy or a run's folder may come from a stranger. torch reads their tensors without running
code, but such a file also names what it was built from: a network's class, a wrapper, the module of a task. Calling
whatever a file names would run whatever the stranger likes, so a name becomes an object only if it is

- a class of this package's algorithms, networks or environments,
- one of the layers, optimizers and schedulers of torch and the wrappers of Gymnasium that are listed here,
- in a module that the user allows, or
- a name that the user's own config gave as well.

None of the listed classes starts a process, imports a module, or opens a file by a name that it is given.
"""

import functools
import inspect
import os
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import torch
from torch import nn

from seqrl_lightning.types import ConfigurationError

if typing.TYPE_CHECKING:
    from jsonargparse import ArgumentParser

T = TypeVar("T")

_OWN_ROOMS = ("seqrl_lightning.algorithms", "seqrl_lightning.networks", "seqrl_lightning.envs")

_LAYERS = (
    "Identity Flatten Unflatten Linear Bilinear Embedding Conv1d Conv2d Conv3d MaxPool1d MaxPool2d AvgPool1d AvgPool2d "
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d LayerNorm RMSNorm GroupNorm BatchNorm1d "
    "BatchNorm2d Dropout Dropout1d Dropout2d RNN GRU LSTM RNNCell GRUCell LSTMCell MultiheadAttention "
    "TransformerEncoderLayer ReLU ReLU6 LeakyReLU PReLU ELU SELU CELU GELU SiLU Mish Tanh Sigmoid Softplus Softsign "
    "Hardtanh Hardswish Hardsigmoid Softmax LogSoftmax"
)
_OPTIMIZERS = "Adam AdamW Adamax NAdam RAdam SGD ASGD RMSprop Rprop Adagrad Adadelta Adafactor Muon"
_SCHEDULERS = (
    "LambdaLR MultiplicativeLR StepLR MultiStepLR ConstantLR LinearLR ExponentialLR PolynomialLR CosineAnnealingLR "
    "CosineAnnealingWarmRestarts CyclicLR OneCycleLR ReduceLROnPlateau"
)
# Not RecordVideo, which writes files, HumanRendering, which opens a window, or what takes functions.
_WRAPPERS = (
    "AtariPreprocessing Autoreset ClipReward DelayObservation DiscretizeObservation DtypeObservation FilterObservation "
    "FlattenObservation FrameStackObservation GrayscaleObservation MaxAndSkipObservation NormalizeObservation "
    "NormalizeReward OrderEnforcing PassiveEnvChecker RecordEpisodeStatistics RepeatAction RescaleObservation "
    "ReshapeObservation ResizeObservation StickyAction TimeAwareObservation TimeLimit"
)
# Gymnasium's other tasks either open files that an argument names (MuJoCo) or import a module by name (GymV26).
_TASK_MODULES = ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text", "gymnasium.envs.box2d", *_OWN_ROOMS)


def _listed(module: types.ModuleType, names: str) -> Iterator[tuple[str, type[Any]]]:
    """Yield each class under the name that a config gives it and under that of the module that defines it."""
    for name in names.split():
        if (cls := getattr(module, name, None)) is not None:  # older versions lack some
            yield f"{module.__name__}.{name}", cls
            yield f"{cls.__module__}.{cls.__qualname__}", cls


_LISTED: dict[str, type[Any]] = {
    **dict(_listed(nn, _LAYERS)),
    **dict(_listed(torch.optim, _OPTIMIZERS)),
    **dict(_listed(torch.optim.lr_scheduler, _SCHEDULERS)),
    **dict(_listed(gym.wrappers, _WRAPPERS)),
}


class Trust:
    """The names that files may turn into objects.

    Args:
        allow: Modules whose classes and functions a file may name, like ``["my_networks"]``, or a single one; a
            package stands for all its modules.
        names: Single classes and functions, by their full names, that the user's own config gave.

    Raises:
        ConfigurationError: If an entry of ``allow`` isn't a module's name.
    """

    def __init__(self, allow: str | Iterable[str] = (), names: Iterable[str] = ()) -> None:
        self.allow = (allow,) if isinstance(allow, str) else tuple(allow)
        self.names = frozenset(names)
        for module in self.allow:
            if not (isinstance(module, str) and _is_dotted(module)):
                raise ConfigurationError(f"allow is {module!r}; it must be a module's name, like my_package.networks")

    def find(self, name: object, where: str) -> Callable[..., Any]:
        """Return the class or function that a file names.

        Args:
            name: The full name, like ``torch.nn.Linear``.
            where: What names it, for the error.

        Raises:
            ConfigurationError: If files may not name it, or it can't be imported.
        """
        if isinstance(name, str) and name in _LISTED:
            return _LISTED[name]
        if not isinstance(name, str) or not (self._is_trusted(name) or name in self.names):
            raise self._refusal(name, where)
        try:
            found = pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"{where} needs {name}, which can't be imported: {error}") from error
        if name in self.names:
            return typing.cast(Callable[..., Any], found)
        # `my_module.subprocess.Popen` is found in my_module too, but isn't my_module's.
        is_own = isinstance(found, type) and self._is_trusted(f"{found.__module__}.{found.__qualname__}")
        is_allowed = inspect.isfunction(found) and _is_in(found.__module__, self.allow)
        if not (is_own or is_allowed):
            raise self._refusal(name, where)
        return typing.cast(Callable[..., Any], found)

    def require_task(self, env_id: object, where: str) -> None:
        """Refuse a task that is defined in a module which files may not name, before that module is imported.

        Args:
            env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
            where: What names it, for the error.

        Raises:
            ConfigurationError: If files may not name it.
        """
        if not isinstance(env_id, str):
            raise ConfigurationError(f"{where} names the task {env_id!r}; it must be the id of a task")
        package = env_id.rpartition(":")[0]
        if package and not _is_in(package, (*self.allow, *_OWN_ROOMS, "seqrl_lightning")):
            raise self._refusal(package, where, module=package)
        try:
            spec = gym.spec(env_id)
        except (gym.error.Error, ImportError):
            return  # there is no such task, which is an error of its own
        for entry_point in (spec.entry_point, spec.vector_entry_point):
            if entry_point is None:
                continue
            is_name = isinstance(entry_point, str)
            module = str(entry_point).partition(":")[0] if is_name else getattr(entry_point, "__module__", "")
            if not _is_in(module, (*self.allow, *_TASK_MODULES)):
                raise self._refusal(env_id, where, module)

    def require_names(self, settings: object, where: str) -> None:
        """Refuse settings in which a class path, at any depth, is one that files may not name.

        Args:
            settings: Numbers, texts and collections.
            where: What they come from, for the error.

        Raises:
            ConfigurationError: If there is one.
        """
        if isinstance(settings, Mapping):
            for key, value in settings.items():
                if key in ("class_path", "_class_path"):
                    self.find(value, where)
                self.require_names(value, where)
        elif isinstance(settings, list | tuple):
            for value in settings:
                self.require_names(value, where)
        elif isinstance(settings, str) and "class_path" in settings:  # a parser might take it for a mapping
            raise self._refusal(settings, where)

    def rebuild(self, cls: Callable[..., T], settings: Mapping[str, Any], where: str) -> T:
        """Call a class with the settings that a file holds; what these name is built first.

        No parser reads the settings: a text is a text, but where a function is asked for, and only a mapping with a
        ``class_path`` is built. Where a setting's type is a function that makes something (``Callable[..., Module]``),
        the class is handed over with its ``init_args``, not called.

        Args:
            cls: The class, which the caller has chosen or :meth:`find` has found.
            settings: Its arguments: numbers, texts and collections, as a checkpoint holds them.
            where: What they come from, for the error.

        Raises:
            ConfigurationError: If files may not name one of the classes, or one isn't of the kind that is asked for.
        """
        return cls(**self._arguments(cls, settings, where))

    def _arguments(self, cls: Callable[..., Any], settings: object, where: str) -> dict[str, Any]:
        if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
            raise ConfigurationError(f"the settings of {_name(cls)} in {where} are {settings!r}; they must have names")
        return {name: self._value(value, _annotation(cls, name), where) for name, value in settings.items()}

    def _value(self, value: Any, annotation: Any, where: str) -> Any:
        if isinstance(value, Mapping) and "class_path" in value:
            return self._built(value, annotation, where)
        if isinstance(value, Mapping):
            items = _items_annotation(annotation, dict)
            return {key: self._value(item, items, where) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = _items_annotation(annotation, list)
            found = [self._value(item, items, where) for item in value]
            return tuple(found) if isinstance(value, tuple) or _asks_for_tuple(annotation) else found
        alternatives = _alternatives(annotation)
        if isinstance(value, str) and str not in alternatives and any(_is_callable(a) for a in alternatives):
            return self.find(value, where)
        try:
            return _plain(value, annotation)
        except ValueError:
            kinds = " or ".join(kind.__name__ for kind in alternatives)
            raise ConfigurationError(f"{where} holds {value!r} where a setting must be a kind of {kinds}") from None

    def _built(self, spec: Mapping[str, Any], annotation: Any, where: str) -> Any:
        """Build what a mapping with a ``class_path`` stands for: an object, or a function that makes it."""
        if not set(spec) <= {"class_path", "init_args", "dict_kwargs"}:
            raise ConfigurationError(f"{where} names a class by {sorted(spec)}; it must be by class_path and init_args")
        cls = self.find(spec["class_path"], where)
        settings = {**(spec.get("init_args") or {}), **(spec.get("dict_kwargs") or {})}
        makers, bases = [], []
        for alternative in _alternatives(annotation):
            if _is_callable(alternative):
                makers.extend(_returned(alternative))
            elif isinstance(alternative, type):
                bases.append(alternative)
        if any(_is_kind(cls, base) for base in makers):
            return functools.partial(cls, **self._arguments(cls, settings, where))
        fits = any(_is_kind(cls, base) for base in bases) or _is_callable_class(cls, annotation)
        if (makers or bases) and not fits:
            kinds = " or ".join(base.__name__ for base in (*makers, *bases) if base is not type(None))
            raise ConfigurationError(f"{where} names {spec['class_path']!r}; it must be a kind of {kinds} there")
        return self.rebuild(cls, settings, where)

    def _is_trusted(self, name: str) -> bool:
        return _is_dotted(name) and _is_in(name.rpartition(".")[0], (*self.allow, *_OWN_ROOMS))

    def _refusal(self, name: object, where: str, module: str | None = None) -> ConfigurationError:
        if module is None:
            module = name.rpartition(".")[0] if isinstance(name, str) else ""
        module = module or "my_module"
        return ConfigurationError(
            f"{where} names {name!r}; a file from somebody else may only name this package's classes and a list of "
            f"torch's and Gymnasium's. If you trust it: --allow {module}, or load_policy(..., allow=[{module!r}]), or "
            "the run's own --config"
        )


def add_allow(parser: "ArgumentParser") -> None:
    """Add ``--allow`` to a command that reads what somebody else may have written."""
    parser.add_argument(
        "--allow",
        type=str | list[str],
        default=[],
        metavar="MODULE",
        help="A module that the files may name, like my_tasks, or several: '[my_tasks, my_networks]'.",
    )


def settings_of(hyper_parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's settings without the notes that Lightning keeps among them."""
    return {name: value for name, value in hyper_parameters.items() if name not in ("_instantiator", "_class_path")}


def class_paths(settings: object) -> Iterator[str]:
    """Yield the class paths in settings, at any depth."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == "class_path" and isinstance(value, str):
                yield value
            yield from class_paths(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from class_paths(value)


# Types of settings


def _annotation(cls: Callable[..., Any], name: str) -> Any:
    """Return the type of a class's argument, also where ``**kwargs`` hand it on to a parent; else ``Any``."""
    owners = cls.__mro__ if isinstance(cls, type) else (cls,)
    for owner in owners:
        function = vars(owner).get("__init__") if isinstance(owner, type) else owner
        if function is None or name not in getattr(function, "__annotations__", ()):
            continue
        try:
            return typing.get_type_hints(function).get(name, Any)
        except (NameError, TypeError):  # a type that is only imported for type checkers
            return Any
    return Any


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _is_callable(annotation: Any) -> bool:
    return annotation is Callable or typing.get_origin(annotation) is Callable or typing.get_origin(annotation) is type


def _returned(annotation: Any) -> list[type]:
    """Return the classes that a function of this type makes."""
    arguments = typing.get_args(annotation)
    found = [typing.get_origin(a) or a for a in _alternatives(arguments[-1])] if arguments else []
    return [a for a in found if isinstance(a, type)]


def _is_kind(cls: Callable[..., Any], base: type) -> bool:
    returned = cls if isinstance(cls, type) else typing.get_type_hints(cls).get("return")
    return isinstance(returned, type) and base is not type(None) and issubclass(returned, base)


def _is_callable_class(cls: Callable[..., Any], annotation: Any) -> bool:
    """Return whether instances of a class are themselves functions, where one is asked for."""
    asks = any(_is_callable(alternative) for alternative in _alternatives(annotation))
    return asks and isinstance(cls, type) and any("__call__" in vars(owner) for owner in cls.__mro__)


def _items_annotation(annotation: Any, kind: type) -> Any:
    """Return the type of a collection's items; ``Any`` where it isn't told."""
    for alternative in _alternatives(annotation):
        origin, arguments = typing.get_origin(alternative), typing.get_args(alternative)
        if isinstance(origin, type) and arguments:
            if kind is dict and issubclass(origin, Mapping):
                return arguments[-1]
            if kind is list and issubclass(origin, Sequence):
                return arguments[0]
    return Any


def _asks_for_tuple(annotation: Any) -> bool:
    return any((typing.get_origin(a) or a) is tuple for a in _alternatives(annotation))


def _plain(value: Any, annotation: Any) -> Any:
    """Return a number or text as a class's argument: a text becomes the path or the Enum's member that it stands for.

    Raises:
        ValueError: If it is a text, and only objects are asked for.
    """
    kinds = [kind for kind in _alternatives(annotation) if isinstance(kind, type)]
    if not isinstance(value, str) or str in kinds:
        return value
    for kind in kinds:
        if issubclass(kind, Enum) and value in kind.__members__:
            return kind[value]
        if issubclass(kind, os.PathLike):
            return Path(value)
    if kinds and len(kinds) == len(_alternatives(annotation)) and Any not in kinds and object not in kinds:
        raise ValueError(value)
    return value


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_in(module: str, modules: Iterable[str]) -> bool:
    return any(module == other or module.startswith(f"{other}.") for other in modules)


def _name(cls: Callable[..., Any]) -> str:
    return getattr(cls, "__name__", repr(cls))
