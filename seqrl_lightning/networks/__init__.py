"""Torch modules, all with one contract.

``forward(observation, state) -> (outputs, state)`` with observations ``[T, B, *obs]`` and, for most, Q-values
``[T, B, n_actions]`` as outputs. ``state`` is what the network carries from one call to the next: ``None`` at the
start, handed through by networks that carry nothing. Built as ``Network(obs_shape, n_actions, **settings)``.
"""

from collections.abc import Callable

from torch import nn

from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.networks.table import Table

NetworkCallable = Callable[[tuple[int, ...], int], nn.Module]

__all__ = ["MLP", "NetworkCallable", "Table"]
