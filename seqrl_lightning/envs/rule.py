"""The rule of a task and the scripts of its episodes, as arrays that one environment and N environments look up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.types import FloatArray, IntArray

UNCOUNTED, WRONG, RIGHT = range(3)  # the outcome of an action


class Script(NamedTuple):
    """One episode of a task, state by state.

    All scripts of a task have the same shape. They may have fewer rows than the task has states: in the states that are
    left, nothing is shown and no action counts.
    """

    shown: FloatArray  # [states, size] float32, the first part of the observation
    correct: IntArray  # [states] int64, the right action; -1 where no action counts


@dataclass(frozen=True)
class Rule:
    """The rule of a task, as arrays over all of its states.

    With S states, an episode starts in state 0 and terminates in state S - 1. The outcome of an action decides the next
    state and the reward. An action is right or wrong by the script of the episode; where the script has no right
    action, it is not counted: it leads to the same state as a wrong one and earns 0.

    Attributes:
        after_wrong: ``[S - 1] int64``, the next state after a wrong action.
        after_right: ``[S - 1] int64``, the next state after the right action.
        reward_wrong: Reward of a wrong action.
        reward_right: Reward of the right action.
        limit: Number of picks or errors after which an episode is truncated; None for no limit.
        limit_on: Whether the limit is on all picks that count or on the wrong ones.
        echo: ``[3, actions, E] float32``, the last part of the observation, by the outcome of the last action and the
            action (see :func:`echo_table`); None if there is no such part.
    """

    after_wrong: IntArray
    after_right: IntArray
    reward_wrong: float
    reward_right: float
    limit: int | None = None
    limit_on: Literal["picks", "errors"] = "picks"
    echo: FloatArray | None = None

    @property
    def num_states(self) -> int:
        """Number of states, S."""
        return len(self.after_wrong) + 1

    @property
    def echo_size(self) -> int:
        """Length of the last part of the observation, E."""
        return 0 if self.echo is None else self.echo.shape[2]

    def next_states(self) -> IntArray:
        """Return the next state by state and outcome, ``[S, 3] int64``."""
        after = np.column_stack([self.after_wrong, self.after_wrong, self.after_right])
        return np.vstack([after, np.full(3, self.num_states - 1)])

    def rewards(self) -> FloatArray:
        """Return the reward by outcome, ``[3] float64``."""
        return np.array([0.0, self.reward_wrong, self.reward_right])

    def counts_toward_limit(self) -> IntArray:
        """Return 1 for each outcome that the limit is on, and 0 for the others, ``[3] int64``."""
        return np.array([0, 1, 1 if self.limit_on == "picks" else 0])


def echo_table(num_actions: int, wrong: Sequence[float], right: Sequence[float], shows_action: bool) -> FloatArray:
    """Build :attr:`Rule.echo`, the part of an observation that tells the last action and its outcome.

    It is all zeros at an episode's start and after an action that was not counted.

    Args:
        num_actions: Number of actions.
        wrong: E numbers that stand for a wrong action.
        right: E numbers that stand for the right action.
        shows_action: Whether the action comes before these numbers, one-hot.

    Returns:
        ``[3, num_actions, E] float32``, or ``[3, num_actions, num_actions + E]`` with the action.
    """
    numbers = np.array([np.zeros(len(wrong)), wrong, right], np.float32)
    table = np.repeat(numbers[:, None], num_actions, axis=1)
    if not shows_action:
        return table
    actions = np.repeat(np.eye(num_actions, dtype=np.float32)[None], 3, axis=0)
    actions[UNCOUNTED] = 0.0
    return np.concatenate([actions, table], axis=2)


class Scripts:
    """Room for the scripts of several environments or blocks, one in each row.

    Args:
        num_rows: Number of scripts, R.
        like: A script; all of them have its shape.
        num_states: Number of states of the task, S.
        size: Length of a whole observation. What follows a script's part of it stays 0.

    Attributes:
        shown: ``[R, S, size] float32``.
        correct: ``[R, S] int64``.
    """

    def __init__(self, num_rows: int, like: Script, num_states: int, size: int) -> None:
        self.shown = np.zeros((num_rows, num_states, size), np.float32)
        self.correct = np.full((num_rows, num_states), -1)
        script_states, script_size = like.shown.shape
        # Slicing takes as long as writing: the slices are made once.
        self._rows = [
            Script(shown, correct)
            for shown, correct in zip(
                self.shown[:, :script_states, :script_size], self.correct[:, :script_states], strict=True
            )
        ]

    def write(self, row: int, script: Script) -> None:
        """Replace the script in ``row``."""
        shown, correct = self._rows[row]
        shown[...], correct[...] = script

    def state_dict(self) -> dict[str, Tensor]:
        """Return the scripts as tensors."""
        return {"shown": torch.from_numpy(self.shown.copy()), "correct": torch.from_numpy(self.correct.copy())}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Replace all scripts by the ones that :meth:`state_dict` returned."""
        self.shown[...], self.correct[...] = state_dict["shown"].numpy(), state_dict["correct"].numpy()
