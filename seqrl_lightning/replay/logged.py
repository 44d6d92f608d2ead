"""Episodes that were logged before, as rows of the replay memory."""

from typing import NamedTuple

import numpy as np

from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray


class LoggedRows(NamedTuple):
    """Rows of the replay memory: whole episodes, each with its final observation as its last row.

    The rows are M in a row as they are read, or ``[T, num_envs]`` as they are stored. A final row's action and reward
    mean nothing, and where the episode terminated, neither does its observation.
    """

    observation: Array  # [M, *obs]
    action: IntArray  # [M]
    reward: FloatArray  # [M] float32
    terminated: BoolArray  # [M], whether the step from this row terminated the episode
    is_final: BoolArray  # [M]
    action_mask: BoolArray | None = None  # [M, A], the actions that are allowed; None if all are


def joined(parts: list[LoggedRows]) -> LoggedRows:
    """Return the rows of several logs as one; if only some have masks, the other logs allow every action."""
    masks = [part.action_mask for part in parts if part.action_mask is not None]
    if masks:
        n_actions = masks[0].shape[1]
        parts = [part if part.action_mask is not None else _allowing_all(part, n_actions) for part in parts]
    columns = {name: [part._asdict()[name] for part in parts] for name in LoggedRows._fields[: 6 if masks else 5]}
    return LoggedRows(**{name: np.concatenate(column) for name, column in columns.items()})


def _allowing_all(rows: LoggedRows, n_actions: int) -> LoggedRows:
    return rows._replace(action_mask=np.ones((len(rows.action), n_actions), np.bool_))


def dealt(rows: LoggedRows, num_envs: int) -> LoggedRows:
    """Deal episodes out to environments that are stored side by side: each goes to the one with the fewest rows so far.

    Args:
        rows: Columns ``[M, ...]``.
        num_envs: Number of environments.

    Returns:
        Columns ``[T, num_envs, ...]``. Where an environment has fewer rows than another, final ones follow.
    """
    ends = np.flatnonzero(rows.is_final) + 1
    starts = np.concatenate([[0], ends[:-1]])
    used = np.zeros(num_envs, np.int64)
    env = np.zeros(len(rows.action), np.int64)
    row = np.zeros(len(rows.action), np.int64)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        chosen = int(used.argmin())
        env[start:end] = chosen
        row[start:end] = used[chosen] + np.arange(end - start)
        used[chosen] += end - start

    def side_by_side(column: Array, filler: bool = False) -> Array:
        laid = np.full((int(used.max()), num_envs, *column.shape[1:]), filler, column.dtype)
        laid[row, env] = column
        return laid

    return LoggedRows(
        side_by_side(rows.observation),
        side_by_side(rows.action),
        side_by_side(rows.reward),
        side_by_side(rows.terminated),
        is_final=side_by_side(rows.is_final, filler=True),
        action_mask=None if rows.action_mask is None else side_by_side(rows.action_mask, filler=True),
    )
