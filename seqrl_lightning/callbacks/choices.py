"""From the agent's steps to the choices of whole episodes, which metrics are told."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqrl_lightning.collect import TrialStep
from seqrl_lightning.types import Choices, IntArray

_COLUMNS = ("env", "is_start", "is_end", "block", "position", "action", "correct_action")


class ChoiceColumns:
    """Collects steps until their episodes have ended.

    Args:
        num_positions: How many numbers at an observation's start are the position, one-hot; None if the task doesn't
            show it: then it is the number of answers that the episode has seen.
        has_blocks: Whether the task's blocks count; else all choices are of block 0.
    """

    def __init__(self, num_positions: int | None, has_blocks: bool) -> None:
        self.num_positions = num_positions
        self.has_blocks = has_blocks
        self.waiting: IntArray = np.zeros((len(_COLUMNS), 0), np.int64)  # those of an episode start with its first

    @classmethod
    def of(cls, data: Any) -> "ChoiceColumns":
        """For the task of a datamodule."""
        shows_position = len(data.obs_shape) == 1  # rather than a stack of observations
        num_positions = getattr(data.task, "num_positions", None) if shows_position else None
        return cls(num_positions, has_blocks=data.num_blocks > 0)

    def add(self, steps: Sequence[TrialStep]) -> None:
        """Adds steps of all environments, in their order."""
        if not steps:
            return
        action = np.concatenate([step.action for step in steps])
        unknown = np.zeros(len(action), np.int64)
        columns = np.stack(
            [
                np.tile(np.arange(len(steps[0].action)), len(steps)),
                np.concatenate([step.trial for step in steps]) == 0,
                np.concatenate([step.terminated for step in steps]) | np.concatenate([s.truncated for s in steps]),
                np.concatenate([step.labels["block"] for step in steps]) if self.has_blocks else unknown,
                unknown if self.num_positions is None else self._positions(steps),
                action,
                np.concatenate([step.labels["correct_action"] for step in steps]),
            ]
        )
        is_trial = np.concatenate([step.is_trial for step in steps])
        self.waiting = np.concatenate([self.waiting, columns[:, is_trial]], axis=1)

    def _positions(self, steps: Sequence[TrialStep]) -> IntArray:
        one_hot = np.concatenate([step.observation[:, : self.num_positions] for step in steps])
        return np.asarray(one_hot.argmax(1))

    def take_whole_episodes(self, device: torch.device) -> Choices:
        """Takes out the episodes that have ended, onto ``device``, and forgets those that were given up."""
        columns = self.waiting[:, np.argsort(self.waiting[0], kind="stable")]
        env, is_start, is_end, block, position, action, correct_action = columns
        changes_env = np.diff(env, prepend=-1) != 0
        starts = np.flatnonzero(is_start | changes_env)
        episode = np.cumsum(is_start | changes_env) - 1
        has_ended = np.zeros(len(starts), np.bool_)
        has_ended[episode[is_end > 0]] = True
        goes_on = ~has_ended & np.append(changes_env[starts[1:]], True)[: len(starts)]  # it is its environment's newest
        self.waiting = columns[:, goes_on[episode]]

        counts = correct_action >= 0
        if self.num_positions is None:
            answered = np.cumsum(counts) - counts
            position = answered - answered[starts][episode]
        taken = has_ended[episode] & counts
        rows = [row[taken] for row in (env, episode, block, position, action, correct_action)]
        rows[1] = np.unique(rows[1], return_inverse=True)[1]
        return Choices(*(torch.from_numpy(row).to(device) for row in rows))
