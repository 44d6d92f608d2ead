"""The table of tabular Q-learning, as a network."""

import functools
import math

from torch import Tensor, nn

from seqrl_lightning.networks.heads import LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State


class Table(Network):
    """A Q-value for each state and action, all equal at first: a linear layer on the one-hot state.

    See Sutton and Barto, chapter 6. With SGD on half the squared TD error, at learning rate alpha, its update is
    ``Q(s, a) += alpha * (r + gamma * max_a' Q(s', a') - Q(s, a))``.

    Args:
        obs_shape: Shape of one observation: a one-hot vector of the states. A run whose observations have other entries
            than 0 and 1 is refused.
        out_shape: Shape of the table's entries for one state.
        initial_value: The initial value of all entries. If it is higher than any return, a greedy agent tries every
            action (optimistic initial values; Sutton and Barto, section 2.6).
    """

    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...], initial_value: float = 0.0) -> None:
        head = functools.partial(LinearHead, linear=functools.partial(nn.Linear, bias=False))
        super().__init__(math.prod(obs_shape), out_shape, head)
        nn.init.constant_(self.table.weight, initial_value)

    @property
    def table(self) -> nn.Linear:
        """The table: its ``weight`` is ``[prod(out_shape), n_states]``."""
        assert isinstance(self.head.output, nn.Linear)
        return self.head.output

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The one-hot states themselves. ``[T, B, *obs] -> [T, B, n_states]``; the state is passed through."""
        return observation.flatten(2).to(self.dtype), state
