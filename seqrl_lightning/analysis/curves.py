"""Curves of the greedy policy's return: in each block, from its start, over env steps, episodes, trials or updates."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.types import FloatArray, require

VALIDATION = "val/return_mean"
AXES = {"env_steps": "env steps", "episodes": "training episodes", "trials": "trials", "updates": "updates"}
"""The axes that curves can be drawn over, each with its label in figures."""
_ALIKE = 1.1  # conditions whose training differs by a smaller factor count as trained alike
_BUDGETS = {
    "episodes": ("agent", "max_episodes"),
    "env_steps": ("agent", "max_env_steps"),
    "updates": ("trainer", "max_steps"),
}


class Axis(NamedTuple):
    """The axis that curves are drawn over."""

    name: str  # one of AXES
    reason: str  # the reason for the choice, for a caption

    @property
    def label(self) -> str:
        """The words in figures."""
        return AXES[self.name]


def axis_of(runs: Sequence[Run], name: str | None) -> Axis:
    """Return the requested axis or, without one, the axis that runs share.

    Args:
        runs: Runs of all conditions.
        name: One of ``AXES``, or None.

    Raises:
        ConfigurationError: If there is no such axis, or the runs have no trials to count.
    """
    if name is None:
        return shared_axis(runs)
    counts_trials = all(run.trials is not None for run in runs)
    names = [axis for axis in AXES if axis != "trials" or counts_trials]
    why = "" if counts_trials else " (the task does not state which action is right, so there are no trials)"
    require(name in names, "--axis", name, f"one of {', '.join(names)}{why}")
    return Axis(name, "as asked for")


def shared_axis(runs: Sequence[Run]) -> Axis:
    """Choose the axis on which runs can be compared: the one on which all of them had the same budget.

    Over another axis, such as env steps if episodes differ in length, a condition can look slow merely because its
    episodes are long.

    Args:
        runs: Runs of all conditions.
    """
    for name, (section, setting) in _BUDGETS.items():
        budgets = {_budget(run, section, setting) for run in runs}
        if len(budgets) == 1 and (budget := budgets.pop()) not in (None, -1):
            return Axis(name, f"all runs had a budget of {budget:g} {AXES[name]}")
    return Axis("env_steps", "the runs have no budget in common")


def _budget(run: Run, section: str, setting: str) -> float | None:
    """Return a run's budget on an axis by its config; None or -1 if it has none."""
    found: float | None = run.config.get(section, {}).get(setting)
    is_number = found is None or isinstance(found, int | float)
    require(is_number, f"{section}.{setting} in {run.folder / 'config.yaml'}", found, "a number")
    return found


def unfinished(run: Run) -> str | None:
    """Describe the progress of a run that hasn't reached its budget: its last value may not be its final one.

    Returns:
        Words like ``41 of 115 training episodes``; None if it reached one of its budgets, or has none.
    """
    last_logged = run.curve("workload/updates")
    reached = {"episodes": len(run.episodes)}
    if len(last_logged):
        reached |= {"env_steps": int(last_logged.index[-1]), "updates": int(last_logged.iloc[-1])}
    budgets = {name: _budget(run, section, setting) for name, (section, setting) in _BUDGETS.items()}
    known = {name: budget for name in reached if (budget := budgets[name]) is not None and budget != -1}
    if not known or any(reached[name] >= budget for name, budget in known.items()):
        return None
    name, budget = next(iter(known.items()))
    return f"{reached[name]} of {budget} {AXES[name]}"


