"""The choices of all subjects as arrays, read from a table with a row for each choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.trials import MAX_ACTIONS
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, IntArray, require

SUBJECT_COLUMNS = ("subject", "seed")
FOLD_COLUMNS = ("session", "block")
_NO_ACTION = -1  # how a table may mark a missed trial, beside an empty cell


class Trial(NamedTuple):
    """One choice of each of B subjects. A model reads it: the first columns before the choice, the others after it."""

    row: IntArray  # [B] int64: 0 to B - 1, to index what a model keeps for each subject
    state: IntArray  # [B] int64, numbered from 0 in the order in which the subject met them
    position: IntArray  # [B] int64: number of the choice in its episode, from 0
    set_size: IntArray  # [B] int64: number of different states in the block
    is_first: BoolArray  # [B] bool: whether an episode starts with it
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
    """The choices of N subjects, in their order; shorter histories are padded to the longest, T.

    Missed trials are not in it: they count for no likelihood, and teach nothing.
    """

    state: IntArray  # [T, N] int64
    position: IntArray  # [T, N] int64
    set_size: IntArray  # [T, N] int64
    is_first: BoolArray  # [T, N] bool
    allowed: BoolArray  # [T, N, A] bool
    action: IntArray  # [T, N] int64
    reward: Array  # [T, N] float64
    next_state: IntArray  # [T, N] int64
    is_last: BoolArray  # [T, N] bool
    correct_action: IntArray  # [T, N] int64; -1 where the table tells none
    fold: IntArray  # [T, N] int64: the session or block, numbered from 0
    is_choice: BoolArray  # [T, N] bool: false where a shorter history is padded
    subjects: tuple[str, ...]  # N names
    group: IntArray  # [N] int64: each subject's group
    groups: tuple[str, ...]  # names

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
        """The most choices of an episode."""
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


_COLUMNS = tuple(field.name for field in fields(Histories) if field.name not in ("subjects", "group", "groups"))


def read_histories(table: pd.DataFrame) -> Histories:
    """Read the choices of each subject.

    Args:
        table: A row for each choice, in their order, with the columns ``state``, ``action`` (numbered from 0) and
            ``reward``; a run's ``trials.csv`` is one. A row whose ``action`` is empty or -1 is a missed trial. Optional
            columns: ``subject`` (or ``seed``); ``group`` of the subject; ``episode`` (and ``env``), without which each
            choice is an episode; ``session`` or ``block``; ``correct_action``, -1 or empty where there is none;
            ``allowed``, the actions to choose from, like ``0 2``.

    Returns:
        The histories. Where episodes of several environments alternate, one comes after the other, as they began.

    Raises:
        ConfigurationError: If a column is missing or holds what it can't.
    """
    for column in ("state", "action", "reward"):
        require(column in table, "the table's columns", list(table.columns), "state, action, reward (and subject)")
    table = _chosen(table)
    actions = _whole_numbers(table["action"], 0, "an action in the table")
    rewards = pd.to_numeric(table["reward"], errors="coerce").to_numpy(float)
    invalid = table["reward"][~np.isfinite(rewards)].tolist()
    require(not invalid, "a reward in the table", invalid[:1], "a number")
    subject = _first_of(table, SUBJECT_COLUMNS, "all").astype(str)
    correct = pd.Series(-1, table.index)
    if "correct_action" in table:
        correct = pd.Series(_whole_numbers(table["correct_action"].fillna(-1), -1, "a correct_action in the table"))
    rows = pd.DataFrame(
        {
            "subject": subject.to_numpy(),
            "group": _first_of(table, ("group",), "all").astype(str).to_numpy(),
            "state": table["state"].astype(str).to_numpy(),
            "action": actions,
            "reward": rewards,
            "correct_action": correct.to_numpy(),
            "fold": pd.factorize(_first_of(table, FOLD_COLUMNS, "all"))[0],
            "episode": _episodes(table, subject),
        }
    )
    q_columns = sum(str(column).startswith("q_") for column in table)
    num_actions = max(int(actions.max()) + 1, int(correct.max()) + 1, q_columns)
    allowed = _allowed(table, actions, num_actions)
    order = rows.groupby(["subject", "episode"], sort=False).ngroup().sort_values(kind="stable").index
    return _padded(rows.loc[order].reset_index(drop=True), allowed[order])


def _chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in which an action was chosen."""
    is_missed = table["action"].isna() | (pd.to_numeric(table["action"], errors="coerce") == _NO_ACTION)
    table = table[~is_missed].reset_index(drop=True)
    if table[["state", "reward"]].isna().any(axis=None):
        raise ConfigurationError("the table has empty cells in state or reward; every choice needs both")
    require(len(table) > 0, "the number of choices in the table", 0, "at least 1")
    return table


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
                raise ConfigurationError(f"the table has empty cells in {name}; every choice needs one, or none has")
            return table[name]
    return pd.Series(otherwise, table.index)


