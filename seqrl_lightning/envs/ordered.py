"""Base class of the tasks about an order of objects that may change from block to block."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.blocks import BlockSchedule, BlockSpec
from seqrl_lightning.envs.rule import Rule, Script
from seqrl_lightning.envs.task import Board, TaskEnv
from seqrl_lightning.types import FloatArray, IntArray, Order, require


class OrderedEnv(TaskEnv):
    """A task in which objects are to be picked in an order, which the block decides.

    Observations begin with the position, the number of objects in place so far, one-hot.

    Args:
        objects: The objects of the sequence, one letter each, in the order of their actions.
        distractors: Objects that are never right, one letter each. Their actions follow those of the objects.
        blocks: See :class:`~seqrl_lightning.envs.blocks.BlockSchedule`.
        num_given: Number of objects of the sequence that are given at an episode's start.
        rule: The rule of the task.
        positions: ``[S] int64``, the position in each state of the rule; the last state has the last position.
        extras: ``[S, E] float32``, what an observation shows in each state after the position.
        render_mode: ``ansi``, ``rgb_array`` or None.

    Attributes:
        num_objects: Number of objects; the actions from there on are distractors.
        schedule: The order of each block, and the number of episodes that it holds.

    Raises:
        ConfigurationError: If the blocks or the distractors don't fit the objects.
    """

    draws_scripts = False
    num_positions: int

    def __init__(
        self,
        objects: str,
        distractors: str,
        blocks: Sequence[BlockSpec] | None,
        num_given: int,
        rule: Rule,
        positions: IntArray,
        extras: FloatArray | None,
        render_mode: str | None,
    ) -> None:
        self.schedule = BlockSchedule(blocks, objects)
        require(
            not set(objects) & set(distractors) and len(set(distractors)) == len(distractors),
            "data.env_kwargs.distractors",
            distractors,
            f"letters that are not among the objects {objects}, each of them once",
        )
        self.num_objects = len(objects)
        self._num_given = num_given
        self._positions = positions
        self.num_positions = int(positions[-1]) + 1
        self.num_states = self.num_positions if extras is None else None
        one_hot = np.eye(self.num_positions, dtype=np.float32)[positions]
        self._shown_in_state: FloatArray = one_hot if extras is None else np.hstack([one_hot, extras])
        self.optimal_return = float(self.num_objects - num_given)
        super().__init__(objects + distractors, rule, render_mode)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.schedule)

    @property
    def order_by_block(self) -> Order | None:
        """The objects in the order of each block; None if the block alone does not decide an order."""
        return Order(self.schedule.sequences, self._num_given, self.letters)

    def block_of(self, finished_episodes: IntArray | int) -> IntArray:
        """Return the block of the episode that follows this many finished ones, elementwise."""
        return self.schedule.block_of(finished_episodes)

    def script(self, block: int, rng: np.random.Generator) -> Script:
        """Return the script of a block: the position is shown, and the next object of its order is right."""
        return self.script_of(self.schedule.sequences[block])

    def script_of(self, order: IntArray) -> Script:
        """Return the script in which the objects are right in this order, ``[n] int64``."""
        correct = np.append(order[self._num_given :], -1)[self._positions]
        return Script(self._shown_in_state, correct)

    def order_name(self, script: Script, block: int) -> str:
        """Return the current order of the objects, as letters."""
        return self.schedule.names[block]

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """Describe the position, like ``[x][x][ ][ ][ ] 2 of 5``."""
        num_done = int(observation[: self.num_positions].argmax()) + self._num_given
        return f"{'[x]' * num_done}{'[ ]' * (self.num_objects - num_done)} {num_done} of {self.num_objects}"

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the objects in their order, filled up to the position."""
        num_done = int(self._positions[state]) + self._num_given
        return Board(self.order_name(script, block), num_done, None if pick < 0 else self.letters[pick])
