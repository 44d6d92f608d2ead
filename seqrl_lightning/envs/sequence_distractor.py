"""seqrl/SequenceDistractor-v0: pick the objects in their order among distractors; an error may move you back."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.ordered import OrderedEnv
from seqrl_lightning.envs.rule import Rule
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import FloatArray, require

Backtrack = Literal["none", "first", "every"]
_BACKTRACKS = ("none", "first", "every")


class SequenceDistractorEnv(OrderedEnv):
    """Pick n objects one after the other in their order, among distractors that are never right.

    - Observation: the position, which is the number of objects in place so far, one-hot ``[n + 1] float32``.
      With ``backtrack: first`` the outcome of the last pick follows (right, wrong; both 0 at an episode's start), which
      makes ``[n + 3]``.
    - Actions: ``Discrete(n + distractors)``. Action k picks object k; the distractors come after the objects.
    - Rewards: 1 for the next object of the order, -1 for anything else.
    - Transitions: the next object advances the position by one. What an error does depends on ``backtrack``:
      ``every``: it moves the position back by one, but not below 0;
      ``first``: it does so unless the pick before was an error too. The last right object must then be picked again
      before the sequence continues (the rule of the laboratory task with monkeys);
      ``none``: the position stays.
    - Episode end: the episode terminates when the sequence is complete. It is truncated after ``max_errors`` errors.
    - Optimal return: n.

    Args:
        objects: The n objects, one letter each, in the order of their actions.
        distractors: The distractors, one letter each.
        blocks: The order of each block and its number of episodes; see
            :class:`seqrl_lightning.envs.blocks.BlockSchedule`.
        max_errors: Number of errors after which an episode is truncated.
        backtrack: The errors that move the position back: ``every``, ``first`` or ``none``.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If blocks or distractors don't fit the objects, ``max_errors`` isn't positive, or there is
            no such ``backtrack``.
    """

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Sequence[BlockSpec] | None = None,
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        require(max_errors > 0, "data.env_kwargs.max_errors", max_errors, "at least 1")
        require_known("data.env_kwargs.backtrack", backtrack, _BACKTRACKS)
        self.max_errors = max_errors
        self.backtrack = backtrack
        n = len(objects)
        # State 0 is the start, state p in 1 to n - 1 is position p after a right pick, state n + p is position p after
        # an error, and state 2n is the complete sequence.
        position, has_erred = np.tile(np.arange(n), 2), np.repeat([False, True], n)
        always = np.ones_like(has_erred)
        moves_back = {"none": ~always, "first": ~has_erred, "every": always}[backtrack]
        rule = Rule(
            after_wrong=n + np.maximum(position - moves_back, 0),
            after_right=np.where(position + 1 < n, position + 1, 2 * n),
            reward_wrong=-1.0,
            reward_right=1.0,
            limit=max_errors,
            limit_on="errors",
        )
        outcome = np.zeros((2 * n + 1, 2), np.float32)
        outcome[1:n, 0] = outcome[2 * n, 0] = outcome[n : 2 * n, 1] = 1.0
        extras = outcome if backtrack == "first" else None
        super().__init__(objects, distractors, blocks, 0, rule, np.append(position, n), extras, render_mode)

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """Describe the position and, with ``backtrack: first``, the outcome of the last pick."""
        words = super().in_words(observation, letters)
        if self.backtrack != "first":
            return words
        outcome = {(1, 0): ", the last pick was right", (0, 1): ", the last pick was wrong"}
        return words + outcome.get(tuple(observation[self.num_positions : self.num_positions + 2]), "")


SequenceDistractorVectorEnv = vectorized(SequenceDistractorEnv)
