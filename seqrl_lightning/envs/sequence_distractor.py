"""seqrl/SequenceDistractor-v0: pick the objects in their order among distractors; an error costs and sets back."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.ordered import OrderedEnv, OrderedVectorEnv
from seqrl_lightning.types import BoolArray, FloatArray, require

Backtrack = Literal["none", "first", "every"]
_BACKTRACKS = ("none", "first", "every")


class SequenceDistractorEnv(OrderedEnv):
    """A sequence of n objects to be picked one after the other, among distractors that are never right.

    - Observation: the position, one-hot ``[n + 1] float32``: how far the sequence stands (0: nothing done). With
      ``backtrack: first`` the last pick's outcome follows (right, wrong; both 0 at an episode's start): ``[n + 3]``.
    - Action k picks object k; the distractors' actions come after the objects' (``Discrete(n + distractors)``).
    - The right next object: reward 1, one position on. Any other: reward -1, and
      ``every``: one position back (not below 0);
      ``first``: one position back (not below 0) if the pick before was not an error too, so that the last right object
      must be picked again first (the rule of the laboratory task with monkeys);
      ``none``: the position stays.
    - The episode terminates when the sequence is complete, and is truncated after ``max_errors`` wrong picks.
    - Optimal return: n.

    Args:
        objects: The n objects, a letter each, in the order of their actions.
        distractors: The distractors, a letter each.
        blocks: Which order holds for how many episodes; see :class:`seqrl_lightning.envs.blocks.BlockSchedule`.
        max_errors: Wrong picks after which an episode is truncated.
        backtrack: Which errors step back.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If blocks or distractors don't fit the objects, ``max_errors`` isn't positive, or there is
            no such ``backtrack``.
    """

    _state_names = (*OrderedEnv._state_names, "_errors", "_has_erred")

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Sequence[BlockSpec] | None = None,
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        _check(max_errors, backtrack)
        num_extras = 2 if backtrack == "first" else 0
        super().__init__(objects, distractors, blocks, 0, len(objects) + 1, num_extras, render_mode)
        self.max_errors = max_errors
        self.backtrack = backtrack
        self._errors = 0
        self._has_erred = False  # in the last pick

    def _start(self) -> None:
        self._errors = 0
        self._has_erred = False

    def _pick(self, is_right: bool) -> tuple[float, bool, bool]:
        had_erred, self._has_erred = self._has_erred, not is_right
        if is_right:
            self.position += 1
            return 1.0, self._correct_action() == -1, False
        self._errors += 1
        if self.backtrack == "every" or (self.backtrack == "first" and not had_erred):
            self.position = max(self.position - 1, 0)
        return -1.0, False, self._errors >= self.max_errors

    def _observation(self) -> FloatArray:
        observation = super()._observation()
        if self.backtrack == "first" and self._last_pick >= 0:
            observation[-1 if self._has_erred else -2] = 1.0
        return observation

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """The position and, with ``backtrack: first``, the last pick's outcome."""
        outcome = {(1, 0): ", the last pick was right", (0, 1): ", the last pick was wrong"}
        right_and_wrong = tuple(observation[self.num_positions : self._size])
        return super().in_words(observation, letters) + outcome.get(right_and_wrong, "")


class SequenceDistractorVectorEnv(OrderedVectorEnv):
    """The vectorised twin of :class:`SequenceDistractorEnv`, with the same arguments."""

    _state_names = (*OrderedVectorEnv._state_names, "_errors", "_has_erred")

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Sequence[BlockSpec] | None = None,
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        _check(max_errors, backtrack)
        num_extras = 2 if backtrack == "first" else 0
        super().__init__(num_envs, objects, distractors, blocks, 0, len(objects) + 1, num_extras, render_mode)
        self.max_errors = max_errors
        self.backtrack = backtrack
        self._errors = np.zeros(num_envs, np.int64)
        self._has_erred = np.zeros(num_envs, np.bool_)

    def _start(self, envs: BoolArray) -> None:
        self._errors[envs] = 0
        self._has_erred[envs] = False

    def _pick(self, is_right: BoolArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        is_wrong = ~is_right
        if self.backtrack != "none":
            self.position -= is_wrong if self.backtrack == "every" else is_wrong & ~self._has_erred
        self.position += is_right
        self._has_erred = is_wrong
        self._errors += is_wrong
        np.maximum(self.position, 0, out=self.position)
        terminated = self.position == self._correct.shape[1] - 1
        return np.where(is_right, 1.0, -1.0), terminated, is_wrong & (self._errors >= self.max_errors)

    def _observations(self) -> FloatArray:
        observations = super()._observations()
        if self.backtrack == "first":
            has_picked = self._last_pick >= 0
            observations[:, -2] = has_picked & ~self._has_erred
            observations[:, -1] = has_picked & self._has_erred
        return observations


def _check(max_errors: int, backtrack: str) -> None:
    require(max_errors > 0, "data.env_kwargs.max_errors", max_errors, "at least 1")
    require(backtrack in _BACKTRACKS, "data.env_kwargs.backtrack", backtrack, f"one of {_BACKTRACKS}")
