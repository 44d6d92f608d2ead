"""What the tasks about an order of objects share: blocks and positions."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.blocks import BlockSchedule, BlockSpec
from seqrl_lightning.envs.task import Board, TaskEnv, TaskVectorEnv
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, Order, require


class OrderedEnv(TaskEnv):
    """One environment in which objects are picked in an order that changes from block to block.

    Subclasses write ``_pick``, the rule, and add what it counts to ``_state_names``. ``info`` holds the ``block`` (its
    number) and the ``correct_action`` (-1 if the sequence is complete). An observation begins with the position,
    one-hot ``[num_positions]``.

    Args:
        objects: The objects of the sequence, a letter each.
        distractors: Objects that are never right, a letter each; their actions come after the objects'.
        blocks: See :class:`BlockSchedule`.
        num_given: How many objects of the sequence are given at an episode's start.
        num_positions: How many positions an observation tells apart.
        num_extras: How many numbers an observation holds after the position; subclasses write them.
        render_mode: ``ansi``, ``rgb_array`` or None.
    """

    _state_names = (*TaskEnv._state_names, "block", "position", "_finished_episodes", "_fixed_block")

    def __init__(
        self,
        objects: str,
        distractors: str,
        blocks: Sequence[BlockSpec] | None,
        num_given: int,
        num_positions: int,
        num_extras: int,
        render_mode: str | None,
    ) -> None:
        self.schedule = _schedule(objects, distractors, blocks)
        self._size = num_positions + num_extras
        self.num_positions = num_positions
        self.num_objects = len(objects)
        self.num_states = None if num_extras else num_positions  # where they are few: the positions
        super().__init__(one_hot_box(self._size), len(objects + distractors), render_mode)
        self.letters = objects + distractors
        self._names = self.schedule.names
        self._num_given = num_given
        # Row k holds the k-th sequence, then -1: no object is right once the sequence is complete.
        self._correct: list[list[int]] = [[*sequence[num_given:], -1] for sequence in self.schedule.sequences.tolist()]
        self._finished_episodes = 0
        self._fixed_block: int | None = None
        self.position = 0

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.schedule)

    @property
    def order_by_block(self) -> Order | None:
        """Which objects are right in which order, by block; None where more than the block decides it."""
        return Order(self.schedule.sequences, self._num_given, self.letters)

    @property
    def optimal_return(self) -> float:
        """The number of objects to pick: an order that is known is done without an error."""
        return float(len(self._correct[0]) - 1)

    @abstractmethod
    def _pick(self, is_right: bool) -> tuple[float, bool, bool]:
        """Changes the position by the rule. Returns the reward, and whether the episode terminated or truncated."""

    def _start(self) -> None:
        """Forgets what the rule counts within an episode."""

    def _row(self) -> int:
        """Which of the sequences holds."""
        return self.block

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seeds the environment and starts the block clock anew.
            options: ``{"block": k}`` plays this episode by block k's rule, outside the block clock.
        """
        if seed is not None:
            self._finished_episodes = 0
        block = (options or {}).get("block")
        self._fixed_block = None if block is None else self.schedule.check_block(block)
        return super().reset(seed=seed, options=options)

    def _begin(self) -> None:
        clock = int(self.schedule.block_of(self._finished_episodes))
        self.block = clock if self._fixed_block is None else self._fixed_block
        self.position = 0
        self._start()

    def _act(self, action: int) -> tuple[float, bool, bool]:
        reward, terminated, truncated = self._pick(action == self._correct_action())
        if (terminated or truncated) and self._fixed_block is None:
            self._finished_episodes += 1
        return reward, terminated, truncated

    def _correct_action(self) -> int:
        return self._correct[self._row()][self.position]

    def _observation(self) -> FloatArray:
        one_hot = np.zeros(self._size, np.float32)
        one_hot[self.position] = 1.0
        return one_hot

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """How far the sequence stands, like ``[x][x][ ][ ][ ] 2 of 5``."""
        num_objects = len(self._names[0])
        num_done = int(observation[: self.num_positions].argmax()) + self._num_given
        return f"{'[x]' * num_done}{'[ ]' * (num_objects - num_done)} {num_done} of {num_objects}"

    def _board(self) -> Board:
        pick = None if self._last_pick < 0 else self.letters[self._last_pick]
        return Board(self._names[self._row()], self.position + self._num_given, pick)


