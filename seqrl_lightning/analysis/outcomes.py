"""Outcomes: one number for each run, by which conditions are compared."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.analysis import definitions
from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.curves import (
    VALIDATION,
    Axis,
    block_starts,
    common_stretch,
    curves_of_block,
    evaluations,
    mean_over_training,
)
from seqrl_lightning.analysis.measures import (
    criterion_by_block,
    measure_episodes,
    probes_at,
    rank_transfer,
    trials_to_criterion,
)
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.statistics import (
    MIN_SEEDS,
    holm,
    permutation_test,
    probability_interval,
    probability_of_improvement,
    summarize,
)
from seqrl_lightning.analysis.survival import kaplan_meier, log_rank_test, probability_of_taking_longer
from seqrl_lightning.analysis.trials import counted_trials
from seqrl_lightning.functional import ERROR_KINDS, savings
from seqrl_lightning.types import BoolArray, FloatArray

EARLY_EPISODES = 10
"""Number of episodes after a switch in which interference is measured."""


class Outcome(NamedTuple):
    """A number for each run of each condition."""

    name: str
    values: Mapping[str, FloatArray]  # [runs], by condition; NaN where a run has none
    is_met: Mapping[str, BoolArray] | None = None  # for times to an event: whether it occurred, or the time is censored
    definition: str = ""  # for a caption
    note: str = ""  # for a caption: over which stretch of training a mean is taken
    incomparable: str = ""  # the reason why its numbers are not of the same thing in all runs; empty if they are


def is_complete(outcome: Outcome) -> bool:
    """Whether no run of the outcome is censored."""
    return outcome.is_met is None or all(met.all() for met in outcome.is_met.values())


def outcomes(groups: Groups, axis: Axis) -> list[Outcome]:
    """Measure all runs.

    Args:
        groups: Runs of one task, by condition.
        axis: The axis over which returns are averaged.

    Returns:
        The outcomes that the task allows, the speed of learning first.
    """
    return [*speed(groups), *returns(groups, axis), *behavior(groups)]


def why_left_out(outcome: Outcome) -> str:
    """Return the reason why conditions can't be compared by the outcome; empty if they can.

    Every run has to have a number: leaving out runs, such as those that never learned, would bias comparisons.
    """
    if outcome.incomparable or all(np.isfinite(values).all() for values in outcome.values.values()):
        return outcome.incomparable
    return "not every run has a number"


def speed(groups: Groups) -> list[Outcome]:
    """Measure episodes and trials to criterion in each block, and savings.

    There is none if the task doesn't state when it is mastered, and trials are counted only if it states which action
    is right.
    """
    if any(run.facts.mastery_return is None for runs in groups.values() for run in runs):
        return []
    tables = {name: [_criterion(run) for run in runs] for name, runs in groups.items()}
    units = [unit for unit in ("episodes", "trials") if all(unit in table for of in tables.values() for table in of)]
    num_blocks = shared_blocks(groups)
    found = [_to_criterion(unit, tables, block, num_blocks) for unit in units for block in range(num_blocks)]
    for block in range(1, num_blocks):
        found.append(
            _of_tables(f"savings in block {block}", tables, partial(savings_in, block=block), definitions.SAVINGS)
        )
    return found


def _criterion(run: Run) -> pd.DataFrame:
    table = criterion_by_block(run.episodes, run.facts)
    return table if run.trials is None else table.join(trials_to_criterion(table, run.trials))


def _to_criterion(unit: str, tables: Mapping[str, Sequence[pd.DataFrame]], block: int, num_blocks: int) -> Outcome:
    values, is_met = {}, {}
    for name, of_one in tables.items():  # a run that ended in an earlier block has no number
        values[name] = np.array([table[unit].get(block, np.nan) for table in of_one], float)
        is_met[name] = np.array([table["is_met"].get(block, False) for table in of_one], bool)
    return Outcome(f"{unit} to criterion{in_block(block, num_blocks)}", values, is_met)


def returns(groups: Groups, axis: Axis) -> list[Outcome]:
    """Measure the greedy policy's mean return over training, in each block, and its final one.

    There is none if no run was evaluated. A mean is NaN where the runs have no stretch of training in common.
    """
    final = {name: final_returns(runs) for name, runs in groups.items()}
    if all(np.isnan(values).all() for values in final.values()):
        return []
    num_blocks = shared_blocks(groups)
    curves = {name: [evaluations(run, axis.name) for run in runs] for name, runs in groups.items()}
    found = []
    for block in range(num_blocks):
        of_block = {name: curves_of_block(tables, block) for name, tables in curves.items()}
        found.append(_mean_return(groups, of_block, axis, in_block(block, num_blocks)))
    differing = different_rules(groups)
    return [*found, Outcome("final return", final, None, definitions.FINAL_RETURN, incomparable=differing)]


def _mean_return(groups: Groups, curves: Mapping[str, Sequence[pd.Series]], axis: Axis, where: str) -> Outcome:
    name = f"mean return over {axis.label}{where}"
    has_all = all(len(curves[condition]) == len(runs) for condition, runs in groups.items())
    stretch = common_stretch(curves) if has_all else None
    if stretch is None:
        missing = {condition: np.full(len(runs), np.nan) for condition, runs in groups.items()}
        return Outcome(name, missing, incomparable="the conditions have at most one evaluation in common")
    since, at_most = (
        (" since the start of the block", " (at most to the end of the shortest block)") if where else ("", "")
    )
    note = (
        f"The {name} is taken from the first evaluation that all runs have reached, after {stretch.start:,.0f} "
        f"{axis.label}{since}, to {stretch.end:,.0f}{at_most}; earlier training doesn't count."
    )
    if (first := min(float(curve.index[-1]) for of_one in curves.values() for curve in of_one)) < stretch.end:
        note += f" Runs that ended before, the first one after {first:,.0f}, keep their last value up to there."
    return Outcome(name, mean_over_training(curves, stretch), None, definitions.mean_return(axis.label), note)


def different_rules(groups: Groups) -> str:
    """Return words that say that runs ended under different rules; empty where all of them ended in one block."""
    last = {
        min(int(run.episodes["block"].max()), run.facts.num_blocks - 1)
        for runs in groups.values()
        for run in runs
        if run.facts.num_blocks > 1 and len(run.episodes)
    }
    if len(last) < 2:
        return ""
    return f"runs ended in different blocks ({min(last)} to {max(last)}), under different rules"


def final_returns(runs: Sequence[Run]) -> FloatArray:
    """Return the return in each run's last evaluation, under the rule of its last block.

    Returns:
        [runs] float64; NaN for a run that was not evaluated in that block.
    """
    return np.array([_final_return(run) for run in runs])


def _final_return(run: Run) -> float:
    begun = [start for start in block_starts(run.episodes, run.facts.num_blocks) if np.isfinite(start)]
    curve = run.curve(VALIDATION).loc[begun[-1] :]
    return float(curve.iloc[-1]) if len(curve) else np.nan


def behavior(groups: Groups) -> list[Outcome]:
    """Measure errors and the accuracy at the end; none if the task doesn't state which action is right."""
    tables = {name: [run.trials for run in runs if run.trials is not None] for name, runs in groups.items()}
    if any(len(tables[name]) < len(runs) for name, runs in groups.items()):
        return []
    facts = [run.facts for runs in groups.values() for run in runs]
    num_blocks, differing = shared_blocks(groups), different_rules(groups)
    found = []
    for block in range(num_blocks):
        name = f"fraction right in the last evaluation{in_block(block, num_blocks)}"
        measure = partial(_probed_accuracy, block=block if num_blocks > 1 else None)
        found.append(_of_runs(name, groups, measure, definitions.FRACTION_RIGHT))
    name = "share of choices that were errors"
    found.append(_of_tables(name, tables, _error_share, definitions.SHARE_OF_ERRORS, differing))
    if any(of_run.num_positions is None or of_run.num_objects is None for of_run in facts):
        return found
    measured = {
        name: [measure_episodes(run.trials, run.facts) for run in runs if run.trials is not None]
        for name, runs in groups.items()
    }
    for kind in ERROR_KINDS:
        name = f"share of {kind.replace('_', '-')} errors"
        found.append(_of_tables(name, measured, partial(_share_of, kind), definitions.SHARES_OF_KINDS, differing))
    for block in range(1, num_blocks):
        name = f"rank correlation with the previous order in block {block}"
        found.append(_of_runs(name, groups, partial(_transfer, block=block), definitions.RANK_CORRELATION))
    if all(of_run.order is not None for of_run in facts) and num_blocks > 1:
        name = f"share of errors by the previous order in the first {EARLY_EPISODES} episodes of a block"
        found.append(_of_tables(name, measured, _interference, definitions.PREVIOUS_ORDER, differing))
    return found


