"""seqrl/SequenceDistractor-v0: pick the objects in their order among distractors; an error costs and sets back."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.ordered import OrderedEnv, OrderedVectorEnv
from seqrl_lightning.types import BoolArray, FloatArray, require


class SequenceDistractorEnv(OrderedEnv):
    """A sequence of n objects to be picked one after the other, among distractors that are never right.

    - Observation: the position, one-hot ``[n + 1] float32``: how far the sequence stands (0: nothing done).
    - Action k picks object k; the distractors' actions come after the objects' (``Discrete(n + distractors)``).
    - The right next object: reward 1, one position on. Any other: reward -1, one position back (not below 0).
    - The episode terminates when the sequence is complete, and is truncated after ``max_errors`` wrong picks.
    - Optimal return: n.

    Args:
        objects: The n objects, a letter each, in the order of their actions.
        distractors: The distractors, a letter each.
        blocks: Which order holds for how many episodes; see :class:`seqrl_lightning.envs.blocks.BlockSchedule`.
        max_errors: Wrong picks after which an episode is truncated.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If blocks or distractors don't fit the objects, or ``max_errors`` isn't positive.
    """

    _state_names = (*OrderedEnv._state_names, "_errors")

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Sequence[BlockSpec] | None = None,
        max_errors: int = 10,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(objects, distractors, blocks, 0, len(objects) + 1, render_mode)
        require(max_errors > 0, "data.env_kwargs.max_errors", max_errors, "at least 1")
        self.max_errors = max_errors
        self._errors = 0

    def _start(self) -> None:
        self._errors = 0

    def _pick(self, is_right: bool) -> tuple[float, bool, bool]:
        if is_right:
            self.position += 1
            return 1.0, self._correct_action() == -1, False
        self._errors += 1
        self.position = max(self.position - 1, 0)
        return -1.0, False, self._errors >= self.max_errors


class SequenceDistractorVectorEnv(OrderedVectorEnv):
    """The vectorised twin of :class:`SequenceDistractorEnv`, with the same arguments."""

    _state_names = (*OrderedVectorEnv._state_names, "_errors")

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Sequence[BlockSpec] | None = None,
        max_errors: int = 10,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(num_envs, objects, distractors, blocks, 0, len(objects) + 1, render_mode)
        require(max_errors > 0, "data.env_kwargs.max_errors", max_errors, "at least 1")
        self.max_errors = max_errors
        self._errors = np.zeros(num_envs, np.int64)

    def _start(self, envs: BoolArray) -> None:
        self._errors[envs] = 0

    def _pick(self, is_right: BoolArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        step = np.where(is_right, 1, -1)
        self._errors += ~is_right
        self.position += step
        np.maximum(self.position, 0, out=self.position)
        terminated = self.position == self._correct.shape[1] - 1
        return step.astype(np.float64), terminated, ~is_right & (self._errors >= self.max_errors)
