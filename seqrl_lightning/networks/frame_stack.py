"""A stack of the last observations: memory without recurrence."""

import math

from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearCallable, LinearHead
from seqrl_lightning.networks.history import with_history
from seqrl_lightning.networks.mlp import MLP
from seqrl_lightning.types import State, require


class FrameStack(MLP):
    """An MLP on the last observations of the episode; those before its start are zero.

    The state is ``[length - 1, B, obs_size + 1]``: observations, and in the last column a mark of those that belong to
    the current episode.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        length: Number of observations in the stack, including the current one.
        hidden_sizes: Units of each hidden layer.
        head: Builds the head.
        linear: Builds the hidden layers.
        layer_norm: Whether each hidden layer is normalized before its ReLU.

    Raises:
        ConfigurationError: If ``length`` is less than 2, or a hidden layer has no units.
    """

    remembers = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        length: int = 4,
        hidden_sizes: tuple[int, ...] = (128, 128),
        head: HeadCallable = LinearHead,
        linear: LinearCallable = nn.Linear,
        layer_norm: bool = False,
    ) -> None:
        require(length >= 2, "model.network.length", length, "at least 2")
        super().__init__((length, math.prod(obs_shape)), out_shape, hidden_sizes, head, linear, layer_norm)
        self.length = length

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, feature_size]``."""
        inputs = observation.flatten(2).to(self.dtype)
        rows, _, episode, next_state = with_history(inputs, state, is_first, self.length - 1)
        stacks = rows.unfold(0, self.length, 1).transpose(2, 3)  # [T, B, length, obs_size], the current one last
        episodes = episode.unfold(0, self.length, 1)
        is_seen = episodes == episodes[..., -1:]
        return super().torso(stacks * is_seen.unsqueeze(-1))[0], next_state
