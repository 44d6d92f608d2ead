"""What the tasks about an order of objects share: blocks, positions, seeding, infos and pictures.

A task is a single environment (one episode at a time, to read) and its vectorised twin (NumPy, to train on). The
two are written apart, so that a test can hold one against the other.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.blocks import BlockSchedule, BlockSpec
from seqrl_lightning.envs.drawing import draw_board, write_board
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, require

_RENDER_MODES = ("ansi", "rgb_array")


class OrderedEnv(gym.Env[Any, np.int64]):
    """One environment in which objects are picked in an order that changes from block to block.

    Subclasses write ``_pick``, the rule, and add what it counts to ``_state_names``. ``info`` holds the ``block`` (its
    number) and the ``correct_action`` (-1 if the sequence is complete).

    Args:
        objects: The objects of the sequence, a letter each.
        distractors: Objects that are never right, a letter each; their actions come after the objects'.
        blocks: See :class:`BlockSchedule`.
        num_given: How many objects of the sequence are given at an episode's start.
        num_positions: How many positions an observation tells apart.
        render_mode: ``ansi``, ``rgb_array`` or None.
    """

    metadata = {"render_modes": list(_RENDER_MODES), "render_fps": 4}
    _state_names: tuple[str, ...] = ("block", "position", "_finished_episodes", "_fixed_block", "_last_pick")

    def __init__(
        self,
        objects: str,
        distractors: str,
        blocks: Sequence[BlockSpec] | None,
        num_given: int,
        num_positions: int,
        render_mode: str | None,
    ) -> None:
        self.schedule, self.observation_space, self.action_space = _task(objects, distractors, blocks, num_positions)
        require(render_mode in (None, *_RENDER_MODES), "render_mode", render_mode, f"one of {_RENDER_MODES}")
        self.render_mode = render_mode
        self._letters = objects + distractors
        self._num_given = num_given
        # Block k's sequence, then -1: no object is right once the sequence is complete.
        self._correct: list[list[int]] = [[*sequence[num_given:], -1] for sequence in self.schedule.sequences.tolist()]
        self._finished_episodes = 0
        self._fixed_block: int | None = None
        self.block = 0
        self.position = 0
        self._last_pick: int | None = None

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.schedule)

    @abstractmethod
    def _pick(self, is_right: bool) -> tuple[float, bool, bool]:
        """Changes the position by the rule. Returns the reward, and whether the episode terminated or truncated."""

    def _start(self) -> None:
        """Forgets what the rule counts within an episode."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seeds the environment and starts the block clock anew.
            options: ``{"block": k}`` plays this episode by block k's rule, outside the block clock.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._finished_episodes = 0
        block = (options or {}).get("block")
        self._fixed_block = None if block is None else self.schedule.check_block(block)
        self.block = int(self.schedule.block_of(self._finished_episodes)) if block is None else block
        self.position = 0
        self._last_pick = None
        self._start()
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Picks object ``action``."""
        reward, terminated, truncated = self._pick(int(action) == self._correct_action())
        if (terminated or truncated) and self._fixed_block is None:
            self._finished_episodes += 1
        self._last_pick = int(action)
        return self._observation(), reward, terminated, truncated, self._info()

    def _correct_action(self) -> int:
        return self._correct[self.block][self.position]

    def _observation(self) -> FloatArray:
        one_hot = np.zeros(self.observation_space.shape or (), np.float32)
        one_hot[self.position] = 1.0
        return one_hot

    def _info(self) -> dict[str, Any]:
        return {"block": self.block, "correct_action": self._correct_action()}

    def state_dict(self) -> dict[str, Any]:
        """The environment's own state, as numbers: what a checkpoint needs to go on exactly here."""
        return {name: getattr(self, name) for name in self._state_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name in self._state_names:
            setattr(self, name, state_dict[name])

    def render(self) -> Any:
        """The sequence so far and the last pick: a text (``ansi``) or a picture ``[H, W, 3] uint8`` (``rgb_array``)."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: make the environment with 'ansi' or 'rgb_array'.")
            return None
        draw = write_board if self.render_mode == "ansi" else draw_board
        pick = None if self._last_pick is None else self._letters[self._last_pick]
        return draw(self.schedule.names[self.block], self.position + self._num_given, pick)


class OrderedVectorEnv(VectorEnv[FloatArray, IntArray, Array]):
    """The vectorised twin of :class:`OrderedEnv`: all environments in one NumPy step, next-step autoreset.

    Subclasses write ``_pick``, the rule, over arrays of all environments, and add what it counts to ``_state_names``.
    Arguments as for the single environment.
    """

    metadata = {**OrderedEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    _state_names: tuple[str, ...] = (
        "block",
        "position",
        "_finished_episodes",
        "_is_fixed",
        "_ended",
        "_last_pick",
    )

    def __init__(
        self,
        num_envs: int,
        objects: str,
        distractors: str,
        blocks: Sequence[BlockSpec] | None,
        num_given: int,
        num_positions: int,
        render_mode: str | None,
    ) -> None:
        self.schedule, self.single_observation_space, self.single_action_space = _task(
            objects, distractors, blocks, num_positions
        )
        require(render_mode in (None, *_RENDER_MODES), "render_mode", render_mode, f"one of {_RENDER_MODES}")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._letters = objects + distractors
        self._num_given = num_given
        # Row k holds block k's sequence, then -1: no object is right once the sequence is complete.
        complete = np.full((len(self.schedule), 1), -1)
        self._correct = np.concatenate([self.schedule.sequences[:, num_given:], complete], axis=1)
        self._one_hot = np.eye(num_positions, dtype=np.float32)
        self._always = np.ones(num_envs, np.bool_)
        self._finished_episodes = np.zeros(num_envs, np.int64)
        self._is_fixed = np.zeros(num_envs, np.bool_)
        self._ended = np.zeros(num_envs, np.bool_)
        self.block = np.zeros(num_envs, np.int64)
        self.position = np.zeros(num_envs, np.int64)
        self._last_pick = np.full(num_envs, -1, np.int64)

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.schedule)

    @abstractmethod
    def _pick(self, is_right: BoolArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        """The rule, for all environments: rewards, terminated and truncated, [num_envs] each."""

    def _start(self, envs: BoolArray) -> None:
        """Forgets what the rule counts within an episode, where ``envs`` is true."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode in every environment; ``seed`` and ``options`` as for the single environment."""
        super().reset(seed=seed if isinstance(seed, int) else None)
        if seed is not None:
            self._finished_episodes[:] = 0
        self._begin(self._always)
        block = (options or {}).get("block")
        if block is not None:
            self._is_fixed[:] = True
            self.block[:] = self.schedule.check_block(block)
        return self._one_hot[self.position], self._infos()

    def step(self, actions: IntArray) -> tuple[FloatArray, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Picks an object in each environment; one whose episode had ended starts the next one instead."""
        restarting = self._ended
        reward, terminated, truncated = self._pick(actions == self._correct[self.block, self.position])
        self._last_pick = np.array(actions)
        if restarting.any():
            reward[restarting] = 0.0
            terminated &= ~restarting
            truncated &= ~restarting
            self._begin(restarting)
        self._ended = terminated | truncated
        self._finished_episodes += self._ended & ~self._is_fixed
        return self._one_hot[self.position], reward, terminated, truncated, self._infos()

    def _begin(self, envs: BoolArray) -> None:
        self._is_fixed[envs] = False
        self._ended = self._ended & ~envs
        self.block[envs] = self.schedule.block_of(self._finished_episodes[envs])
        self.position[envs] = 0
        self._last_pick[envs] = -1
        self._start(envs)

    def _infos(self) -> dict[str, Any]:
        correct_action = self._correct[self.block, self.position]
        return {
            "block": self.block.copy(),
            "_block": self._always,
            "correct_action": correct_action,
            "_correct_action": self._always,
        }

    def render(self) -> Any:
        """A text or a picture of each environment, as the single environment draws it."""
        if self.render_mode is None:
            return None
        draw = write_board if self.render_mode == "ansi" else draw_board
        return tuple(
            draw(
                self.schedule.names[block],
                int(position) + self._num_given,
                None if pick < 0 else self._letters[pick],
            )
            for block, position, pick in zip(self.block, self.position, self._last_pick, strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """The environments' own state, as arrays: what a checkpoint needs to go on exactly here."""
        return {name: getattr(self, name).copy() for name in self._state_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name in self._state_names:
            getattr(self, name)[:] = state_dict[name]


def _task(
    objects: str, distractors: str, blocks: Sequence[BlockSpec] | None, num_positions: int
) -> tuple[BlockSchedule, gym.spaces.Box[Any], gym.spaces.Discrete]:
    schedule = BlockSchedule(blocks, objects)
    require(
        not set(objects) & set(distractors) and len(set(distractors)) == len(distractors),
        "data.env_kwargs.distractors",
        distractors,
        f"letters that are not among the objects {objects}, each of them once",
    )
    observation_space = gym.spaces.Box(0.0, 1.0, (num_positions,), np.float32)
    return schedule, observation_space, gym.spaces.Discrete(len(objects) + len(distractors))
