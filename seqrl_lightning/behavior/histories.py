"""The choices of all subjects as arrays, read from a table with a row for each choice."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.trials import EPISODE_COLUMNS, MAX_ACTIONS, number_episodes
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, FloatArray, IntArray, require

SUBJECT_COLUMNS = ("subject", "seed")
FOLD_COLUMNS = ("session", "block")
KEY_COLUMNS = (*EPISODE_COLUMNS, "trial")
"""The columns that identify a row."""
NO_ACTION = -1
"""The action of a missed trial; a table may have an empty cell instead."""


class Trial(NamedTuple):
    """One trial of each of B subjects. A model reads it: the first columns before the choice, the others after it."""

    row: IntArray  # [B] int64: 0 to B - 1, to index what a model keeps for each subject
    state: IntArray  # [B] int64, numbered from 0 in the order in which the subject met them
    position: IntArray  # [B] int64: number of the trial in its episode, from 0
    set_size: IntArray  # [B] int64: number of different states in the block
    is_first: BoolArray  # [B] bool: whether an episode starts with it
    follows_choice: BoolArray  # [B] bool: whether the trial before it in the episode was there, and not missed
    allowed: BoolArray  # [B, A] bool: the actions to choose from
    action: IntArray  # [B] int64; -1 before the choice
    reward: Array  # [B] float64
    next_state: IntArray  # [B] int64; the same state if the episode ends
    is_last: BoolArray  # [B] bool: whether the episode ends with it

    @property
    def chosen(self) -> tuple[IntArray, IntArray, IntArray]:
        """The index of the chosen action's value in an array ``[B, S, A]``."""
        return self.row, self.state, self.action


@dataclass(frozen=True)
class Histories:
    """The trials of N subjects, in their order; shorter histories are padded to the longest, T.

    Missed trials are steps of their episodes, but they count for no likelihood, and nothing is learned in them.
    """

    state: IntArray  # [T, N] int64
    position: IntArray  # [T, N] int64
    set_size: IntArray  # [T, N] int64
    is_first: BoolArray  # [T, N] bool
    follows_choice: BoolArray  # [T, N] bool
    allowed: BoolArray  # [T, N, A] bool
    action: IntArray  # [T, N] int64; -1 in missed trials
    reward: Array  # [T, N] float64
    next_state: IntArray  # [T, N] int64
    is_last: BoolArray  # [T, N] bool
    correct_action: IntArray  # [T, N] int64; -1 where the table states none
    fold: IntArray  # [T, N] int64: the session or block, numbered from 0
    table_row: IntArray  # [T, N] int64: the row in the table, from 0; -1 where a shorter history is padded
    subjects: tuple[str, ...]  # N names
    group: IntArray  # [N] int64: each subject's group
    groups: tuple[str, ...]  # names
    left_out: tuple[str, ...] = ()  # names of subjects of the table who made no choice

    @property
    def is_trial(self) -> BoolArray:
        """Whether there is a trial, [T, N]; false where a shorter history is padded."""
        return np.asarray(self.table_row >= 0)

    @property
    def is_choice(self) -> BoolArray:
        """Whether there is a trial that was not missed, [T, N]."""
        return np.asarray(self.is_trial & (self.action != NO_ACTION))

    @property
    def num_subjects(self) -> int:
        """N."""
        return len(self.subjects)

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.allowed.shape[-1])

    @property
    def num_states(self) -> int:
        """The most states of a subject."""
        return int(max(self.state.max(), self.next_state.max())) + 1

    @property
    def num_positions(self) -> int:
        """The most trials of an episode."""
        return int(self.position.max()) + 1

    @property
    def num_choices(self) -> IntArray:
        """Number of each subject's choices, [N] int64."""
        return np.asarray(self.is_choice.sum(0), np.int64)

    def take(self, subjects: Array) -> "Histories":
        """Select subjects, by their numbers [M]; one may be taken several times."""
        numbers = np.asarray(subjects)
        columns = {name: getattr(self, name)[:, numbers] for name in _COLUMNS}
        names = tuple(self.subjects[i] for i in numbers)
        return Histories(**columns, subjects=names, group=self.group[numbers], groups=self.groups)

    def with_columns(self, **columns: Array) -> "Histories":
        """Replace columns, ``[T, N]`` each."""
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return Histories(**(kept | columns))

    def trials(self, copies: int = 1) -> Iterator[Trial]:
        """Yield the trials in their order, each with all N subjects, ``copies`` times one after the other."""
        columns = {name: getattr(self, name) for name in Trial._fields if name != "row"}
        if copies > 1:
            columns = {name: np.tile(column, (1, copies, *[1] * (column.ndim - 2))) for name, column in columns.items()}
        row = np.arange(copies * self.num_subjects)
        for t in range(len(self.state)):
            yield Trial(row, **{name: column[t] for name, column in columns.items()})


