"""seqrl/Sequence-v0: pick the objects in their order, without distractors or steps back."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.ordered import OrderedEnv
from seqrl_lightning.envs.rule import Rule
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import require


class SequenceEnv(OrderedEnv):
    """Pick n objects one after the other in their order; the first of them is given.

    - Observation: the position, which is the number of right picks so far, one-hot ``[n] float32``.
    - Actions: ``Discrete(n)``. Action k picks object k, wherever it stands in the order of the block.
    - Rewards: 1 for the next object of the order, 0 for any other object.
    - Transitions: the next object advances the position by one; after any other object the position stays.
    - Episode end: the episode terminates when the sequence is complete. It is truncated after ``max_trials`` picks.
    - Optimal return: n - 1.

    Args:
        objects: The n objects, one letter each, in the order of their actions.
        blocks: The order of each block and its number of episodes; see
            :class:`seqrl_lightning.envs.blocks.BlockSchedule`.
        max_trials: Number of picks after which an episode is truncated.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If the blocks don't fit the objects, or ``max_trials`` isn't positive.
    """

    def __init__(
        self,
        objects: str = "ABCDEFGHIJ",
        blocks: Sequence[BlockSpec] | None = None,
        max_trials: int = 20,
        render_mode: str | None = None,
    ) -> None:
        require(max_trials > 0, "data.env_kwargs.max_trials", max_trials, "at least 1")
        self.max_trials = max_trials
        positions = np.arange(len(objects))  # a state for each
        rule = Rule(
            after_wrong=positions[:-1],
            after_right=positions[1:],
            reward_wrong=0.0,
            reward_right=1.0,
            limit=max_trials,
        )
        super().__init__(objects, "", blocks, 1, rule, positions, None, render_mode)


SequenceVectorEnv = vectorized(SequenceEnv)
