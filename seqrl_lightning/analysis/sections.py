"""The sections of a report: each function makes one section from runs of one task, by their condition."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.chance import Chance, chance_of
from seqrl_lightning.analysis.conditions import Groups, settings_of
from seqrl_lightning.analysis.curves import VALIDATION, Axis, curves_of_block, evaluations, unfinished
from seqrl_lightning.analysis.measures import (
    accuracy_by_position,
    action_values,
    confusion,
    criterion_by_block,
    error_shares,
    has_one_order,
    measure_episodes,
    probes_at,
    rank_transfer,
    swap_inference,
)
from seqrl_lightning.analysis.outcomes import final_returns, savings_in
from seqrl_lightning.analysis.report import Section, written_by
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.statistics import MIN_SEEDS, interquartile_mean, kaplan_meier, summarize
from seqrl_lightning.functional import CRITERION_EPISODES, ERROR_KINDS
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import Order

SPREAD = (
    f"the interquartile mean over seeds (a quarter cut off at each end, rounded down) with, from {MIN_SEEDS} seeds on, "
    "its 95 % percentile bootstrap interval"
)
"""The name of the summary over seeds, in captions."""
_NO_PROBES = "Not every run has a whole episode of an evaluation in its table of probes (probes.csv)."


def sections_on_one_condition(runs: Sequence[Run], axis: Axis) -> list[Section]:
    """All sections on runs that differ in their seed alone."""
    facts = runs[0].facts
    groups, chances = {"seeds": runs}, {"seeds": chance_of(runs[0])}
    sections = [learning(groups, axis, chances), returns(groups), episodes(runs), criterion(runs, chances)]
    tables = {run.seed: run.trials for run in runs if run.trials is not None}
    if len(tables) < len(runs):
        why = "The task does not tell which action is right, so there is no table of trials (trials.csv)."
        return [*sections, Section("trials", "Trials", why)]
    sections += [positions({"seeds": runs}), confusions(runs, facts.order)]
    if facts.num_positions is None or facts.num_objects is None:
        why = "The observations don't show a position in an order of objects, so errors have no kinds."
        return [*sections, Section("errors", "Errors", why)]
    sections += [probed_errors({"seeds": runs}), errors(tables, facts)]
    if facts.order is None or facts.num_blocks == 1:
        why = "No order of objects changes from block to block, so there is no transfer of ranks."
        return [*sections, Section("transfer", "Transfer of rank order", why)]
    return [*sections, transfer(tables, facts.order), distractors(tables, facts.order)]


def warning(groups: Groups) -> str:
    """Name the runs that have not reached their budget; empty without any."""
    early = [
        f"{name}, seed {run.seed} ({how_far})"
        for name, runs in groups.items()
        for run in runs
        if (how_far := unfinished(run)) is not None
    ]
    return f" Not all runs have reached their budget: {'; '.join(early)}." if early else ""


def learning(groups: Groups, axis: Axis, chances: Mapping[str, Chance]) -> Section:
    """Learning curves, aligned to the start of each block, beside the returns of mastery and of random choices."""
    facts = next(iter(groups.values()))[0].facts
    tables = {name: [evaluations(run, axis.name) for run in runs] for name, runs in groups.items()}
    curves = {}
    for block in range(facts.num_blocks):
        of_block = {name: curves_of_block(of_one, block) for name, of_one in tables.items()}
        curves[block] = {name: of_one for name, of_one in of_block.items() if of_one}
    curves = {block: of_block for block, of_block in curves.items() if of_block}
    if not curves:
        return Section("learning", "Learning", f"No run has logged {VALIDATION}.")
    names = facts.block_names if facts.num_blocks > 1 else [""]
    xlabel = axis.label + (" since the start of the block" if facts.num_blocks > 1 else "")
    levels = {"mastery": facts.mastery_return, "random choices": shared_return(chances)}
    known = {name: level for name, level in levels.items() if level is not None}
    figure = figures.draw_learning(curves, xlabel, known, [names[block] for block in curves])
    text = (
        f"Return of the greedy policy under the present rule, over {axis.label} ({axis.reason}): each seed (thin), and "
        f"{SPREAD}. Between two evaluations the earlier one holds, and a run that ended keeps its last value. "
        "Mastery is the task's best expected return or, failing that, the threshold that it is registered with; random "
        "choices are the mean return of playing the task at random."
    )
    data = pd.concat(
        table.assign(condition=name, seed=run.seed)
        for name, runs in groups.items()
        for run, table in zip(runs, tables[name], strict=True)
    )
    return Section("learning", "Learning", text, figure, None, data[["condition", "seed", "block", "x", "return"]])


def returns(groups: Groups) -> Section:
    """Final returns: the interquartile mean with its interval or range, and the return of each seed."""
    rows = {}
    for name, runs in groups.items():
        scores = final_returns(runs)
        summary = summarize(scores)
        spread = "95 % interval" if summary.is_interval else "range"
        seeds = ", ".join("-" if np.isnan(score) else f"{score:.4g}" for score in scores)
        rows[name] = (summary.num_runs, summary.mean, summary.lower, summary.upper, spread, seeds)
    columns = ["n", "interquartile mean", "lower", "upper", "lower to upper", "each seed"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    if not table["n"].any():
        return Section("returns", "Final return", f"No run has logged {VALIDATION}.")
    text = (
        "Return of the greedy policy in the last evaluation of each run, under the rule of its last block: "
        f"{SPREAD}; with fewer seeds, their range. The final policy is evaluated, not the best one during training."
    )
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


def criterion(runs: Sequence[Run], chances: Mapping[str, Chance]) -> Section:
    """Episodes to criterion, and savings."""
    facts = runs[0].facts
    if facts.mastery_return is None:
        why = (
            "The task does not tell when it is mastered: it has neither an attribute optimal_return nor a "
            "reward_threshold in its registration."
        )
        return Section("criterion", "Episodes to criterion", why)
    of_seed = {run.seed: criterion_by_block(run.episodes, facts) for run in runs}
    data = pd.concat(of_seed, names=["seed"]).reset_index()
    by_block = {f"block {block}": rows.set_index("seed") for block, rows in data.groupby("block")}
    table = pd.DataFrame({name: rows.apply(_as_bound, axis=1) for name, rows in by_block.items()})
    for block in range(1, facts.num_blocks):
        table[f"savings, block {block}"] = pd.Series(
            {seed: savings_in(of_one, block) for seed, of_one in of_seed.items()}
        )
    medians = {name: _median(rows) for name, rows in by_block.items()}
    saved = table.filter(like="savings").median(skipna=False)  # of all seeds or none: the others learned faster
    table.loc["median"] = pd.Series(medians | saved.to_dict())
    figure, (axes,) = figures.new_figure(max(3.5, 1.5 * len(by_block)), 3.2)
    points = {name: rows["episodes"].to_numpy(float) for name, rows in by_block.items()}
    met = {name: rows["is_met"].to_numpy() for name, rows in by_block.items()}
    figures.draw_points(axes, points, "episodes to criterion", met)
    text = (
        f"Episodes to criterion in each block: the first of {CRITERION_EPISODES} training episodes in a row, over all "
        f"environments, whose return is at least {facts.mastery_return:g}; random choices count. Line: Kaplan-Meier "
        f"median (n = {len(runs)}). A hollow triangle, and > in the table, is a block that ended without the "
        "criterion; it counts as slower than that. Savings: (first - later) / max(first, later), with the episodes to "
        "criterion of the first and of the later block; none if a block did not meet it, or the first met it at once. "
        + by_chance(chances)
    )
    return Section("criterion", "Episodes to criterion", text, figure, table, data)


def by_chance(chances: Mapping[str, Chance]) -> str:
    """Say how soon random choices would meet the criterion, in each condition."""
    numbers = {name: chance.episodes_to_criterion for name, chance in chances.items()}
    if not any(np.isfinite(number) for number in numbers.values()):
        return "No random episode was mastered, so the criterion is not met by chance."
    words = [f"{number:.0f}" if np.isfinite(number) else "never" for number in numbers.values()]
    by_name = "; ".join(f"{name}: {word}" for name, word in zip(numbers, words, strict=True))
    named = words[0] if len(set(words)) == 1 else by_name
    return f"By chance alone, with random choices, it would be met after so many episodes on average: {named}."


def shared_return(chances: Mapping[str, Chance]) -> float | None:
    """Return the mean return of random choices, if it is about the same in all conditions."""
    returns = np.array([chance.mean_return for chance in chances.values()])
    return float(returns.mean()) if np.ptp(returns) <= 0.05 * max(1.0, abs(returns.mean())) else None


def _as_bound(row: pd.Series) -> str:
    return f"{'' if row['is_met'] else '> '}{row['episodes']}"


def _median(rows: pd.DataFrame) -> str:
    """The Kaplan-Meier median of a block's episodes to criterion."""
    median = kaplan_meier(rows["episodes"].to_numpy(float), rows["is_met"].to_numpy()).median
    return f"{median:g}" if np.isfinite(median) else f"> {rows['episodes'].max():g}"


