"""Logged episodes, read from tables and Minari data sets."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete

from seqrl_lightning.checkpoints.archive import limited_memory
from seqrl_lightning.errors import needs_extra, refused_in_a_line
from seqrl_lightning.files import checksum, require_file
from seqrl_lightning.replay.logged import LoggedRows, joined
from seqrl_lightning.trust import MAX_FILE_GIB
from seqrl_lightning.types import Array, require

_MINARI = "minari:"


class Logged(NamedTuple):
    """Episodes as rows of the replay memory, with the number of actions."""

    rows: LoggedRows
    n_actions: int
    checksum: str  # of all that was read


def read_logged(
    trials: str | list[str],
    obs_shape: tuple[int, ...] | None = None,
    obs_dtype: str | None = None,
    n_actions: int | None = None,
    max_gib: float = MAX_FILE_GIB,
) -> Logged:
    """Read the episodes of one or more logs; see :class:`~seqrl_lightning.data.LoggedTrials` for their formats.

    Args:
        trials: A table's path, ``minari:ID`` for a Minari data set, or several of them.
        obs_shape: Shape of a task's observation; None, without a task, for that of the first log.
        obs_dtype: NumPy's name of its dtype; None for one that suits the first log's.
        n_actions: Number of actions; None for the largest that any log states. That of a task must be the same as in
            each log that states it, by columns ``q_0``, ``q_1`` and so on or as a Minari data set.
        max_gib: Tables that are larger, or take more memory, are refused.

    Raises:
        ConfigurationError: If one can't be read.
    """
    of_task = obs_shape is not None
    sources = [trials] if isinstance(trials, str) else trials
    require(len(sources) > 0, "data.trials", trials, "a table, or several")
    logs = [_minari(source) if source.startswith(_MINARI) else _table(Path(source), max_gib) for source in sources]
    for log in logs if of_task else ():
        must_be = f"{n_actions}, as in the task"
        require(
            not log.states_actions or log.n_actions == n_actions,
            f"the number of actions in {log.name}",
            log.n_actions,
            must_be,
        )
    n_actions = n_actions or max(log.n_actions for log in logs)
    parts: list[LoggedRows] = []
    for log in logs:
        parts.append(log.rows(n_actions, obs_shape, obs_dtype))
        first = parts[0].observation
        obs_shape, obs_dtype = obs_shape or first.shape[1:], obs_dtype or first.dtype.name
    return Logged(joined(parts), n_actions, " ".join(log.checksum for log in logs))


class _Log(NamedTuple):
    name: str
    n_actions: int
    states_actions: bool  # whether it says so itself; its largest action does not
    rows: Callable[[int, tuple[int, ...] | None, str | None], LoggedRows]  # from n_actions, obs_shape and obs_dtype
    checksum: str


def _table(path: Path, max_gib: float) -> _Log:
    with needs_extra("analysis"):
        from seqrl_lightning.analysis.logged import read_steps, rows_of, stated_actions
    require_file(path, max_gib)
    with limited_memory(max_gib):
        table = read_steps(path, max_gib)

    def as_task(n_actions: int, obs_shape: tuple[int, ...] | None, obs_dtype: str | None) -> LoggedRows:
        with limited_memory(max_gib), refused_in_a_line(str(path)):  # a short text may stand for many rows
            return rows_of(table, path, n_actions, obs_shape, obs_dtype)

    stated = stated_actions(table)
    return _Log(str(path), stated or int(table["action"].max()) + 1, stated is not None, as_task, checksum(path))


def _minari(source: str) -> _Log:
    """Return the episodes of a Minari data set on this machine, which hold their final observations."""
    with needs_extra("minari"):
        import minari
    with refused_in_a_line(source):
        dataset = minari.load_dataset(source.removeprefix(_MINARI))
        space = dataset.action_space
        must_be = "one with Discrete actions"
        require(isinstance(space, Discrete), f"the action space of {source}", str(space), must_be)
        shown = dataset.observation_space
        must_be = "one of arrays of numbers (Box), or of numbered states (Discrete)"
        require(isinstance(shown, Box | Discrete), f"the observation space of {source}", str(shown), must_be)
        rows = joined([_episode(episode, int(space.start), shown) for episode in dataset.iterate_episodes()])
    found = hashlib.sha256(b"".join(column.tobytes() for column in rows if column is not None)).hexdigest()

    def as_task(n_actions: int, obs_shape: tuple[int, ...] | None, obs_dtype: str | None) -> LoggedRows:
        own = rows.observation.shape[1:]
        require(obs_shape in (None, own), f"the shape of observations in {source}", own, f"the task's {obs_shape}")
        require(space.n <= n_actions, f"the number of actions in {source}", int(space.n), f"at most {n_actions}")
        return rows._replace(observation=rows.observation.astype(obs_dtype or rows.observation.dtype))

    return _Log(source, int(space.n), True, as_task, found)


def _episode(episode: Any, first_action: int, space: Box | Discrete[Any]) -> LoggedRows:
    shown: Array = np.asarray(episode.observations)
    if isinstance(space, Discrete):
        shown = np.eye(int(space.n), dtype=np.float32)[shown - space.start]
    elif shown.dtype == np.float64:
        shown = shown.astype(np.float32)
    return LoggedRows(
        shown,
        action=np.append(np.asarray(episode.actions, np.int64) - first_action, 0),
        reward=np.append(np.asarray(episode.rewards, np.float32), np.float32(0.0)),
        terminated=np.append(np.asarray(episode.terminations, np.bool_), False),
        is_final=np.arange(len(shown)) == len(shown) - 1,
    )