_COLUMNS = tuple(
    field.name for field in fields(Histories) if field.name not in ("subjects", "group", "groups", "left_out")
)


def read_histories(table: pd.DataFrame) -> Histories:
    """Read the choices of each subject.

    Args:
        table: A row for each choice, in their order, with the columns ``state``, ``action`` (numbered from 0) and
            ``reward``; a run's ``trials.csv`` is one. A row whose ``action`` is empty or -1 is a missed trial. Optional
            columns: ``subject`` (or ``seed``); ``group`` of the subject; ``episode`` (and ``env``), without which each
            choice is an episode, and which may be renumbered in each session or block; ``session`` and ``block``;
            ``trial``, which must ascend in an episode; ``correct_action``, -1 or empty where there is none;
            ``allowed``, the actions to choose from, like ``0 2``.

    Returns:
        The histories. Where episodes of several environments alternate, one comes after the other, as they began.
        Subjects without a choice are left out.

    Raises:
        ConfigurationError: If a column is missing or holds what it can't.
    """
    for column in ("state", "action", "reward"):
        require(column in table, "the table's columns", list(table.columns), "state, action, reward (and subject)")
    table = table.reset_index(drop=True)
    is_missed = _is_missed(table)
    _require_order(table)
    subject = _first_of(table, SUBJECT_COLUMNS, "all").astype(str)
    actions = _whole_numbers(table["action"].mask(is_missed, 0), 0, "an action in the table")
    actions = np.where(is_missed, NO_ACTION, actions)
    correct = _whole_numbers(_column(table, "correct_action", NO_ACTION), NO_ACTION, "a correct_action in the table")
    rows = pd.DataFrame(
        {
            "table_row": np.arange(len(table)),
            "subject": subject,
            "group": _first_of(table, ("group",), "all").astype(str),
            "state": table["state"].astype(str).mask(table["state"].isna()),
            "action": actions,
            "reward": _rewards(table, is_missed),
            "correct_action": correct,
            "fold": pd.factorize(_first_of(table, FOLD_COLUMNS, "all"))[0],
            "block": table.groupby([_column(table, name, 0) for name in FOLD_COLUMNS], sort=False).ngroup(),
            "episode": number_episodes(table) if "episode" in table else np.arange(len(table)),
        }
    )
    q_columns = sum(re.fullmatch(r"q_\d+", str(column)) is not None for column in table)
    num_actions = max(int(actions.max()) + 1, int(correct.max()) + 1, q_columns)
    allowed = _allowed(table, actions, num_actions)
    has_choice = (~is_missed).groupby(subject).transform("any")
    left_out = tuple(subject[~has_choice].unique())
    rows = rows[has_choice]
    order = rows.groupby(["subject", "episode"], sort=False).ngroup().sort_values(kind="stable").index
    return _padded(rows.loc[order].reset_index(drop=True), allowed[order], left_out)


def _is_missed(table: pd.DataFrame) -> pd.Series:
    """Return which rows are missed trials."""
    is_missed = table["action"].isna() | (pd.to_numeric(table["action"], errors="coerce") == NO_ACTION)
    if table.loc[~is_missed, ["state", "reward"]].isna().any(axis=None):
        raise ConfigurationError("the table has empty cells in state or reward; every choice needs both")
    require(not is_missed.all(), "the number of choices in the table", 0, "at least 1")
    return is_missed


def _require_order(table: pd.DataFrame) -> None:
    """Refuse rows in another order than that of the trials, as far as the table numbers them.

    Numbers may begin again: without columns for sessions or episodes, those of the next one do.
    """
    if "trial" not in table:
        return
    trial = pd.to_numeric(table["trial"], errors="coerce")
    episode = number_episodes(table) if set(EPISODE_COLUMNS) & set(table) else np.zeros(len(table))
    before, least = trial.groupby(episode).shift(), trial.groupby(episode).transform("min")
    is_early = (trial < before) & (trial > least)
    found = [f"{trial[row]:g} after {before[row]:g}" for row in np.flatnonzero(is_early)[:1]]
    require(not found, "trial in the table", found, "ascending in each episode or session: sort the rows")


def _column(table: pd.DataFrame, name: str, empty: int) -> pd.Series:
    """Return a column with its empty cells filled; one that the table lacks is empty."""
    return table[name].fillna(empty) if name in table else pd.Series(empty, table.index)


