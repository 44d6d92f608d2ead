"""Tables of trials, from this package or others, as steps to learn from."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.trials import MAX_ACTIONS, number_episodes, read_parquet, read_table, require_numbers
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.replay.logged import LoggedRows
from seqrl_lightning.types import Array, BoolArray, IntArray, require

_NUMBERS = ("episode", "action", "reward")
_VALUE_COLUMN = re.compile(r"q_(\d+)")


def read_steps(path: Path, max_gib: float) -> pd.DataFrame:
    """Read a table of steps, CSV or Parquet.

    Args:
        path: The table.
        max_gib: Parquet that unfolds to more is refused.

    Returns:
        Its rows, each episode's in a row and in its order, with the episode's ``number`` in addition.

    Raises:
        ConfigurationError: If it can't be read, or a column is missing.
    """
    if path.suffix == ".parquet":
        table = read_parquet(path, max_gib)
        require_numbers(table, path, _NUMBERS)
    else:
        table = read_table(path, _NUMBERS)
    must_be = "a table with state: the observation before each choice, as trials.csv has it"
    require("state" in table, f"the columns of {path}", list(table), must_be)
    for name in ("trial", "terminated", "truncated"):
        if name in table:
            require_numbers(table, path, (name,))
    table["number"] = number_episodes(table)
    return table.sort_values(["number", "trial"] if "trial" in table else ["number"], kind="stable", ignore_index=True)


def stated_actions(table: pd.DataFrame) -> int | None:
    """Return a table's number of actions by its columns ``q_0``, ``q_1`` and so on; None without any."""
    return sum(_VALUE_COLUMN.fullmatch(str(name)) is not None for name in table) or None


def rows_of(
    table: pd.DataFrame, path: Path, n_actions: int, obs_shape: tuple[int, ...] | None, obs_dtype: str | None
) -> LoggedRows:
    """Return the rows of the replay memory that a table stands for.

    Args:
        table: From :func:`read_steps`.
        path: Its file, for errors.
        n_actions: Number of actions.
        obs_shape: Shape of an observation; None for that of the table's.
        obs_dtype: NumPy's name of its dtype; None for float32, or uint8 where the table holds arrays of such numbers.

    Raises:
        ConfigurationError: If a cell doesn't fit its column.
    """
    number = table["number"].to_numpy()
    is_last = np.append(number[1:] != number[:-1], True)
    terminated = _terminated(table, path, is_last)
    # An episode that terminated gets a final row, whose observation is unknown and not needed. In another one, the last
    # choice becomes the final row: its observation is the outcome of the choice before it.
    index = np.repeat(np.arange(len(table)), 1 + terminated)
    is_final = np.append(number[index][1:] != number[index][:-1], True)
    require(not is_final.all(), f"the number of steps in {path}", 0, "at least 1 whose next observation is known")
    mask = None
    if "action_mask" in table:
        mask = _by_row(table["action_mask"], path, "action_mask", (n_actions,), "bool")
    return LoggedRows(
        observation=_by_row(table["state"], path, "state", obs_shape, obs_dtype)[index],
        action=_actions(table, path, n_actions, mask)[index],
        reward=table["reward"].to_numpy(np.float32)[index],
        terminated=terminated[index] & ~is_final,
        is_final=is_final,
        action_mask=None if mask is None else mask[index],
    )


def _terminated(table: pd.DataFrame, path: Path, is_last: BoolArray) -> BoolArray:
    """Return which rows terminated their episode: by default, the last row of each."""
    if "terminated" not in table and "truncated" not in table:
        return is_last
    ends = [table[name].to_numpy(float) != 0 for name in ("terminated", "truncated") if name in table]
    early = np.flatnonzero(np.any(ends, axis=0) & ~is_last)
    must_be = "1 in an episode's last row alone; the columns episode, env, session and so on tell episodes apart"
    require(not early.size, f"terminated or truncated in {path}", 1, must_be)
    return ends[0] if "terminated" in table else np.zeros_like(is_last)


def _actions(table: pd.DataFrame, path: Path, n_actions: int, mask: BoolArray | None) -> IntArray:
    action = table["action"].to_numpy(float)
    is_one = (action == np.floor(action)) & (action >= 0) & (action < min(n_actions, MAX_ACTIONS))
    must_be = f"a whole number from 0 to {min(n_actions, MAX_ACTIONS) - 1}, one of the {n_actions} actions"
    require(bool(is_one.all()), f"action in {path}", table["action"][~is_one].iloc[:1].tolist(), must_be)
    chosen: IntArray = action.astype(np.int64)
    if mask is not None:
        is_allowed = mask[np.arange(len(chosen)), chosen]
        must_be = "one that action_mask allows in that row"
        require(bool(is_allowed.all()), f"action in {path}", chosen[~is_allowed][:1].tolist(), must_be)
    return chosen


def _by_row(column: pd.Series, path: Path, name: str, shape: tuple[int, ...] | None, dtype: str | None) -> Array:
    """Return the arrays in a column of lists, or of their JSON, ``[M, *shape]``."""
    is_text = column.map(type).eq(str).to_numpy()
    codes, cells = pd.factorize(column) if is_text.all() else (np.arange(len(column)), column.to_numpy())
    require(bool((codes >= 0).all()), f"{name} in {path}", None, "a list of numbers in every row")
    arrays = [_array_in(cell, path, name, shape) for cell in cells]
    shape = arrays[0].shape if shape is None else tuple(shape)
    for array in arrays:
        require(array.shape == shape, f"the shape of {name} in {path}", array.shape, f"{shape} in every row")
    return _as_dtype(np.stack(arrays), path, name, dtype)[codes]


def _array_in(cell: object, path: Path, name: str, shape: Sequence[int] | None) -> Array:
    """Return the numbers in a cell; an observation with parts is packed."""
    try:
        values = json.loads(cell) if isinstance(cell, str) else cell
        if isinstance(shape, PackedShape):
            return as_observation(values, shape, "uint8")
        array = np.asarray(values.tolist() if isinstance(values, np.ndarray) else values)
        is_numbers = array.dtype.kind in "biuf" and array.size > 0 and array.ndim > 0 and bool(np.isfinite(array).all())
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        is_numbers = False
    require(is_numbers, f"{name} in {path}", str(cell)[:100], "a list of finite numbers, like [0.5, 1]")
    return array


def _as_dtype(arrays: Array, path: Path, name: str, dtype: str | None) -> Array:
    if dtype is None:
        is_picture = arrays.ndim > 2 and arrays.dtype.kind in "iu" and arrays.min() >= 0 and arrays.max() <= 255
        dtype = "uint8" if is_picture else "float32"
    with np.errstate(over="ignore", invalid="ignore"):
        cast = arrays.astype(dtype)
    is_same = np.isfinite(cast) if np.dtype(dtype).kind == "f" else cast == arrays
    require(bool(is_same.all()), f"{name} in {path}", arrays[~is_same][:1].tolist(), f"numbers that {dtype} can hold")
    return cast


def as_observation(values: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """Convert a table's JSON (a list, or an object with a list for each part) to an observation.

    Args:
        values: The decoded JSON.
        shape: Shape of the observation; of several parts, a :class:`~seqrl_lightning.parts.PackedShape`.
        dtype: NumPy's name of the dtype of one without parts.
    """
    if isinstance(shape, PackedShape):
        return shape.pack({name: np.asarray(part, shape.parts[name].dtype) for name, part in values.items()})
    return np.asarray(values, dtype)
