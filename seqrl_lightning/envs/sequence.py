"""seqrl/Sequence-v0: pick the objects in their order, without distractors or a way back."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.ordered import OrderedEnv, OrderedVectorEnv
from seqrl_lightning.types import BoolArray, FloatArray, require


class SequenceEnv(OrderedEnv):
    """A sequence of n objects, the first of them given; the others are to be picked one after the other.

    - Observation: the position, one-hot ``[n] float32``: how many objects have been picked rightly so far.
    - Action k picks object k (``Discrete(n)``), wherever it stands in the sequence of the block.
    - The right next object: reward 1, one position on. A wrong one: reward 0, the position stays.
    - The episode terminates when the sequence is complete, and is truncated after ``max_trials`` picks.
    - Optimal return: n - 1.

    Args:
        objects: The n objects, a letter each, in the order of their actions.
        blocks: Which order holds for how many episodes; see :class:`seqrl_lightning.envs.blocks.BlockSchedule`.
        max_trials: Picks after which an episode is truncated.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If the blocks don't fit the objects, or ``max_trials`` isn't positive.
    """

    _state_names = (*OrderedEnv._state_names, "_trials")

    def __init__(
        self,
        objects: str = "ABCDEFGHIJ",
        blocks: Sequence[BlockSpec] | None = None,
        max_trials: int = 20,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(objects, "", blocks, 1, len(objects), 0, render_mode)
        require(max_trials > 0, "data.env_kwargs.max_trials", max_trials, "at least 1")
        self.max_trials = max_trials
        self._trials = 0

    def _start(self) -> None:
        self._trials = 0

    def _pick(self, is_right: bool) -> tuple[float, bool, bool]:
        self._trials += 1
        self.position += is_right
        terminated = self._correct_action() == -1
        return float(is_right), terminated, not terminated and self._trials >= self.max_trials


class SequenceVectorEnv(OrderedVectorEnv):
    """The vectorised twin of :class:`SequenceEnv`, with the same arguments."""

    _state_names = (*OrderedVectorEnv._state_names, "_trials")

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDEFGHIJ",
        blocks: Sequence[BlockSpec] | None = None,
        max_trials: int = 20,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(num_envs, objects, "", blocks, 1, len(objects), 0, render_mode)
        require(max_trials > 0, "data.env_kwargs.max_trials", max_trials, "at least 1")
        self.max_trials = max_trials
        self._trials = np.zeros(num_envs, np.int64)

    def _start(self, envs: BoolArray) -> None:
        self._trials[envs] = 0

    def _pick(self, is_right: BoolArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        self._trials += 1
        self.position += is_right
        terminated = self.position == self._correct.shape[1] - 1
        return is_right.astype(np.float64), terminated, ~terminated & (self._trials >= self.max_trials)
