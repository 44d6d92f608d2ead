"""What all tasks share: seeding, the next-step autoreset, infos, the state in a checkpoint, and pictures.

A task is a single environment (one episode at a time, to read) and its vectorised twin (NumPy, to train on). The
two step apart, so that a test can hold one against the other; what is drawn at random is drawn at an episode's start,
by one generator for each environment, so that both draw the same.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.drawing import draw_board, write_board
from seqrl_lightning.envs.state import arrays, plain
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, require

RENDER_MODES = ("ansi", "rgb_array")


class Board(NamedTuple):
    """What a picture of an environment shows."""

    letters: str  # a tile each
    num_done: int  # how many of them are filled
    pick: str | None  # the last action


class TaskEnv(gym.Env[Any, np.int64]):
    """A single environment with numbers to observe and identities (objects, symbols) to choose.

    Subclasses write ``_begin``, ``_act``, ``_observation``, ``_correct_action``, ``_board`` and ``optimal_return``, and
    add what an episode counts to ``_state_names``; with ``in_words`` a person can play it. ``info`` holds the ``block``
    (0 for a task without blocks) and the ``correct_action`` (-1 where none counts).

    Args:
        observation_space: A flat Box.
        n_actions: Number of actions.
        render_mode: ``ansi``, ``rgb_array`` or None.

    Attributes:
        letters: What the actions are called, a letter each.
    """

    letters: str

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}
    _state_names: tuple[str, ...] = ("_last_pick",)

    def __init__(self, observation_space: gym.spaces.Box, n_actions: int, render_mode: str | None) -> None:
        require(render_mode in (None, *RENDER_MODES), "render_mode", render_mode, f"one of {RENDER_MODES}")
        self.observation_space = observation_space
        self.action_space = gym.spaces.Discrete(n_actions)
        self.render_mode = render_mode
        self.block = 0
        self._last_pick = -1

    @property
    @abstractmethod
    def optimal_return(self) -> float:
        """The expected undiscounted return of the best policy that remembers all it has seen."""

    @abstractmethod
    def _begin(self) -> None:
        """Starts an episode; random draws come from ``np_random``, and only here."""

    @abstractmethod
    def _act(self, action: int) -> tuple[float, bool, bool]:
        """Follows the rule. Returns the reward, and whether the episode terminated or was truncated."""

    @abstractmethod
    def _observation(self) -> FloatArray:
        """What is seen now."""

    @abstractmethod
    def _correct_action(self) -> int:
        """The right action now; -1 where none counts."""

    @abstractmethod
    def _board(self) -> Board:
        """What the picture shows."""

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """What an observation tells, for a person who plays: all of it, and nothing else.

        Args:
            observation: [size] float32.
            letters: What the actions are to be called, a letter each.
        """
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        self._last_pick = -1
        self._begin()
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Picks object or symbol ``action``."""
        self._last_pick = int(action)
        reward, terminated, truncated = self._act(self._last_pick)
        return self._observation(), reward, terminated, truncated, self._info()

    def _info(self) -> dict[str, Any]:
        return {"block": self.block, "correct_action": self._correct_action()}

    def state_dict(self) -> dict[str, Any]:
        """The environment's own state, as tensors and primitives: what a checkpoint needs to go on exactly here."""
        state = {name: plain(getattr(self, name)) for name in self._state_names}
        return {**state, "rng": self.np_random.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name in self._state_names:
            setattr(self, name, arrays(state_dict[name]))
        self.np_random.bit_generator.state = state_dict["rng"]

    def render(self) -> Any:
        """The episode so far and the last pick: a text (``ansi``) or a picture ``[H, W, 3] uint8`` (``rgb_array``)."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: make the environment with 'ansi' or 'rgb_array'.")
            return None
        return (write_board if self.render_mode == "ansi" else draw_board)(*self._board())


class TaskVectorEnv(VectorEnv[FloatArray, IntArray, Array]):
    """The vectorised twin of :class:`TaskEnv`: all environments in one NumPy step, next-step autoreset.

    Subclasses write the same methods, over arrays of all environments, and add their arrays to ``_state_names``.

    Args:
        num_envs: Number of environments, N.
        observation_space: Of one environment.
        n_actions: Number of actions.
        render_mode: ``ansi``, ``rgb_array`` or None.
    """

    metadata = {**TaskEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    _state_names: tuple[str, ...] = ("_ended", "_last_pick")

    def __init__(
        self, num_envs: int, observation_space: gym.spaces.Box, n_actions: int, render_mode: str | None
    ) -> None:
        require(render_mode in (None, *RENDER_MODES), "render_mode", render_mode, f"one of {RENDER_MODES}")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = observation_space
        self.single_action_space = gym.spaces.Discrete(n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = Generators(num_envs)
        self._envs = np.arange(num_envs)
        self._always = np.ones(num_envs, np.bool_)
        self._ended = np.zeros(num_envs, np.bool_)
        self._last_pick = np.full(num_envs, -1, np.int64)
        self.block = np.zeros(num_envs, np.int64)

    @property
    @abstractmethod
    def optimal_return(self) -> float:
        """As for the single environment."""

    @abstractmethod
    def _begin(self, envs: BoolArray) -> None:
        """Starts an episode where ``envs`` is true; environment i draws from ``_generators[i]``."""

    @abstractmethod
    def _act(self, actions: IntArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        """The rule, for all environments: rewards, terminated and truncated, [N] each."""

    @abstractmethod
    def _observations(self) -> FloatArray:
        """What is seen now, as an array of its own [N, size] float32."""

    @abstractmethod
    def _correct_actions(self) -> IntArray:
        """The right actions now, as an array of its own [N]; -1 where none counts."""

    @abstractmethod
    def _board(self, env: int) -> Board:
        """What the picture of one environment shows."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode in every environment; environment i from ``seed + i``, as Gymnasium has it."""
        self._generators.seed(seed)
        self._restart(self._always)
        return self._observations(), self._infos()

    def step(self, actions: IntArray) -> tuple[FloatArray, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Acts in each environment; one whose episode had ended starts the next one instead."""
        restarting = self._ended
        self._last_pick = np.array(actions)
        reward, terminated, truncated = self._act(self._last_pick)
        if np.count_nonzero(restarting):  # several times as fast as any()
            reward[restarting] = 0.0
            terminated &= ~restarting
            truncated &= ~restarting
            self._restart(restarting)
        self._ended = terminated | truncated
        return self._observations(), reward, terminated, truncated, self._infos()

    def _restart(self, envs: BoolArray) -> None:
        self._ended = self._ended & ~envs
        self._last_pick[envs] = -1
        self._begin(envs)

    def _infos(self) -> dict[str, Any]:
        return {
            "block": self.block.copy(),
            "_block": self._always,
            "correct_action": self._correct_actions(),
            "_correct_action": self._always,
        }

    def state_dict(self) -> dict[str, Any]:
        """The environments' own state, as tensors and primitives: what a checkpoint needs to go on exactly here."""
        state = {name: plain(getattr(self, name)) for name in self._state_names}
        return {**state, "rng": self._generators.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name in self._state_names:
            setattr(self, name, arrays(state_dict[name]))
        self._generators.load_state_dict(state_dict["rng"])

    def render(self) -> Any:
        """A text or a picture of each environment, as the single environment draws it."""
        if self.render_mode is None:
            return None
        draw = write_board if self.render_mode == "ansi" else draw_board
        return tuple(draw(*self._board(env)) for env in range(self.num_envs))


class Generators:
    """A random generator for each environment of a vector environment, seeded as Gymnasium seeds single ones.

    Args:
        num_envs: Number of environments.
    """

    def __init__(self, num_envs: int) -> None:
        # None until it is asked for: making one costs more than a step of the environment.
        self._generators: list[np.random.Generator | None] = [None] * num_envs

    def __getitem__(self, env: int) -> np.random.Generator:
        generator = self._generators[env]
        if generator is None:
            generator = self._generators[env] = seeding.np_random()[0]
        return generator

    def seed(self, seed: int | Sequence[int | None] | None) -> None:
        """Seeds environment i with ``seed + i``, or with its own seed from a list; ``None`` leaves it as it is."""
        if seed is None:
            return
        seeds = seed if isinstance(seed, Sequence) else [seed + i for i in range(len(self._generators))]
        for env, env_seed in enumerate(seeds):
            if env_seed is not None:
                self._generators[env] = seeding.np_random(env_seed)[0]

    def state_dict(self) -> list[dict[str, Any]]:
        """Each generator's state."""
        return [dict(self[env].bit_generator.state) for env in range(len(self._generators))]

    def load_state_dict(self, state_dict: list[dict[str, Any]]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for env, state in enumerate(state_dict):
            self[env].bit_generator.state = state