def positions(groups: Groups) -> Section:
    """Accuracy by serial position in the last evaluation of each block, in a panel for each block."""
    if not all(_probes_of(groups)):
        return Section("positions", "Accuracy by serial position", _NO_PROBES)
    data = probed_accuracy(groups)
    blocks = sorted(data["block"].unique())
    facts = next(iter(groups.values()))[0].facts
    names = facts.block_names if facts.num_blocks > 1 else [""]
    actions = {num_actions(run) for runs in groups.values() for run in runs}
    chance = 1 / actions.pop() if len(actions) == 1 and 0 not in actions else None  # a table may not tell them
    figure, panels = figures.new_figure(max(4.5, 3.2 * len(blocks)), 3.2, len(blocks), sharey=True)
    for axes, block in zip(panels, blocks, strict=True):
        of_block = data[data["block"] == block].groupby("condition", sort=False)
        seeds = {name: of_one.pivot(index="seed", columns="position", values="accuracy") for name, of_one in of_block}
        figures.draw_positions(axes, seeds, chance)
        axes.set_title(figures.as_text(names[block]))
    panels[0].set_ylabel("fraction right")
    figures.add_legend(figure, panels)
    text = (
        "Fraction of right choices at each serial position, of the greedy policy in the last evaluation of each block "
        f"(probes.csv). Each seed (thin), and {SPREAD}. The dotted line is one over the number of actions."
    )
    table = data.groupby(["condition", "block", "position"], sort=False).agg(
        accuracy=("accuracy", interquartile_mean), seeds=("accuracy", "size"), choices=("choices", "sum")
    )
    return Section("positions", "Accuracy by serial position", text, figure, table, data)