class OrderedVectorEnv(TaskVectorEnv):
    """The vectorised twin of :class:`OrderedEnv`.

    Subclasses write ``_pick``, the rule, over arrays of all environments, and add what it counts to ``_state_names``.
    Arguments as for the single environment.
    """

    _state_names = (*TaskVectorEnv._state_names, "block", "position", "_finished_episodes", "_is_fixed")

    def __init__(
        self,
        num_envs: int,
        objects: str,
        distractors: str,
        blocks: Sequence[BlockSpec] | None,
        num_given: int,
        num_positions: int,
        num_extras: int,
        render_mode: str | None,
    ) -> None:
        self.schedule = _schedule(objects, distractors, blocks)
        observation_space = one_hot_box(num_positions + num_extras)
        super().__init__(num_envs, observation_space, len(objects + distractors), render_mode)
        self.letters = objects + distractors
        self._names = self.schedule.names
        self._num_given = num_given
        # Row k holds the k-th sequence, then -1: no object is right once the sequence is complete.
        complete = np.full((len(self.schedule), 1), -1)
        self._correct = np.concatenate([self.schedule.sequences[:, num_given:], complete], axis=1)
        self._one_hot = np.eye(num_positions, num_positions + num_extras, dtype=np.float32)
        self._finished_episodes = np.zeros(num_envs, np.int64)
        self._is_fixed = np.zeros(num_envs, np.bool_)
        self.position = np.zeros(num_envs, np.int64)

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.schedule)

    @property
    def optimal_return(self) -> float:
        """As for the single environment."""
        return float(self._correct.shape[1] - 1)

    @abstractmethod
    def _pick(self, is_right: BoolArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        """The rule, for all environments: rewards, terminated and truncated, [num_envs] each."""

    def _start(self, envs: BoolArray) -> None:
        """Forgets what the rule counts within an episode, where ``envs`` is true."""

    def _rows(self) -> IntArray:
        """Which of the sequences holds in each environment."""
        return self.block

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode in every environment; ``seed`` and ``options`` as for the single environment."""
        if seed is not None:
            self._finished_episodes[:] = 0
        observations, infos = super().reset(seed=seed, options=options)
        block = (options or {}).get("block")
        if block is None:
            return observations, infos
        self._is_fixed[:] = True
        self.block[:] = self.schedule.check_block(block)
        return self._observations(), self._infos()

    def step(self, actions: IntArray) -> tuple[FloatArray, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Picks an object in each environment; one whose episode had ended starts the next one instead."""
        step = super().step(actions)
        self._finished_episodes += self._ended & ~self._is_fixed
        return step

    def _act(self, actions: IntArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        return self._pick(actions == self._correct[self._rows(), self.position])

    def _begin(self, envs: BoolArray) -> None:
        self._is_fixed[envs] = False
        self.block[envs] = self.schedule.block_of(self._finished_episodes[envs])
        self.position[envs] = 0
        self._start(envs)

    def _observations(self) -> FloatArray:
        return self._one_hot[self.position]

    def _correct_actions(self) -> IntArray:
        correct_actions: IntArray = self._correct[self._rows(), self.position]
        return correct_actions

    def _board(self, env: int) -> Board:
        pick = self._last_pick[env]
        num_done = int(self.position[env]) + self._num_given
        return Board(self._names[self._rows()[env]], num_done, None if pick < 0 else self.letters[pick])


def _schedule(objects: str, distractors: str, blocks: Sequence[BlockSpec] | None) -> BlockSchedule:
    schedule = BlockSchedule(blocks, objects)
    require(
        not set(objects) & set(distractors) and len(set(distractors)) == len(distractors),
        "data.env_kwargs.distractors",
        distractors,
        f"letters that are not among the objects {objects}, each of them once",
    )
    return schedule


def one_hot_box(size: int) -> gym.spaces.Box:
    """The space of one-hot vectors, one or several in a row."""
    return gym.spaces.Box(0.0, 1.0, (size,), np.float32)
