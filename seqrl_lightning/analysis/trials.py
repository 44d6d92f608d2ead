"""The table of trials, with columns derived from it: episode numbers, serial positions and kinds of errors.

A trial is one choice: a row of ``trials.csv`` (:class:`seqrl_lightning.callbacks.trials.Trial`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.errors import needs_extra, refused_in_a_line
from seqrl_lightning.functional import ERROR_KINDS, error_kinds
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import Choices, ConfigurationError, IntArray, require

MAX_ACTIONS = 1000
"""The largest number of actions of a table, since results have an entry for each, chosen or not."""

EPISODE_COLUMNS = ("subject", "seed", "session", "block", "env", "episode")
"""The columns that identify an episode, where a table has them; each subject, session or block may number its own."""

_LARGEST_NUMBER, _LARGEST_COUNT = 1e150, 2**53

RIGHT, WRONG, UNCOUNTED = "right", "wrong", "uncounted"


def read_table(path: Path, numbers: Sequence[str], counts: Sequence[str] = (), **options: Any) -> pd.DataFrame:
    """Read a CSV file, which a stranger may have written.

    Args:
        path: The file.
        numbers: Columns that have to be there, with a finite number in every row, whose square is finite, too.
        counts: Columns that have to be there, with a whole number from 0 on in every row.
        options: Further arguments of ``pandas.read_csv``.

    Raises:
        ConfigurationError: If it isn't a table, has no rows, or lacks one of the columns in this form.
    """
    with refused_in_a_line(str(path)):
        table = pd.read_csv(path, compression=None, **options)
    require_numbers(table, path, numbers, counts)
    return table


def read_parquet(path: Path, max_gib: float) -> pd.DataFrame:
    """Read a Parquet file, which a stranger may have written; dictionaries of values become plain columns.

    Args:
        path: The file.
        max_gib: One that unfolds to more is refused.

    Raises:
        ConfigurationError: If it isn't one, or is too large.
    """
    with needs_extra("parquet"):
        from pyarrow import parquet
    with refused_in_a_line(str(path)):
        file = parquet.ParquetFile(path)
        groups = (file.metadata.row_group(k) for k in range(file.metadata.num_row_groups))
        claimed, limit = sum(group.total_byte_size for group in groups), max_gib * 2**30
        require(claimed <= limit, f"the bytes that {path} unfolds to", claimed, f"at most {limit:.0f}")
        table: pd.DataFrame = file.read().to_pandas(ignore_metadata=True)
    plain = {name: column.cat.categories.dtype for name, column in table.select_dtypes("category").items()}
    return table.astype(plain)


def require_numbers(table: pd.DataFrame, path: Path, numbers: Sequence[str], counts: Sequence[str] = ()) -> None:
    """Refuse a table without rows, or without a number in every row of some columns.

    Args:
        table: The table.
        path: Its file.
        numbers: Columns of finite numbers whose squares are finite, too.
        counts: Columns of whole numbers from 0 on.

    Raises:
        ConfigurationError: If a row, a column or a number is missing.
    """
    must_be = f"a table with rows and {', '.join((*counts, *numbers))}"
    require({*counts, *numbers} <= set(table), f"the columns of {path}", list(table), must_be)
    if not len(table):
        raise ConfigurationError(f"{path} has no rows; the run must have got as far as the first of them")
    for name in (*counts, *numbers):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        fits = np.abs(values) < _LARGEST_NUMBER
        if name in counts:
            fits = (values >= 0) & (values <= _LARGEST_COUNT) & (values == np.floor(values))
        invalid = table[name][~fits]
        must_be = f"a {'whole number from 0 on' if name in counts else 'number'} in every row"
        require(invalid.empty, f"{name} in {path}", invalid.iloc[:1].tolist(), must_be)


def require_observations(trials: pd.DataFrame) -> None:
    """Refuse a table of a run whose ``state`` doesn't hold observations of one shape, as JSON.

    Raises:
        ValueError: If it doesn't.
    """
    if "state" not in trials:
        return
    shapes = {_shapes_in(json.loads(text)) for text in trials["state"].cat.categories}
    if trials["state"].isna().any() or len(shapes) != 1 or None in shapes:
        raise ValueError("its column state doesn't hold an observation in every row, of the same shape in all of them")


def _shapes_in(state: object) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """Return the name and the shape of each part of an observation, "" for an array; None if it isn't of numbers."""
    parts = state if isinstance(state, dict) else {"": state}
    arrays = {name: np.array(part) for name, part in parts.items()}
    if not arrays or any(array.dtype.kind not in "biuf" for array in arrays.values()):
        return None
    return tuple((name, array.shape) for name, array in sorted(arrays.items()))


