"""States of a network's units, step by step, with the labels of each step."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.files import write_bytes
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, FloatArray, IntArray

MOST_STEPS = 60
"""Later steps of an episode are written, but not analyzed."""

_MOST_ENDED = 0.1  # share of episodes that may end before the last step that is analyzed
_SHOWN = ("episode", "trial", "position", "item", "block", "context", "correct_action", "action", "reward", "delay")


class Observations(NamedTuple):
    """The observations of N episodes, side by side; zeros after an episode's end."""

    observation: Array  # [T, N, *obs]
    is_playing: BoolArray  # [T, N]

    def part(self, episodes: IntArray, num_steps: int) -> "Observations":
        """Return the first steps of some of the episodes."""
        return Observations(self.observation[:num_steps, episodes], self.is_playing[:num_steps, episodes])

    def by_step(self, columns: Array) -> Array:
        """Return what was computed for each of them, ``[T, N, ...]``, in a table's order: ``[M, ...]``."""
        in_order: Array = columns.swapaxes(0, 1)[self.is_playing.T]
        return in_order


@dataclass(frozen=True)
class States:
    """The states of a network in M steps.

    Attributes:
        name: The network's name.
        labels: ``[M]`` rows; see :func:`labels_of`.
        units: ``[M, U]`` float32, the numbers that the analyses read.
        seen: What the network saw in them.
        carried: ``[M, S, ...]`` float32, what the network carried out of the step (``Policy.state``); None of a network
            without memory.
        has_positions: Whether the task shows serial positions, which may be decoded.
    """

    name: str
    labels: pd.DataFrame
    units: FloatArray
    seen: Observations
    carried: FloatArray | None = None
    has_positions: bool = False


class Aligned(NamedTuple):
    """Episodes of one length, side by side: E of them, T steps each."""

    units: FloatArray  # [E, T, U] float64
    item: IntArray  # [E, T], -1 where there is none
    position: IntArray  # [E, T], the serial position; of a task without one, the step
    action: IntArray  # [E, T]
    kept: IntArray  # [E], the episodes' numbers among all of them, from 0

    @property
    def item_steps(self) -> list[int]:
        """The steps whose items can be decoded (:func:`is_decodable`)."""
        return [step for step in range(self.item.shape[1]) if is_decodable(self.item[:, step])]

    @property
    def reference_step(self) -> int:
        """The last step at which an item is shown: from there on, all of them have to be remembered."""
        return self.item_steps[-1]


def is_decodable(labels: IntArray, least: int = 10) -> bool:
    """Return whether labels, none of them -1, have at least two values, each ``least`` times."""
    counts = np.unique_counts(labels).counts
    return bool(labels.min() >= 0 and len(counts) > 1 and counts.min() >= least)


def ordered(trials: pd.DataFrame, num_episodes: int | None = None) -> pd.DataFrame:
    """Sort a table of :func:`~seqrl_lightning.analysis.trials.read_trials` by episode and step.

    Args:
        trials: The table.
        num_episodes: How many of the last episodes to keep; None for all of them.
    """
    if num_episodes is not None:
        trials = trials[trials["number"] > trials["number"].max() - num_episodes]
    trials = trials.sort_values(["number", "trial"] if "trial" in trials else "number", kind="stable")
    step = trials.groupby("number").cumcount()
    return trials.assign(trial=step).reset_index(drop=True)


def labels_of(trials: pd.DataFrame, facts: TaskFacts) -> pd.DataFrame:
    """Label each step of a table.

    Args:
        trials: A table of :func:`ordered`, M rows.
        facts: Facts about the task.

    Returns:
        ``[M]`` rows: ``episode``, ``trial`` (the step in it), ``position`` (the serial position), ``item`` (the symbol
        that is shown; -1 for none; of a task without symbols, the action), ``block``, ``context`` (-1 without one),
        ``correct_action``, ``action``, ``reward``, and ``delay`` (steps since the right item was last shown; -1 if it
        was not).
    """
    observations = _first_numbers(trials)
    num_symbols, num_contexts = facts.num_symbols or 0, facts.num_contexts or 0
    shown = _one_hot(observations, slice(num_symbols), num_symbols, len(trials))
    labels = pd.DataFrame({"episode": trials["number"].to_numpy(), "trial": trials["trial"].to_numpy()})
    for name in ("position", "block", "correct_action", "action"):
        labels[name] = trials[name].to_numpy(np.int64)
    labels["reward"] = trials["reward"].to_numpy(float) if "reward" in trials else np.nan
    labels["item"] = shown if (shown >= 0).any() else labels["action"]
    labels["context"] = _one_hot(observations, slice(-num_contexts, None), num_contexts, len(trials))
    labels["delay"] = delays(labels)
    return labels[list(_SHOWN)]


