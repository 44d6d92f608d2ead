"""Sections on returns: learning curves, final returns, training episodes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.chance import Chance
from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.curves import (
    VALIDATION,
    Axis,
    curves_of_block,
    evaluations,
    note_on_lengths,
    note_on_training,
)
from seqrl_lightning.analysis.definitions import FINAL_RETURN, GREEDY
from seqrl_lightning.analysis.outcomes import different_rules, final_returns
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.sections.agreement import (
    block_titles,
    by_value,
    facts_of,
    note_on_evaluations,
    num_runs_of,
    number_of_seeds,
    reference_lines,
)
from seqrl_lightning.analysis.statistics import SPREAD, summarize

_TOLERANCE_OF_CHANCE = 0.05
_ERRORS_OF_CHANCE = 4  # measured returns of random choices that differ by fewer standard errors count as one


def learning(groups: Groups, axis: Axis, chances: Mapping[str, Chance]) -> Section:
    """Learning curves, aligned to the start of each block, beside lines of mastery, memoryless policies and chance."""
    titles = block_titles(groups)
    tables = {name: [evaluations(run, axis.name) for run in runs] for name, runs in groups.items()}
    curves = _curves_by_block(tables, len(titles))
    if not curves:
        return Section("learning", "Learning", f"No run has logged {VALIDATION}.")
    xlabel = axis.label + (" since the start of the block" if len(titles) > 1 else "")
    facts = facts_of(groups)
    mastery = reference_lines("mastery", ":", {name: of_one.mastery_return for name, of_one in facts.items()})
    memoryless = reference_lines(
        "without memory", "--", {name: of_one.memoryless_return for name, of_one in facts.items()}
    )
    errors = [chance.error / max(1.0, abs(chance.mean_return)) for chance in chances.values()]
    tolerance = max([_TOLERANCE_OF_CHANCE, *(_ERRORS_OF_CHANCE * error for error in errors)])
    random = reference_lines(
        "random choices", "-.", {name: chance.mean_return for name, chance in chances.items()}, tolerance
    )
    figure = figures.draw_learning(
        curves, num_runs_of(groups), xlabel, [*mastery, *memoryless, *random], [titles[block] for block in curves]
    )
    evaluated = {block: {name: len(of_one) for name, of_one in of_block.items()} for block, of_block in curves.items()}
    ended = "A block's curve ends with the run's block, and the seeds' mean with the first of them to end. "
    text = (
        f"Return of the greedy policy under the current rule, over {axis.label} ({axis.reason}): the mean over the "
        f"{_episodes_of_evaluations(groups)} of each evaluation. {GREEDY}. Each seed (thin), and {SPREAD}; "
        f"{number_of_seeds(groups)}. Between two evaluations the earlier one holds, and a run that ended keeps its "
        f"last value. {ended if len(titles) > 1 else ''}"
        "Random choices: the mean return of playing the task at random."
        + note_on_evaluations(evaluated, groups)
        + (note_on_lengths(groups, axis) or note_on_training(groups))
    )
    if mastery:
        text += " Mastery: the task's best expected return or, failing that, the threshold that it is registered with."
    if memoryless:
        text += " Without memory: the best expected return of a policy that sees the current observation only."
    data = pd.concat(
        table.assign(condition=name, seed=run.seed)
        for name, runs in groups.items()
        for run, table in zip(runs, tables[name], strict=True)
    )
    return Section("learning", "Learning", text, figure, None, data[["condition", "seed", "block", "x", "return"]])


def _episodes_of_evaluations(groups: Groups) -> str:
    """State how many episodes an evaluation has; the config of another program's run may not state it."""
    counts = by_value({name: runs[0].config["data"].get("eval_episodes") for name, runs in groups.items()})
    if len(counts) > 1 or None in counts:
        return "episodes"
    (count,) = counts
    return f"{count} episode{'s' * (count != 1)}"


def _curves_by_block(
    tables: Mapping[str, Sequence[pd.DataFrame]], num_blocks: int
) -> dict[int, dict[str, list[pd.Series]]]:
    """Return the curves of each block, by condition; without what has none."""
    curves = {}
    for block in range(num_blocks):
        of_block = {name: curves_of_block(of_one, block) for name, of_one in tables.items()}
        curves[block] = {name: of_one for name, of_one in of_block.items() if of_one}
    return {block: of_block for block, of_block in curves.items() if of_block}


def returns(groups: Groups) -> Section:
    """Final returns: the interquartile mean with its interval or range, and the return of each seed."""
    rows = {}
    for name, runs in groups.items():
        scores = final_returns(runs)
        summary = summarize(scores)
        middle = (np.nan,) * 3 if different_rules({name: runs}) else (summary.mean, summary.lower, summary.upper)
        spread = "95 % interval" if summary.is_interval else "range"
        seeds = ", ".join("-" if np.isnan(score) else f"{score:.4g}" for score in scores)
        rows[name] = (summary.num_runs, *middle, spread, seeds)
    columns = ["n", "interquartile mean", "lower", "upper", "lower to upper", "each seed"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    if not table["n"].any():
        return Section("returns", "Final return", f"No run has logged {VALIDATION}.")
    text = (
        f"{FINAL_RETURN} {GREEDY}. Shown are {SPREAD}; with fewer seeds, their range. The final policy is evaluated, "
        "not the best one during training."
    )
    if differing := different_rules(groups):
        text += f" The {differing}: their final returns can't be compared."
    return Section("returns", "Final return", text, None, table)


def episodes(runs: Sequence[Run]) -> Section:
    """Return and length of the first run's training episodes."""
    run = runs[0]
    text = (
        f"Return and length of every training episode of seed {run.seed}, in the order in which they ended. A dashed "
        "line marks each switch of the rule."
    )
    figure = figures.draw_episodes(run.episodes, run.facts.block_names if run.facts.num_blocks > 1 else None)
    return Section("episodes", "Training episodes", text, figure, None, run.episodes)
