"""The table of tabular Q-learning, as a network like any other."""

import functools
import math

from torch import Tensor, nn

from seqrl_lightning.networks.heads import LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State


class Table(Network):
    """One Q-value for each state and action, all the same at first: a linear layer on the one-hot state.

    Sutton and Barto, chapter 6. Under SGD at learning rate alpha on half the squared TD error its update is
    ``Q(s, a) += alpha * (r + gamma * max_a' Q(s', a') - Q(s, a))``.

    Args:
        obs_shape: Shape of one observation: a one-hot vector of the states.
        out_shape: Shape of what the table holds for one state.
        initial_value: Every value at first. Above what can be earned, it makes a greedy agent try every action
            (optimistic initial values; Sutton and Barto, section 2.6).
    """

    def __init__(self, obs_shape: tuple[int, ...], out_shape: tuple[int, ...], initial_value: float = 0.0) -> None:
        head = functools.partial(LinearHead, linear=functools.partial(nn.Linear, bias=False))
        super().__init__(math.prod(obs_shape), out_shape, head)
        nn.init.constant_(self.table.weight, initial_value)

    @property
    def table(self) -> nn.Linear:
        """The table: its ``weight`` is ``[prod(out_shape), n_states]``."""
        return self.head.output  # type: ignore[return-value]

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The one-hot states themselves. ``[T, B, *obs] -> [T, B, n_states]``; the state is handed through."""
        return observation.flatten(2).to(self.dtype), state