def evaluations(run: Run, axis: str) -> pd.DataFrame:
    """Return a run's evaluations, each under the rule of the current block, aligned to the start of that block.

    Args:
        run: A run.
        axis: One of ``AXES``.

    Returns:
        A row for each evaluation: ``block``; ``x``, how much of the axis has passed since the block's start;
        ``return``, the mean return of the greedy policy under the block's rule; and ``end``, the x at which the run's
        block ended, infinite if the run ended in it.
    """
    several = run.facts.num_blocks > 1
    starts = block_starts(run.episodes, run.facts.num_blocks)
    tables = []
    for block, (start, end) in enumerate(zip(starts, [*starts[1:], np.inf], strict=True)):
        curve = run.curve(f"val/block_{block}/return_mean" if several else VALIDATION)
        curve = curve[(curve.index >= start) & (curve.index < end)]
        before, until = amount_at(run, axis, np.array([start, end]))
        x = amount_at(run, axis, curve.index.to_numpy()) - before
        last_x = until - before if np.isfinite(end) else np.inf
        tables.append(pd.DataFrame({"block": block, "x": x, "return": curve.to_numpy(), "end": last_x}))
    return pd.concat(tables, ignore_index=True)


def curves_of_block(tables: Sequence[pd.DataFrame], block: int) -> list[pd.Series]:
    """Return the curve in a block, over x, of each run that was evaluated in it.

    Args:
        tables: The :func:`evaluations` of each run.
        block: The block.

    Returns:
        A series over x for each of these runs. Where the run's block ended, and another rule began, its last value is
        NaN.
    """
    of_block = [table[table["block"] == block] for table in tables]
    return [_up_to_its_end(table) for table in of_block if not table.empty]


def _up_to_its_end(table: pd.DataFrame) -> pd.Series:
    curve, end = table.set_index("x")["return"], table["end"].iloc[0]
    return pd.concat([curve, pd.Series({end: np.nan})]) if np.isfinite(end) else curve


def _block_end(curves: Sequence[pd.Series]) -> float:
    """The x at which the first of the blocks ended; infinite if all runs ended in theirs."""
    return min(float(curve.index[-1]) if np.isnan(curve.iloc[-1]) else np.inf for curve in curves)


def block_starts(episodes: pd.DataFrame, num_blocks: int) -> list[float]:
    """Return the env step at which each block began in all environments: the end of the last episode before it.

    Args:
        episodes: A run's ``episodes.csv``.
        num_blocks: Number of blocks of the task.

    Returns:
        [num_blocks] float; infinite for blocks that never began.
    """
    if num_blocks == 1:  # a "block" of a task without blocks means something else
        return [0.0]
    last = episodes["block"].max()
    ends = [episodes["env_steps"][episodes["block"] < block].max() for block in range(1, num_blocks)]
    return [0.0, *(float(end) if block <= last else np.inf for block, end in enumerate(ends, 1))]


def amount_at(run: Run, axis: str, env_steps: FloatArray) -> FloatArray:
    """Return how much of an axis a run had passed after some env steps.

    Args:
        run: A run.
        axis: One of ``AXES``. Trials are the choices for which an action was right, and updates are counted to the
            last time that they were logged.
        env_steps: [K] float.

    Returns:
        [K] float64.
    """
    if axis == "env_steps":
        return np.asarray(env_steps, float)
    if axis == "episodes":
        return np.searchsorted(run.episodes["env_steps"], env_steps, side="right").astype(float)
    if axis == "trials":
        assert run.trials is not None  # its rows are the env steps, in their order
        counts = np.append(0, np.cumsum(run.trials["correct_action"] >= 0))
        return np.asarray(counts[np.clip(env_steps, 0, len(counts) - 1).astype(int)], float)
    updates = run.curve("workload/updates")
    return np.asarray(np.interp(env_steps, [0.0, *updates.index], [0.0, *updates]))


def on_grid(curves: Sequence[pd.Series]) -> pd.DataFrame:
    """Put the curves of a condition's runs on one grid; between two evaluations, the earlier one holds.

    A run that ended keeps its last value, because its policy changes no more. So the mean at the end is the mean of all
    runs, and not of the longest ones or of the time before the shortest one ended. But a block that ended keeps
    nothing, because the policy then learns another rule.

    Args:
        curves: The curve of each run (:func:`curves_of_block`).

    Returns:
        A row for each x at which a run was evaluated, from the first one that all runs have reached to the end of the
        shortest block; a column for each run.
    """
    grid = np.unique(np.concatenate([curve.index.to_numpy(float) for curve in curves]))
    grid = grid[(grid >= max(curve.index.min() for curve in curves)) & (grid < _block_end(curves))]
    columns = [curve.to_numpy()[np.searchsorted(curve.index, grid, side="right") - 1] for curve in curves]
    return pd.DataFrame(np.transpose(columns), index=pd.Index(grid, name="x"))


