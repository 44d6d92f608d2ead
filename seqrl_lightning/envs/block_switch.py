"""seqrl/BlockSwitch-v0: SequenceDistractor whose order changes after each block, without notice."""

from collections.abc import Sequence

from seqrl_lightning.envs.blocks import BlockSpec
from seqrl_lightning.envs.sequence_distractor import (
    Backtrack,
    SequenceDistractorEnv,
    SequenceDistractorVectorEnv,
)
from seqrl_lightning.envs.symbols import check_count


class BlockSwitchEnv(SequenceDistractorEnv):
    """The laboratory task with monkeys: an order for a block of episodes, and then another, uncued.

    - Observation, actions, rewards and ends: as in :class:`SequenceDistractorEnv`, but ``backtrack: first`` by default.
    - After every ``episodes_per_block`` episodes ``switch`` changes the order: two positions swap (ABCDE, ADCBE, ABCDE,
      ...) or it is reversed (ABCDE, EDCBA, ABCDE, ...). Nothing observed tells it.
    - Optimal return: n an episode, once the order is relearned.

    Args:
        objects: The n objects, a letter each, in the order of their actions and of the first block.
        distractors: The distractors, a letter each.
        switch: ``swap_I_J``, for positions counted from 1, or ``reversed``.
        episodes_per_block: Episodes (trials, in the laboratory's words) in a block.
        num_blocks: How many blocks there are; the last one holds until the end of the run.
        max_errors: Wrong picks after which an episode is truncated.
        backtrack: Which errors step back.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: As for :class:`SequenceDistractorEnv`.
    """

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        switch: str = "swap_2_4",
        episodes_per_block: int = 15,
        num_blocks: int = 4,
        max_errors: int = 10,
        backtrack: Backtrack = "first",
        render_mode: str | None = None,
    ) -> None:
        blocks = _blocks(objects, switch, episodes_per_block, num_blocks)
        super().__init__(objects, distractors, blocks, max_errors, backtrack, render_mode)


class BlockSwitchVectorEnv(SequenceDistractorVectorEnv):
    """The vectorised twin of :class:`BlockSwitchEnv`, with the same arguments."""

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDE",
        distractors: str = "Z",
        switch: str = "swap_2_4",
        episodes_per_block: int = 15,
        num_blocks: int = 4,
        max_errors: int = 10,
        backtrack: Backtrack = "first",
        render_mode: str | None = None,
    ) -> None:
        blocks = _blocks(objects, switch, episodes_per_block, num_blocks)
        super().__init__(num_envs, objects, distractors, blocks, max_errors, backtrack, render_mode)


def _blocks(objects: str, switch: str, episodes_per_block: int, num_blocks: int) -> Sequence[BlockSpec]:
    check_count("num_blocks", num_blocks)
    check_count("episodes_per_block", episodes_per_block)
    return [{"sequence": switch if k else objects, "episodes": episodes_per_block} for k in range(num_blocks)]
