"""Every network that the package exports, small and with something to read: a new one is tried without being listed."""

import functools
from inspect import isclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning import networks
from seqrl_lightning.networks import GRU, LSTM, Network
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import State

OUT, T, B = (3,), 13, 4
NETWORKS: dict[str, type[Network]] = {
    name: exported
    for name, exported in sorted(vars(networks).items())
    if name in networks.__all__ and isclass(exported) and issubclass(exported, Network) and exported is not Network
}
_SHAPES: dict[str, tuple[int, ...]] = {  # what networks, or cases of them, read that don't read vectors
    "Composed": PackedShape({"numbers": ("float32", (4,)), "flags": ("uint8", (3,))}),
    "ImpalaResNet": (3, 16, 16),
    "NatureCNN": (3, 36, 36),
    "SmallCNN": (3, 8, 8),
    "Composed of a picture": (5, 5),
}
_SMALL: dict[str, dict[str, Any]] = {  # settings with which the tests are quick, in place of the defaults
    "DeltaNet": {"hidden_size": 8},
    "FFM": {"hidden_size": 8, "memory_size": 3, "context_size": 2},
    "FrameStack": {"length": 4, "hidden_sizes": (8,)},
    "GRU": {"hidden_size": 8},
    "LRU": {"hidden_size": 8, "chrono_init": 20, "max_phase": 1.0},
    "LSTM": {"hidden_size": 8},
    "MinGRU": {"hidden_size": 8},
    "RNN": {"hidden_size": 8},
    "Transformer": {"hidden_size": 8, "num_heads": 2, "context_length": T},
}
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "Composed that remembers": ("Composed", {"network": functools.partial(GRU, hidden_size=8)}),
    "Composed of a picture": ("Composed", {"network": functools.partial(LSTM, hidden_size=8)}),
    "FrameStack of the whole": ("FrameStack", {"length": T, "hidden_sizes": (8,)}),
    "GRU of three layers": ("GRU", {"hidden_size": 8, "num_layers": 3, "chrono_init": 20}),
    "GRU with encoder": ("GRU", {"hidden_size": 8, "encoder_size": 16, "chrono_init": 20}),
    "LSTM of three layers": ("LSTM", {"hidden_size": 8, "num_layers": 3, "chrono_init": 20}),
    "LSTM with encoder": ("LSTM", {"hidden_size": 8, "encoder_size": 16, "chrono_init": 20}),
    "MinGRU of three layers": ("MinGRU", {"hidden_size": 8, "num_layers": 3, "chrono_init": 20}),
    "RNN of three layers": ("RNN", {"hidden_size": 8, "encoder_size": 16, "num_layers": 3}),
    "Transformer of three layers": (
        "Transformer",
        {"hidden_size": 8, "num_heads": 2, "num_layers": 3, "context_length": 2},
    ),
    "Transformer with a short window": ("Transformer", {"hidden_size": 8, "num_heads": 2, "context_length": 3}),
}
CASES: dict[str, tuple[type[Network], dict[str, Any]]] = {
    **{name: (network, _SMALL.get(name, {})) for name, network in NETWORKS.items()},
    **{name: (NETWORKS[network], settings) for name, (network, settings) in _VARIANTS.items()},
}


def build(case: str) -> tuple[Network, Tensor]:
    """A network, and observations that it reads, [T, B, *obs]."""
    torch.manual_seed(0)
    network, settings = CASES[case]
    shape = shape_of(case)
    net = network(shape, OUT, **settings).eval()
    for name, parameter in net.named_parameters():
        if "distance_bias" in name:  # it is zero at first
            torch.nn.init.normal_(parameter)
    return net, observations(shape)


def shape_of(case: str) -> tuple[int, ...]:
    """The shape of one observation of a case."""
    return _SHAPES.get(case) or shape_read_by(CASES[case][0].__name__)


def shape_read_by(network: str) -> tuple[int, ...]:
    """The shape of one observation that a network reads."""
    return _SHAPES.get(network, (2, 2))


def observations(shape: tuple[int, ...]) -> Tensor:
    """Random observations, [T, B, *shape]: floats, or packed parts."""
    if not isinstance(shape, PackedShape):
        return torch.randn(T, B, *shape)
    rng = np.random.default_rng(0)
    return torch.from_numpy(
        shape.pack({"numbers": rng.normal(size=(T, B, 4)), "flags": rng.integers(2, size=(T, B, 3))})
    )


def remembers(case: str) -> bool:
    """Whether a network carries a state from step to step."""
    net, observation = build(case)
    return net(observation)[1] is not None


def starts() -> Tensor:
    """Episodes start at different times in each column; in the last column none does."""
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = is_first[5, 0] = is_first[6, 1] = is_first[7, 1] = is_first[5, 2] = is_first[T - 1, 2] = True
    return is_first


def some_state(net: Network, observation: Tensor) -> State:
    """A state that says something, as it is after some steps; None for a network that carries none."""
    state: State = net(observation[-6:].flip(0))[1]
    return None if state is None else state.detach()