def _one_hot(observations: FloatArray | None, part: slice, size: int, count: int) -> IntArray:
    """Return the place of the 1 in a part of each observation; -1 for zeros, and for all if one isn't of this kind."""
    if observations is None or not size or observations.shape[1] < size:
        return np.full(count, -1)
    numbers = observations[:, part]
    is_one = np.isin(numbers, (0.0, 1.0)).all() and (numbers.sum(1) <= 1).all()
    return np.where(numbers.any(1) & is_one, numbers.argmax(1), -1)


def _first_numbers(trials: pd.DataFrame) -> FloatArray | None:
    """Return the observations of a table, ``[M, size]``; None if they are no vectors."""
    states = [json.loads(text) for text in trials["state"].cat.categories]
    is_vector = all(isinstance(state, list) and all(isinstance(x, int | float) for x in state) for state in states)
    return np.array(states, float)[trials["state"].cat.codes] if is_vector else None


def delays(labels: pd.DataFrame) -> IntArray:
    """Return the steps since the right item was last shown, ``[M]`` int64; -1 where it was not, or none is right.

    >>> table = pd.DataFrame({"episode": [0, 0, 0, 0], "item": [2, 1, -1, -1], "correct_action": [-1, -1, 2, 3]})
    >>> delays(table).tolist()
    [-1, -1, 2, -1]
    """
    found = np.full(len(labels), -1)
    last: dict[int, int] = {}
    columns = (labels[name].tolist() for name in ("episode", "item", "correct_action"))
    previous = None
    for row, (episode, item, right) in enumerate(zip(*columns, strict=True)):
        if episode != previous:
            last, previous = {}, episode
        if item >= 0:
            last[item] = row
        found[row] = row - last[right] if right in last else -1
    return found


def aligned(states: States) -> Aligned:
    """Lay episodes side by side, up to the last step that nearly all of them reach; shorter ones are left out.

    Raises:
        ConfigurationError: If there are fewer than 20 episodes.
    """
    labels = states.labels
    lengths = labels.groupby("episode").size()
    num_steps = min(int(lengths.quantile(_MOST_ENDED, interpolation="lower")), MOST_STEPS)
    kept = lengths.index[lengths >= num_steps]
    if len(kept) < 20:
        raise ConfigurationError(f"the number of episodes is {len(kept)}; it must be at least 20, to decode from some")
    is_used: BoolArray = (labels["episode"].isin(kept) & (labels["trial"] < num_steps)).to_numpy()
    shape = (len(kept), num_steps)
    used = labels[is_used]
    names = ("item", "position" if states.has_positions else "trial", "action")
    item, position, action = (used[name].to_numpy(np.int64).reshape(shape) for name in names)
    units = states.units[is_used].reshape(*shape, -1).astype(float)
    return Aligned(units, item, position, action, np.flatnonzero(lengths >= num_steps))


def write_arrays(states: States, path: Path) -> None:
    """Write labels, ``units`` and, of a network with memory, ``state`` as an ``.npz`` file."""
    arrays: dict[str, Any] = {name: states.labels[name].to_numpy() for name in states.labels}
    arrays["units"] = states.units
    if states.carried is not None:
        arrays["state"] = states.carried
    contents = io.BytesIO()
    np.savez_compressed(contents, **arrays)
    write_bytes(path, contents.getvalue())


def table_of(networks: Sequence[States]) -> pd.DataFrame:
    """Return the labels and units of all networks as one table, beside the column ``network``."""
    tables = []
    for states in networks:
        names = [f"unit_{k}" for k in range(states.units.shape[1])]
        table = pd.concat([states.labels, pd.DataFrame(states.units, columns=names)], axis=1)
        table.insert(0, "network", states.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