def compare(outcome: Outcome) -> pd.DataFrame:
    """Compare each two conditions by an outcome.

    Args:
        outcome: The outcome of at least two conditions, which every run has.

    Returns:
        A row for each pair: the conditions ``A`` and ``B``; ``n A`` and ``n B``, the number of their runs;
        ``A's middle`` and ``B's middle``, the interquartile mean or, for times, the Kaplan-Meier median; ``P(A > B)``,
        the probability that a run of A has more, with its interval ``lower`` and ``upper``; ``Cliff's delta``; the p
        value of the permutation test, ``p``, and ``p (Holm)``, adjusted for the number of pairs. Interval and p are NaN
        where a condition has fewer than five runs.
    """
    rows = [_compare_pair(outcome, ours, theirs) for ours, theirs in combinations(outcome.values, 2)]
    table = pd.DataFrame(rows)
    table["p (Holm)"] = holm(table["p"].to_numpy(float))
    table.insert(0, "outcome", outcome.name)
    return table


def _compare_pair(outcome: Outcome, ours: str, theirs: str) -> dict[str, object]:
    a, b = outcome.values[ours], outcome.values[theirs]
    row: dict[str, object] = {"A": ours, "B": theirs, "n A": len(a), "n B": len(b)}
    is_tested = min(len(a), len(b)) >= MIN_SEEDS
    if outcome.is_met is None:
        middles = [summarize(a).mean, summarize(b).mean]
        probability = probability_of_improvement(a, b)
        p = permutation_test(a, b) if is_tested else np.nan
    else:
        met, met_there = outcome.is_met[ours], outcome.is_met[theirs]
        middles = [kaplan_meier(a, met).median, kaplan_meier(b, met_there).median]
        probability = probability_of_taking_longer(a, met, b, met_there)
        p = log_rank_test(a, met, b, met_there) if is_tested else np.nan
    lower, upper = probability_interval(probability, len(a), len(b)) if is_tested else (np.nan, np.nan)
    row |= {"A's middle": middles[0], "B's middle": middles[1], "P(A > B)": probability, "lower": lower, "upper": upper}
    return row | {"Cliff's delta": 2 * probability - 1, "p": p}