class Stretch(NamedTuple):
    """The part of an axis over which the curves of all runs are averaged."""

    start: float  # the first evaluation that all runs have reached
    end: float  # the end of the shortest block or, if all runs ended in theirs, the last evaluation of any run


def common_stretch(curves: Mapping[str, Sequence[pd.Series]]) -> Stretch | None:
    """Return the stretch that all runs have in common.

    Args:
        curves: The curve of each run of each condition (:func:`curves_of_block`).

    Returns:
        None if the runs of a condition have a single value in it, or none: its mean would be no mean over training.
    """
    every = [curve for of_one in curves.values() for curve in of_one]
    start, end = max(curve.index.min() for curve in every), _block_end(every)
    if not np.isfinite(end):
        end = max(curve.index.max() for curve in every)
    for of_one in curves.values():
        if not any(((curve.index > start) & (curve.index <= end) & curve.notna()).any() for curve in of_one):
            return None
    return Stretch(float(start), float(end))


def mean_over_training(curves: Mapping[str, Sequence[pd.Series]], stretch: Stretch) -> dict[str, FloatArray]:
    """Average each run's curve over a stretch of the axis: the area under the curve, divided by its length.

    Args:
        curves: The curve of each run of each condition (:func:`curves_of_block`).
        stretch: Their :func:`common_stretch`.

    Returns:
        [runs] float64 for each condition.
    """
    every = on_grid([curve for of_one in curves.values() for curve in of_one])
    widths = np.diff(every.index.to_numpy(), append=stretch.end)
    means = (every.to_numpy() * widths[:, None]).sum(0) / widths.sum()
    ends = np.cumsum([len(of_one) for of_one in curves.values()])[:-1]
    return dict(zip(curves, np.split(means, ends), strict=True))


def note_on_training(groups: Mapping[str, Sequence[Run]]) -> str:
    """Return the sentence that some conditions trained more than others; empty where all trained alike.

    With as many episodes, conditions with longer ones have more env steps and updates to learn from.

    Args:
        groups: Runs by condition.
    """
    differing = []
    for axis in _BUDGETS:
        amounts = {name: float(np.median([_trained(run, axis) for run in runs])) for name, runs in groups.items()}
        least, most = min(amounts, key=amounts.__getitem__), max(amounts, key=amounts.__getitem__)
        if amounts[most] > _ALIKE * amounts[least]:
            differing.append(f"{AXES[axis]} from {amounts[least]:,.0f} ({least}) to {amounts[most]:,.0f} ({most})")
    if not differing:
        return ""
    return (
        f" Conditions differ in how much they trained (medians): {'; '.join(differing)}. A difference in what they "
        "learned may come from this."
    )


def _trained(run: Run, axis: str) -> float:
    """Return how much of an axis a run had by its end."""
    if axis == "episodes":
        return len(run.episodes)
    return float(amount_at(run, axis, np.array([run.episodes["env_steps"].max()]))[0])


def note_on_lengths(groups: Mapping[str, Sequence[Run]], axis: Axis) -> str:
    """Return the sentence that env steps favor conditions with short episodes; empty where they don't.

    Args:
        groups: Runs by condition.
        axis: The axis of the curves.
    """
    lengths = {pd.concat([run.episodes["episode_length"] for run in runs]).median() for runs in groups.values()}
    if axis.name != "env_steps" or len(lengths) == 1:
        return ""
    return (
        " Env steps count the steps of a delay too: in as many env steps, a condition with longer episodes has fewer "
        "episodes and trials."
    )