def number_episodes(table: pd.DataFrame) -> IntArray:
    """Number the episodes of a table in the order in which they begin.

    Args:
        table: A table with a row for each choice, with any of :data:`EPISODE_COLUMNS`.

    Returns:
        ``[rows]`` int64: equal in the rows of an episode; from 0.
    """
    columns = [table[name] for name in EPISODE_COLUMNS if name in table]
    return np.asarray(table.groupby(columns, sort=False, dropna=False).ngroup(), np.int64)


def read_trials(path: Path, facts: TaskFacts, needs_right: bool = True) -> pd.DataFrame:
    """Read a table of trials and add columns.

    Args:
        path: ``trials.csv`` or ``predictions.csv``, or a table of people's or animals' choices with the columns
            ``episode``, ``trial``, ``action``, ``correct_action`` and, optionally, ``subject``, ``session``, ``env``,
            ``block``, ``state``, ``terminated``, ``truncated``. Episodes may be numbered separately for each of them.
        facts: Facts about the task.
        needs_right: Whether ``correct_action`` must be stated; where it needn't and isn't, it is -1.

    Returns:
        The table with these columns in addition:

        - ``number``: the episode's number, from 0, over all environments, in the order in which episodes ended.
        - ``position``: how many objects of the sequence had been picked, from the state; for tasks that don't show it,
          the number of answers that the episode had seen.
        - ``is_right``: whether the right action was chosen.
        - ``outcome``: ``right``, or one of :data:`seqrl_lightning.functional.ERROR_KINDS` (``wrong`` for tasks without
          an order of objects). ``uncounted`` where no action was right or wrong, and in episodes that did not end.
    """
    numbers = ("episode", "action", *(["correct_action"] if needs_right else []))
    trials = read_table(path, numbers, dtype={"state": "category"})
    if not needs_right:
        trials["correct_action"] = trials["correct_action"].fillna(-1) if "correct_action" in trials else -1
        require_numbers(trials, path, ("correct_action",))
    for name in ("action", "correct_action"):
        largest = int(trials[name].max())
        require(largest < MAX_ACTIONS, f"{name} in {path}", largest, f"below {MAX_ACTIONS}")
    episode = number_episodes(trials)
    for column in ("env", "block"):
        trials[column] = trials[column].fillna(0).astype(int) if column in trials else 0
    if facts.num_blocks == 1:
        trials["block"] = 0  # info["block"] of a task without num_blocks means something else
    trials["number"] = pd.Series(episode, trials.index).map(_order_of_ends(episode))
    trials["position"] = _positions(trials, facts.num_positions)
    trials["is_right"] = trials["action"] == trials["correct_action"]
    trials["outcome"] = np.where(trials["is_right"], RIGHT, WRONG)
    trials.loc[(trials["correct_action"] < 0) | ~has_ended(trials), "outcome"] = UNCOUNTED
    if facts.num_positions is not None and facts.num_objects is not None:
        counted = counted_trials(trials)
        kinds = error_kinds(choices_of(trials), facts.num_objects).numpy()
        is_error = kinds >= 0
        trials.loc[counted.index[is_error], "outcome"] = np.array(ERROR_KINDS)[kinds[is_error]]
    return trials


