"""seqrl/BlockSwitch-v0: SequenceDistractor with an order that changes after each block, without notice."""

from seqrl_lightning.envs.sequence_distractor import Backtrack, SequenceDistractorEnv
from seqrl_lightning.envs.symbols import check_count
from seqrl_lightning.envs.vector import vectorized


class BlockSwitchEnv(SequenceDistractorEnv):
    """Pick objects in an order that changes after each block of episodes, uncued (the laboratory task with monkeys).

    - Observation, actions, rewards, transitions and episode end: as in :class:`SequenceDistractorEnv`, with
      ``backtrack: first`` by default.
    - Blocks: after every ``episodes_per_block`` episodes, ``switch`` changes the order. Either two positions are
      swapped (ABCDE, ADCBE, ABCDE, ...) or the whole order is reversed (ABCDE, EDCBA, ABCDE, ...). No observation
      shows the block.
    - Optimal return: n in each episode, once the order is relearned.

    Args:
        objects: The n objects, one letter each, in the order of their actions and of the first block.
        distractors: The distractors, one letter each.
        switch: ``swap_I_J``, for two positions counted from 1, or ``reversed``.
        episodes_per_block: Number of episodes in a block (the laboratory calls an episode a trial).
        num_blocks: Number of blocks; the last one holds until the end of the run.
        max_errors: Number of errors after which an episode is truncated.
        backtrack: The errors that move the position back: ``every``, ``first`` or ``none``.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: As for :class:`SequenceDistractorEnv`, or if ``episodes_per_block`` or ``num_blocks`` isn't
            positive.
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
        check_count("num_blocks", num_blocks)
        check_count("episodes_per_block", episodes_per_block)
        orders = [objects, *[switch] * (num_blocks - 1)]
        blocks = [{"sequence": order, "episodes": episodes_per_block} for order in orders]
        super().__init__(objects, distractors, blocks, max_errors, backtrack, render_mode)


BlockSwitchVectorEnv = vectorized(BlockSwitchEnv)
