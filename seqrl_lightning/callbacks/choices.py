"""Conversion of the agent's steps to the choices of whole episodes, which metrics are updated with."""

from collections.abc import Sequence

import numpy as np
import torch

from seqrl_lightning.collect import TrialStep
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import Choices, IntArray

_COLUMNS = ("env", "is_start", "is_end", "block", "position", "action", "correct_action")


class ChoiceBuffer:
    """Buffer of each environment's choices until their episode ends.

    Args:
        num_positions: Size of the one-hot position that an observation begins with; None if the task doesn't show one:
            the position is then the number of answers that the episode has seen.
        has_blocks: Whether the task has several blocks; otherwise all choices belong to block 0.

    Attributes:
        pending: [7, M] int64, the choices of episodes that are still open, as columns of ``_COLUMNS``.
    """

    def __init__(self, num_positions: int | None, has_blocks: bool) -> None:
        self.num_positions = num_positions
        self.has_blocks = has_blocks
        self.pending: IntArray = np.zeros((len(_COLUMNS), 0), np.int64)

    @classmethod
    def of(cls, data: LearnerDataModule) -> "ChoiceBuffer":
        """Make a buffer for the task of a datamodule."""
        is_vector = len(data.obs_shape) == 1 and not isinstance(data.obs_shape, PackedShape)
        num_positions = data.task_facts.num_positions if is_vector else None  # a stack doesn't begin with it
        return cls(num_positions, has_blocks=data.num_blocks > 0)

    def add(self, steps: Sequence[TrialStep]) -> None:
        """Add steps of all environments, in their order."""
        if not steps:
            return
        action = np.concatenate([step.action for step in steps])
        unknown = np.zeros(len(action), np.int64)
        columns = np.stack(
            [
                np.tile(np.arange(len(steps[0].action)), len(steps)),
                np.concatenate([step.trial for step in steps]) == 0,
                np.concatenate([step.outcome.terminated | step.outcome.truncated for step in steps]),
                self._labels([step.shown.block for step in steps], unknown) if self.has_blocks else unknown,
                unknown if self.num_positions is None else self._positions(steps),
                action,
                self._labels([step.shown.correct_action for step in steps], unknown - 1),
            ]
        )
        is_trial = np.concatenate([step.is_trial for step in steps])
        self.pending = np.concatenate([self.pending, columns[:, is_trial]], axis=1)

    @staticmethod
    def _labels(labels: Sequence[IntArray | None], untold: IntArray) -> IntArray:
        """Concatenate the labels of several steps; ``untold`` where the task hasn't stated them yet."""
        size = len(untold) // len(labels)
        return np.concatenate([untold[:size] if label is None else label for label in labels])

    def _positions(self, steps: Sequence[TrialStep]) -> IntArray:
        one_hot = np.concatenate([step.shown.observation[:, : self.num_positions] for step in steps])
        return np.asarray(one_hot.argmax(1))

    def pop_ended_episodes(self, device: torch.device) -> Choices:
        """Remove and return the episodes that have ended; episodes that were abandoned after a fault are dropped.

        Args:
            device: Where the choices' tensors are put.
        """
        columns = self.pending[:, np.argsort(self.pending[0], kind="stable")]
        env, is_start, is_end, block, position, action, correct_action = columns
        changes_env = np.diff(env, prepend=-1) != 0
        starts = np.flatnonzero(is_start | changes_env)
        episode = np.cumsum(is_start | changes_env) - 1
        has_ended = np.zeros(len(starts), np.bool_)
        has_ended[episode[is_end > 0]] = True
        is_newest = np.append(changes_env[starts[1:]], True)[: len(starts)]  # of its environment
        self.pending = columns[:, (~has_ended & is_newest)[episode]]

        counts = correct_action >= 0
        if self.num_positions is None:
            answered = np.cumsum(counts) - counts
            position = answered - answered[starts][episode]
        is_popped = has_ended[episode] & counts
        rows = [row[is_popped] for row in (env, episode, block, position, action, correct_action)]
        rows[1] = np.unique(rows[1], return_inverse=True)[1]
        return Choices(*(torch.from_numpy(row).to(device) for row in rows))