def probed_accuracy(groups: Groups) -> pd.DataFrame:
    """Measure the accuracy of each run in the last evaluation of each block.

    Returns:
        A row for each run, block and position, counted from 1: ``condition``, ``seed``, ``block``, ``position``,
        ``accuracy``, ``choices``.
    """
    rows = [
        accuracy_by_position(probes_at(run.probes, "last")).assign(condition=name, seed=run.seed)
        for name, runs in groups.items()
        for run in runs
        if run.probes is not None
    ]
    data = pd.concat(rows).reset_index()
    data["position"] += 1
    return data[["condition", "seed", "block", "position", "accuracy", "choices"]]


def probed_errors(groups: Groups) -> Section:
    """Kinds of errors in the first and in the last evaluation of each block."""
    title = "Errors of the greedy policy, by kind"
    if not all(_probes_of(groups)):
        return Section("probed_errors", title, _NO_PROBES)
    kinds = ["right", *ERROR_KINDS]
    shares = [
        probes_at(run.probes, stage)
        .groupby("block")["outcome"]
        .value_counts(normalize=True)
        .unstack(fill_value=0.0)
        .reindex(columns=kinds, fill_value=0.0)
        .assign(condition=name, seed=run.seed, evaluation=stage)
        for name, runs in groups.items()
        for run in runs
        for stage in ("first", "last")
        if run.probes is not None
    ]
    data = pd.concat(shares).reset_index()[["condition", "seed", "block", "evaluation", *kinds]]
    table = data.groupby(["condition", "block", "evaluation"], sort=False)[kinds].mean()
    text = (
        "Share of choices of each kind in the first and in the last evaluation of each block (probes.csv), in which no "
        "choice is random; mean over seeds. The kinds are those of training choices, below."
    )
    return Section("probed_errors", title, text, None, table, data)


