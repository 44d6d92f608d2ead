"""What the tasks about a row of symbols share: an episode is a script, drawn at its start.

What is shown does not depend on what is done, so a task is written once, as the script that it draws; the single
environment and its vectorised twin play it.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.task import Board, TaskEnv, TaskVectorEnv
from seqrl_lightning.types import BoolArray, FloatArray, IntArray, require

_MAX_TILES = 16  # of a picture: the last ones


class Script(NamedTuple):
    """One episode of T steps."""

    shown: FloatArray  # [T, size] float32; row t is seen when action t is chosen
    correct: IntArray  # [T]; the right action t, -1 where no action counts


class SymbolTask(ABC):
    """A task whose observations don't depend on the actions.

    Attributes:
        num_symbols: How many symbols there are; action k names symbol k.
        size: Length of what is shown; it begins with the symbol, one-hot ``[num_symbols]`` (zeros for none).
        length: Steps of an episode, T; it terminates after them.
        reward_right: For the right action at a step that counts.
        reward_wrong: For another action at a step that counts; at other steps every action earns 0.
        optimal_return: The expected undiscounted return of the best policy that remembers all it has seen.
    """

    num_symbols: int
    size: int
    length: int
    reward_right: float
    reward_wrong: float
    optimal_return: float

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Script:
        """Draws an episode."""

    def in_words(self, shown: FloatArray, letters: str) -> str:
        """What is shown in a step, [size], for a person: here the symbol."""
        symbol = shown[: self.num_symbols]
        return f"symbol {letters[int(symbol.argmax())]}" if symbol.any() else "no symbol"


class SymbolEnv(TaskEnv):
    """Plays a :class:`SymbolTask`, one episode at a time.

    With ``previous_action_reward`` the observation ends with the last action, one-hot ``[num_symbols]``, and its reward
    (zeros at an episode's start). An action that didn't count is not shown: else a policy without memory could carry a
    symbol from step to step in its own actions.

    Args:
        previous_action_reward: Whether observations hold the last action and reward.
        render_mode: ``ansi`` or ``rgb_array``.
        task_kwargs: The task's own arguments.
    """

    task_class: ClassVar[type[SymbolTask]]
    _state_names = (*TaskEnv._state_names, "_t", "_shown", "_correct", "_previous_reward")

    def __init__(self, previous_action_reward: bool = True, render_mode: str | None = None, **task_kwargs: Any) -> None:
        self.task = self.task_class(**task_kwargs)
        super().__init__(_space(self.task, previous_action_reward), self.task.num_symbols, render_mode)
        self.letters = "".join(map(_letter, range(self.task.num_symbols)))
        self.previous_action_reward = previous_action_reward
        self._shown = np.zeros((self.task.length, self.task.size), np.float32)
        self._correct = np.zeros(self.task.length, np.int64)
        self._t = 0
        self._previous_reward = 0.0

    @property
    def optimal_return(self) -> float:
        """The expected return of the best policy that remembers all it has seen."""
        return self.task.optimal_return

    def _begin(self) -> None:
        self._shown, self._correct = self.task.draw(self.np_random)
        self._t = 0
        self._previous_reward = 0.0

    def _act(self, action: int) -> tuple[float, bool, bool]:
        right = self._correct[self._t]
        reward = 0.0
        if right >= 0:
            reward = self.task.reward_right if action == right else self.task.reward_wrong
        self._previous_reward = reward
        self._t += 1
        return reward, self._t == self.task.length, False

    def _correct_action(self) -> int:
        return int(self._correct[self._t]) if self._t < self.task.length else -1

    def _observation(self) -> FloatArray:
        observation = np.zeros(self.observation_space.shape or (), np.float32)
        if self._t < self.task.length:
            observation[: self.task.size] = self._shown[self._t]
        if self.previous_action_reward and self._t > 0 and self._correct[self._t - 1] >= 0:
            observation[self.task.size + self._last_pick] = 1.0
            observation[-1] = self._previous_reward
        return observation

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """What is shown, and what the last action earned."""
        words = self.task.in_words(observation[: self.task.size], letters)
        if not observation[self.task.size :].any():
            return words
        last_action = int(observation[self.task.size : -1].argmax())
        return f"{words} (the last action, {letters[last_action]}, earned {observation[-1]:+g})"

    def _board(self) -> Board:
        return _board(self.task, self._shown, self._t, self._last_pick)


class SymbolVectorEnv(TaskVectorEnv):
    """The vectorised twin of :class:`SymbolEnv`, with the same arguments."""

    task_class: ClassVar[type[SymbolTask]]
    _state_names = (*TaskVectorEnv._state_names, "_t", "_shown", "_correct", "_previous_action", "_previous_reward")

    def __init__(
        self,
        num_envs: int = 1,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
        **task_kwargs: Any,
    ) -> None:
        self.task = task = self.task_class(**task_kwargs)
        super().__init__(num_envs, _space(task, previous_action_reward), task.num_symbols, render_mode)
        self.previous_action_reward = previous_action_reward
        # A row more than there are steps: after the last one nothing is shown, and no action counts.
        self._shown = np.zeros((num_envs, task.length + 1, task.size), np.float32)
        self._correct = np.full((num_envs, task.length + 1), -1)
        self._t = np.zeros(num_envs, np.int64)
        self._previous_action = np.full(num_envs, -1)
        self._previous_reward = np.zeros(num_envs)
        self._one_hot = np.eye(task.num_symbols + 1, task.num_symbols, dtype=np.float32)  # zeros for action -1

    @property
    def optimal_return(self) -> float:
        """As for the single environment."""
        return self.task.optimal_return

    def _begin(self, envs: BoolArray) -> None:
        for env in np.flatnonzero(envs).tolist():
            self._shown[env, :-1], self._correct[env, :-1] = self.task.draw(self._generators[env])
        self._t[envs] = 0
        self._previous_action[envs] = -1
        self._previous_reward[envs] = 0.0

    def _act(self, actions: IntArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        right = self._correct_actions()
        counts = right >= 0
        reward = np.where(actions == right, self.task.reward_right, self.task.reward_wrong) * counts
        self._previous_action = np.where(counts, actions, -1)
        self._previous_reward = reward
        self._t = np.minimum(self._t + 1, self.task.length)
        return reward, self._t == self.task.length, np.zeros(self.num_envs, np.bool_)

    def _correct_actions(self) -> IntArray:
        correct_actions: IntArray = self._correct[self._envs, self._t]
        return correct_actions

    def _observations(self) -> FloatArray:
        shown: FloatArray = self._shown[self._envs, self._t]
        if not self.previous_action_reward:
            return shown
        reward = self._previous_reward[:, None].astype(np.float32)
        return np.concatenate([shown, self._one_hot[self._previous_action], reward], axis=1)

    def _board(self, env: int) -> Board:
        return _board(self.task, self._shown[env], int(self._t[env]), int(self._last_pick[env]))


def random_symbols(rng: np.random.Generator, num_symbols: int, length: int) -> IntArray:
    """Symbols drawn independently and uniformly, [length] int64."""
    return (rng.random(length) * num_symbols).astype(np.int64)  # a third of what integers() takes for a few symbols


def one_hot(symbols: IntArray, size: int) -> FloatArray:
    """Symbols as rows ``[len(symbols), size] float32``."""
    return np.eye(size, dtype=np.float32)[symbols]


def check_count(name: str, value: int, at_least: int = 1) -> None:
    """Refuses a task's argument that is too small.

    Raises:
        ConfigurationError: If ``value`` is below ``at_least``.
    """
    require(value >= at_least, f"data.env_kwargs.{name}", value, f"at least {at_least}")


def _space(task: SymbolTask, previous_action_reward: bool) -> gym.spaces.Box:
    size = task.size + (task.num_symbols + 1 if previous_action_reward else 0)
    low = np.zeros(size, np.float32)
    if previous_action_reward:
        low[-1] = -1.0  # the reward's
    return gym.spaces.Box(low, np.ones(size, np.float32))


def _board(task: SymbolTask, shown: FloatArray, t: int, pick: int) -> Board:
    """The symbols seen so far, a letter each, ``.`` for none."""
    symbols = shown[max(t + 1 - _MAX_TILES, 0) : t + 1, : task.num_symbols]
    letters = "".join(_letter(int(row.argmax())) if row.any() else "." for row in symbols)
    return Board(letters, min(t, len(letters) - 1), None if pick < 0 else _letter(pick))


def _letter(symbol: int) -> str:
    return chr(ord("A") + symbol)