def shows_position(path: Path) -> bool:
    """Whether the states in a table of trials can begin with the serial position: plain lists, not stacks or parts."""
    first = pd.read_csv(path, nrows=1)
    if "state" not in first:
        return False
    states = [json.loads(text) for text in first["state"]]
    return not any(isinstance(state, dict) or any(isinstance(value, list) for value in state) for state in states)


def with_observation_columns(trials: pd.DataFrame, facts: TaskFacts) -> pd.DataFrame:
    """Replace ``state``, which holds observations as JSON lists, by a column for each of their numbers.

    Args:
        trials: The table of trials.
        facts: Facts about the task.

    Returns:
        The table with the columns ``at_position_1`` and so on for the serial position that an observation begins with,
        and ``observation_1`` and so on for what follows. The table as it is if observations are not vectors.
    """
    if "state" not in trials:
        return trials
    states = [json.loads(text) for text in trials["state"].cat.categories]
    if not all(isinstance(state, list) and not any(isinstance(value, list) for value in state) for state in states):
        return trials
    num_positions = facts.num_positions or 0
    size = len(states[0])
    if size < num_positions:
        return trials
    names = [f"at_position_{k + 1}" for k in range(num_positions)]
    names += [f"observation_{k + 1}" for k in range(size - num_positions)]
    columns = pd.DataFrame(np.array(states)[trials["state"].cat.codes], index=trials.index, columns=names)
    return pd.concat([trials.drop(columns="state"), columns], axis=1)


def accuracy_of_probes(path: Path, facts: TaskFacts) -> pd.DataFrame:
    """Measure the fraction of right choices at each serial position in each evaluation.

    Args:
        path: ``probes.csv``.
        facts: Facts about the task.

    Returns:
        A row for each evaluation, by its ``env_steps``, and a column for each position, from 0; NaN where there were no
        choices. Empty if no episode ended.
    """
    if not shows_position(path):
        facts = facts._replace(num_positions=None)
    counted = counted_trials(read_trials(path, facts))
    return counted.groupby(["env_steps", "position"])["is_right"].mean().unstack("position")


def counted_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials in which an action was right, of whole episodes, one episode after the other."""
    return trials[trials["outcome"] != UNCOUNTED].sort_values("number", kind="stable")


def choices_of(trials: pd.DataFrame) -> Choices:
    """The counted trials as choices, in the order of :func:`counted_trials`."""
    counted = counted_trials(trials)
    names = ("env", "block", "position", "action", "correct_action")
    columns = {name: torch.from_numpy(counted[name].to_numpy(np.int64)) for name in names}
    return Choices(episode=torch.from_numpy(pd.factorize(counted["number"])[0]), **columns)


def _order_of_ends(episode: IntArray) -> dict[int, int]:
    """Map each episode to its place in the order in which episodes have their last row."""
    last_rows = pd.Series(np.arange(len(episode))).groupby(episode).max()
    return {int(e): place for place, e in enumerate(last_rows.sort_values().index)}


def has_ended(trials: pd.DataFrame) -> pd.Series:
    """Whether each trial's episode ended; all did in tables that don't state it."""
    ends = [trials[column].astype(bool) for column in ("terminated", "truncated") if column in trials]
    if not ends:
        return pd.Series(True, index=trials.index)
    return pd.concat(ends, axis=1).any(axis=1).groupby(trials["number"]).transform("any")


def _positions(trials: pd.DataFrame, num_positions: int | None) -> pd.Series:
    """The serial position of each trial; -1 before the first answer that counts."""
    if num_positions is None:
        counts = trials["correct_action"] >= 0
        return counts.groupby(trials["number"]).cumsum() - 1
    position_of = {text: int(np.argmax(json.loads(text)[:num_positions])) for text in trials["state"].cat.categories}
    return trials["state"].map(position_of).astype(int)