def confusions(runs: Sequence[Run], order: Order | None) -> Section:
    """Objects chosen in each block's last evaluation, by position or, where none stands for an object, by right one."""
    if not all(_probes_of({"": runs})):
        return Section("confusion", "Objects chosen", _NO_PROBES)
    late = pd.concat([probes_at(run.probes, "last") for run in runs if run.probes is not None])
    n_actions = num_actions(runs[0])
    of_block = dict(list(late.groupby("block")))
    by_position = all(has_one_order(trials) for trials in of_block.values())
    rows = "position" if by_position else "correct_action"
    matrices = {f"block {block}": confusion(trials, n_actions, rows) for block, trials in of_block.items()}
    right = late.groupby(["block", rows])["correct_action"].first()
    marks = {f"block {block}": right[block].to_dict() for block in of_block}
    text = (
        f"Share of each object in the choices {'at each serial position' if by_position else 'for each right object'}, "
        "of the greedy policy in the last evaluation of each block; the right object is framed. All seeds together "
        f"(n = {len(runs)})."
    )
    if not by_position:
        text += " At one position, different objects are right in different episodes, so positions are not shown."
    letters = "" if order is None else order.letters
    figure = figures.draw_matrices(matrices, letters, marks, by_position)
    shares = {name: pd.DataFrame(matrix).stack() for name, matrix in matrices.items()}
    data = pd.concat(shares, names=["block", rows, "action"]).rename("share").reset_index()
    return Section("confusion", "Objects chosen", text, figure, None, data)