def _rewards(table: pd.DataFrame, is_missed: pd.Series) -> FloatArray:
    """Read the rewards; 0 in missed trials."""
    rewards = pd.to_numeric(table["reward"].mask(is_missed, 0.0), errors="coerce").to_numpy(float)
    invalid = table["reward"][~np.isfinite(rewards)].tolist()
    require(not invalid, "a reward in the table", invalid[:1], "a number")
    return np.asarray(rewards)


def _whole_numbers(column: pd.Series, least: int, setting: str) -> IntArray:
    numbers = pd.to_numeric(column, errors="coerce")
    invalid = column[~((numbers >= least) & (numbers < MAX_ACTIONS) & (numbers % 1 == 0))].tolist()
    require(not invalid, setting, invalid[:1], f"a whole number from {least} to {MAX_ACTIONS - 1}")
    return np.asarray(numbers, np.int64)


def _first_of(table: pd.DataFrame, names: Sequence[str], otherwise: str) -> pd.Series:
    """Return the first of some columns that the table has; one without any entry is none."""
    for name in names:
        if name in table and not table[name].isna().all():
            if table[name].isna().any():
                raise ConfigurationError(f"the table has empty cells in {name}; every row needs one, or none has")
            return table[name]
    return pd.Series(otherwise, table.index)


def _allowed(table: pd.DataFrame, actions: IntArray, num_actions: int) -> BoolArray:
    """Read which actions were there to choose from, [rows, A]; they may be more than were ever chosen."""
    if "allowed" not in table:
        return np.ones((len(table), num_actions), bool)
    is_missed = actions == NO_ACTION
    stated = table["allowed"].mask(is_missed & table["allowed"].isna(), " ".join(map(str, range(num_actions))))
    numbers = stated.astype(str).str.split().explode()
    each = _whole_numbers(numbers, 0, "an action in allowed")
    allowed = np.zeros((len(table), max(num_actions, int(each.max()) + 1)), bool)
    allowed[numbers.index, each] = True
    invalid = np.flatnonzero(~is_missed & ~allowed[np.arange(len(table)), actions])
    require(not len(invalid), "an action in the table", actions[invalid[:1]].tolist(), "one of those in allowed")
    return allowed


def _numbered(values: pd.Series) -> IntArray:
    """Number values from 0, in the order in which they are met; an empty one is a value, too."""
    return np.asarray(pd.factorize(values, use_na_sentinel=False)[0], np.int64)


def _padded(rows: pd.DataFrame, allowed: BoolArray, left_out: tuple[str, ...]) -> Histories:
    """Lay out the rows, in which each subject's follow one another, as arrays."""
    by_subject = rows.groupby("subject", sort=False)
    in_episode = rows.groupby("episode", sort=False)
    rows["set_size"] = rows.groupby(["subject", "block"])["state"].transform("nunique").clip(lower=1)
    rows["state"] = by_subject["state"].transform(_numbered).astype(np.int64)
    rows["position"] = in_episode.cumcount()
    rows["is_first"] = rows["position"] == 0
    rows["follows_choice"] = ~rows["is_first"] & (rows["action"].shift() != NO_ACTION)
    rows["is_last"] = in_episode.cumcount(ascending=False) == 0
    rows["next_state"] = rows["state"].where(rows["is_last"], rows["state"].shift(-1, fill_value=0)).astype(np.int64)
    rows["fold"] = by_subject["fold"].transform(_numbered)
    columns = by_subject.ngroup().to_numpy(), by_subject.cumcount().to_numpy()
    groups = by_subject["group"]
    require(bool((groups.nunique() == 1).all()), "group", "not the same in all rows of a subject", "the same")
    group, names = pd.factorize(groups.first().to_numpy(), sort=True)
    shape = int(columns[1].max()) + 1, by_subject.ngroups

    def laid_out(values: Array, padding: object) -> Array:
        array = np.full((*shape, *values.shape[1:]), padding, values.dtype)
        array[columns[1], columns[0]] = values
        return array

    padding = {"is_first": True, "is_last": True, "set_size": 1, "correct_action": -1, "table_row": -1}
    arrays = {name: laid_out(rows[name].to_numpy(), padding.get(name, 0)) for name in _COLUMNS if name != "allowed"}
    return Histories(
        **arrays,
        allowed=laid_out(allowed, True),
        subjects=tuple(rows["subject"].unique()),
        group=group.astype(np.int64),
        groups=tuple(str(name) for name in names),
        left_out=left_out,
    )