def _episodes(table: pd.DataFrame, subject: pd.Series) -> IntArray:
    """Number the episodes, over all subjects; without the column, each choice is one."""
    if "episode" not in table:
        return np.arange(len(table))
    env = table["env"] if "env" in table else pd.Series(0, table.index)
    return np.asarray(table.groupby([subject, env, "episode"], sort=False, dropna=False).ngroup(), np.int64)


def _allowed(table: pd.DataFrame, actions: IntArray, num_actions: int) -> BoolArray:
    """Read which actions were there to choose from, [rows, A]; they may be more than were ever chosen."""
    if "allowed" not in table:
        return np.ones((len(table), num_actions), bool)
    numbers = table["allowed"].astype(str).str.split().explode()
    each = _whole_numbers(numbers, 0, "an action in allowed")
    allowed = np.zeros((len(table), max(num_actions, int(each.max()) + 1)), bool)
    allowed[numbers.index, each] = True
    invalid = np.flatnonzero(~allowed[np.arange(len(table)), actions])
    require(not len(invalid), "an action in the table", actions[invalid[:1]].tolist(), "one of those in allowed")
    return allowed


def _padded(rows: pd.DataFrame, allowed: BoolArray) -> Histories:
    """Lay out the rows, in which each subject's follow one another, as arrays."""
    by_subject = rows.groupby("subject", sort=False)
    in_episode = rows.groupby("episode", sort=False)
    rows["state"] = by_subject["state"].transform(lambda states: pd.factorize(states)[0]).astype(np.int64)
    rows["position"] = in_episode.cumcount()
    rows["is_first"] = rows["position"] == 0
    rows["is_last"] = in_episode.cumcount(ascending=False) == 0
    rows["next_state"] = rows["state"].where(rows["is_last"], rows["state"].shift(-1, fill_value=0)).astype(np.int64)
    rows["set_size"] = rows.groupby(["subject", "fold"])["state"].transform("nunique")
    rows["fold"] = by_subject["fold"].transform(lambda folds: pd.factorize(folds)[0])
    columns = by_subject.ngroup().to_numpy(), by_subject.cumcount().to_numpy()
    groups = by_subject["group"]
    require(bool((groups.nunique() == 1).all()), "group", "not the same in all rows of a subject", "the same")
    group, names = pd.factorize(groups.first().to_numpy(), sort=True)
    shape = int(columns[1].max()) + 1, by_subject.ngroups

    def laid_out(values: Array, padding: object) -> Array:
        array = np.full((*shape, *values.shape[1:]), padding, values.dtype)
        array[columns[1], columns[0]] = values
        return array

    padding = {"is_first": True, "is_last": True, "set_size": 1, "correct_action": -1}
    arrays = {
        name: laid_out(rows[name].to_numpy(), padding.get(name, 0))
        for name in _COLUMNS
        if name not in ("allowed", "is_choice")
    }
    return Histories(
        **arrays,
        allowed=laid_out(allowed, True),
        is_choice=laid_out(np.ones(len(rows), bool), False),
        subjects=tuple(rows["subject"].unique()),
        group=group.astype(np.int64),
        groups=tuple(str(name) for name in names),
    )