def errors(tables: Mapping[int, pd.DataFrame], facts: TaskFacts) -> Section:
    """Kinds of errors over training."""
    measured = {seed: measure_episodes(table, facts) for seed, table in tables.items()}
    rows = pd.concat(measured.values())
    if rows.empty:
        return Section("errors", "Errors", "In no episode that ended was an action right or wrong.")
    number = rows.index.to_numpy()
    width = max(1, int(number.max() + 1) // 60)
    starts = rows.reset_index().groupby("block")["number"].min()
    start = starts.loc[rows["block"]].to_numpy()  # no point has episodes of two blocks
    shares = error_shares(rows.groupby(start + (number - start) // width * width + 1).sum())
    shares.index.name = "episode"
    switches = starts.iloc[1:]
    text = (
        "Share of choices that were errors, by kind, of all training choices, random ones included; seeds together "
        f"(n = {len(tables)}), {width} episode{'s' * (width > 1)} a point. Distractor: the object is never right. "
        "Perseverative: the choice repeats an error of the episode (the choice before, or one at the same position). "
        "Rule-breaking: after an error the last right object must be chosen again, and was not. Exploration: any other "
        "error. A dashed line marks each switch of the rule."
    )
    line = None
    if "previous_order" in shares:
        text += " The line is the share of choices that were errors now but right at this position in the block before."
        line = shares["previous_order"].rename("previous order")
    bands = shares[list(ERROR_KINDS)].rename(columns=lambda kind: kind.replace("_", "-"))
    figure = figures.draw_shares(bands, [n + 0.5 for n in switches], "episode", "share of choices", line)
    data = pd.concat(measured, names=["seed", "episode"]).reset_index()
    data["episode"] += 1
    return Section("errors", "Kinds of errors", text, figure, None, data)


def transfer(tables: Mapping[int, pd.DataFrame], order: Order) -> Section:
    """Transfer of rank order after a switch, and inference from a swap."""
    columns = ["correlation with the old order", "with the new one", "new object at once", "after the old one"]
    rows = {
        (seed, block): (*rank_transfer(trials, order, block), *swap_inference(trials, order, block))
        for seed, trials in tables.items()
        for block in sorted(trials["block"].unique())
        if block > 0
    }
    if not rows:
        return Section("transfer", "Transfer of rank order", "There is only one block.")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["seed", "block"])
    text = (
        "In the first five episodes after a switch: Spearman's correlation of the position at which an object was "
        "chosen with its rank in the old order and in the new one. Then, at the first position that changed, over the "
        "whole block: how often the new object was chosen at once, and how often it was chosen next after the old one."
    )
    return Section("transfer", "Transfer of rank order", text, None, table)


def distractors(tables: Mapping[int, pd.DataFrame], order: Order) -> Section:
    """Values of the distractors and of the objects over training."""
    actions = np.arange(order.num_objects, len(order.letters))
    if not len(actions):
        return Section("distractors", "Values of the distractors", "The task has no distractors.")
    groups = {"distractors": actions, "objects": np.arange(order.num_objects)}
    seeds = {
        seed: pd.DataFrame({name: action_values(trials, group) for name, group in groups.items()})
        for seed, trials in tables.items()
    }
    data = pd.concat(seeds, names=["seed", "episode"]).reset_index()
    data["episode"] += 1
    means = data.groupby("episode")[list(groups)].mean()
    figure, (axes,) = figures.new_figure(5.0, 3.0)
    for name in groups:
        axes.plot(means.index, means[name], label=name, linewidth=2)
    axes.set(xlabel="episode", ylabel="mean Q-value")
    figures.add_legend(figure, [axes])
    text = (
        "Mean Q-value of the distractors and of the objects in the states of each episode; mean over seeds "
        f"(n = {len(tables)})."
    )
    return Section("distractors", "Values of the distractors", text, figure, None, data)


def methods(groups: Groups, axis: Axis, command: str) -> Section:
    """A paragraph for a paper, and the settings of each condition, with those that differ first.

    Args:
        groups: Runs by condition.
        axis: What curves are drawn over.
        command: The command that wrote the report.
    """
    run = next(iter(groups.values()))[0]
    learner = str(run.config.get("model", {}).get("class_path", "DQN")).rpartition(".")[2]
    seeds = "; ".join(f"{name}: {', '.join(str(run.seed) for run in runs)}" for name, runs in groups.items())
    text = (
        f"{learner} was trained on {run.env_id} with the settings below, under their names in the runs' config.yaml "
        f"(seeds: {seeds}). The seed was the unit of analysis. Learning curves are over {axis.label} "
        f"({axis.reason}). {written_by(command)}"
    )
    table = pd.DataFrame([settings_of(runs[0]) for runs in groups.values()], index=list(groups)).T
    is_same = table.nunique(axis=1, dropna=False) == 1
    is_trainers = table.index.str.startswith("trainer.")
    parts = [table[~is_same], table[is_same & ~is_trainers], table[is_same & is_trainers]]
    table = pd.concat(parts).rename_axis("setting")
    return Section("methods", "Methods", text, None, table)


def _probes_of(groups: Groups) -> list[bool]:
    """Whether each run has choices that count in the table of probes."""
    return [
        run.probes is not None and not probes_at(run.probes, "last").empty for runs in groups.values() for run in runs
    ]


def num_actions(run: Run) -> int:
    """Return the number of actions, from the run's table of trials."""
    assert run.trials is not None
    return sum(column.startswith("q_") for column in run.trials)
