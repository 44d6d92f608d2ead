"""Base class of the tasks about a row of symbols, in which actions don't change the observations."""

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.rule import Rule, Script, echo_table
from seqrl_lightning.envs.task import Board, TaskEnv
from seqrl_lightning.types import FloatArray, IntArray, require

_MAX_TILES = 16  # the last ones of a row that is longer


class SymbolEnv(TaskEnv):
    """A task whose script is drawn at an episode's start and read row by row, one row for each step.

    Actions name symbols. A script shows a symbol, one-hot (all zeros for none), and then what else the task shows.
    A subclass writes :meth:`draw` and sets ``optimal_return``.

    With ``previous_action_reward`` the observation ends with the last action, one-hot ``[num_symbols]``, and its
    reward; both are zeros at an episode's start. An action that didn't count is not shown. Otherwise a policy without
    memory could carry a symbol from step to step in its own actions.

    Args:
        num_symbols: Number of symbols; action k names symbol k.
        length: Number of steps of an episode, T. It terminates after them.
        reward_wrong: Reward of a wrong action at a step that counts.
        reward_right: Reward of the right action at a step that counts.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi``, ``rgb_array`` or None.
    """

    def __init__(
        self,
        num_symbols: int,
        length: int,
        reward_wrong: float,
        reward_right: float,
        previous_action_reward: bool,
        render_mode: str | None,
    ) -> None:
        self.num_symbols = num_symbols
        self.length = length
        self.previous_action_reward = previous_action_reward
        next_step = np.arange(1, length + 1)  # the state is the step
        echo = echo_table(num_symbols, (reward_wrong,), (reward_right,), shows_action=True)
        rule = Rule(
            after_wrong=next_step,
            after_right=next_step,
            reward_wrong=reward_wrong,
            reward_right=reward_right,
            echo=echo if previous_action_reward else None,
        )
        super().__init__("".join(map(_letter, range(num_symbols))), rule, render_mode)
        if previous_action_reward:
            low = np.zeros(self.observation_space.shape or (), np.float32)
            low[-1] = -1.0  # of the reward
            self.observation_space = gym.spaces.Box(low, np.ones_like(low))

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the script of an episode, with T rows."""

    def script(self, block: int, rng: np.random.Generator) -> Script:
        """Draw the script of an episode."""
        return self.draw(rng)

    def in_words(self, observation: Any, letters: str) -> str:
        """Describe the observation, and the reward of the last action."""
        words = self.shown_in_words(observation[: self.shown_size], letters)
        echo = observation[self.shown_size :]
        if not echo.any():
            return words
        return f"{words} (the last action, {letters[int(echo[:-1].argmax())]}, earned {echo[-1]:+g})"

    def shown_in_words(self, shown: FloatArray, letters: str) -> str:
        """Describe a row of the script; here, the symbol.

        Args:
            shown: ``[size] float32``.
            letters: Names for the symbols, one letter each.
        """
        symbol = shown[: self.num_symbols]
        return f"symbol {letters[int(symbol.argmax())]}" if symbol.any() else "no symbol"

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the symbols seen so far, one letter each, with ``.`` for none."""
        rows = script.shown[: self.length, : self.num_symbols]
        symbols = rows[max(state + 1 - _MAX_TILES, 0) : state + 1]
        letters = "".join(_letter(int(row.argmax())) if row.any() else "." for row in symbols)
        return Board(letters, min(state, len(letters) - 1), None if pick < 0 else _letter(pick))


def random_symbols(rng: np.random.Generator, num_symbols: int, length: int) -> IntArray:
    """Draw symbols independently and uniformly, ``[length] int64``."""
    return (rng.random(length) * num_symbols).astype(np.int64)  # a third of the time of integers() for a few symbols


def one_hot(symbols: IntArray, size: int) -> FloatArray:
    """Return symbols as rows, ``[len(symbols), size] float32``."""
    return np.eye(size, dtype=np.float32)[symbols]


def check_count(name: str, value: int, at_least: int = 1) -> None:
    """Refuse a number among a task's arguments that is too small.

    Raises:
        ConfigurationError: If ``value`` is below ``at_least``.
    """
    require(value >= at_least, f"data.env_kwargs.{name}", value, f"at least {at_least}")


def _letter(symbol: int) -> str:
    return chr(ord("A") + symbol)
