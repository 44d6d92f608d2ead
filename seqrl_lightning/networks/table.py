"""The table of tabular Q-learning, as a network like any other."""

import math

import numpy as np
from torch import Tensor, nn

from seqrl_lightning.networks.numpy_layers import NumPyLayers
from seqrl_lightning.types import Array, FloatArray, State


class Table(nn.Module):
    """One Q-value for each state and action, all zero at first: a linear layer on the one-hot state.

    Sutton and Barto, chapter 6. Under SGD at learning rate alpha on half the squared TD error its update is
    ``Q(s, a) += alpha * (r + gamma * max_a' Q(s', a') - Q(s, a))``.

    Args:
        obs_shape: Shape of one observation: a one-hot vector of the states.
        n_actions: Number of actions.
    """

    def __init__(self, obs_shape: tuple[int, ...], n_actions: int) -> None:
        super().__init__()
        self.table = nn.Linear(math.prod(obs_shape), n_actions, bias=False)
        nn.init.zeros_(self.table.weight)
        self._numpy_layers = NumPyLayers([self.table])

    def forward(self, observation: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Looks the states up. ``[T, B, *obs] -> [T, B, n_actions]``; the state is handed through."""
        one_hot = observation.flatten(2).to(self.table.weight.dtype)
        return self.table(one_hot), state

    def forward_numpy(self, observation: Array) -> FloatArray:
        """What ``forward`` computes, for one step on the CPU in float32. ``[N, *obs] -> [N, n_actions]``."""
        ((weight, _),) = self._numpy_layers()
        return np.asarray(observation, np.float32).reshape(len(observation), -1) @ weight