def savings_in(criterion: pd.DataFrame, block: int) -> float:
    """Compute the savings in a block after the first (:func:`seqrl_lightning.functional.savings`).

    Args:
        criterion: A run's :func:`seqrl_lightning.analysis.measures.criterion_by_block`.
        block: The block.
    """
    episodes = criterion["episodes"].where(criterion["is_met"]).reindex([0, block])
    return float(savings(torch.from_numpy(episodes.to_numpy(float))))


def shared_blocks(groups: Groups) -> int:
    """Return the number of blocks that the tasks of all conditions have."""
    return min(run.facts.num_blocks for runs in groups.values() for run in runs)


def in_block(block: int, num_blocks: int) -> str:
    """Return the words that name a block; none if there is only one."""
    return f" in block {block}" if num_blocks > 1 else ""


def _of_runs(name: str, groups: Groups, measure: Callable[[Run], float], definition: str) -> Outcome:
    values = {condition: np.array([measure(run) for run in runs], float) for condition, runs in groups.items()}
    return Outcome(name, values, None, definition)


def _probed_accuracy(run: Run, block: int | None) -> float:
    """The accuracy in the last evaluation, of a block of a task that has several; NaN if the run has none in it."""
    if run.probes is None:
        return np.nan
    probes = probes_at(run.probes, "last")
    return float((probes if block is None else probes[probes["block"] == block])["is_right"].mean())


def _transfer(run: Run, block: int) -> float:
    """The rank correlation with the previous order; NaN if no order changes or the run never got there."""
    if run.trials is None or run.facts.order is None or not (run.trials["block"] == block).any():
        return np.nan
    return rank_transfer(run.trials, run.facts.order, block)[0]


def _of_tables(
    name: str,
    tables: Mapping[str, Sequence[pd.DataFrame]],
    measure: Callable[[pd.DataFrame], float],
    definition: str,
    incomparable: str = "",
) -> Outcome:
    values = {condition: np.array([measure(table) for table in of_one], float) for condition, of_one in tables.items()}
    return Outcome(name, values, None, definition, incomparable=incomparable)


def _error_share(trials: pd.DataFrame) -> float:
    return 1 - float(counted_trials(trials)["is_right"].mean())


def _interference(episodes: pd.DataFrame) -> float:
    early = episodes[episodes["block"] > 0].groupby("block").head(EARLY_EPISODES)
    return _share_of("previous_order", early) if len(early) else np.nan


def _share_of(kind: str, episodes: pd.DataFrame) -> float:
    return float(episodes[kind].sum() / episodes["choices"].sum())
