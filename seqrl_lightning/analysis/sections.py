"""The sections of a report: each function makes one section from runs of one task that differ in their seed."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.measures import (
    accuracy_by_position,
    action_values,
    confusion,
    criterion_by_block,
    error_shares,
    measure_episodes,
    rank_transfer,
    swap_inference,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.statistics import (
    interquartile_mean,
    interquartile_mean_interval,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
)
from seqrl_lightning.functional import CRITERION_EPISODES, ERROR_KINDS, savings
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import FloatArray, Order

VALIDATION = "val/return_mean"
Groups = Mapping[str, Sequence[Run]]
"""Groups of runs that have their settings in common, by the group's name."""


def sections_on_one_group(runs: Sequence[Run]) -> list[Section]:
    """All sections on runs with the same settings."""
    facts = runs[0].facts
    sections = [learning({"": runs}), returns({"": runs}), episodes(runs), criterion(runs)]
    tables = [run.trials for run in runs if run.trials is not None]
    if len(tables) < len(runs):
        why = "The task does not tell which action is right, so there is no table of trials (trials.csv)."
        return [*sections, Section("trials", "Trials", why)]
    sections += [positions(tables), confusions(tables, facts.order)]
    if facts.num_positions is None or facts.num_objects is None:
        why = "The observations don't show a position in an order of objects, so errors have no kinds."
        return [*sections, Section("errors", "Errors", why)]
    sections.append(errors(tables, facts))
    if facts.order is None:
        why = "No order of objects depends on the block, so there is no transfer of ranks."
        return [*sections, Section("transfer", "Transfer of rank order", why)]
    return [*sections, transfer(runs, tables, facts.order), distractors(tables, facts.order)]


def sections_on_groups(groups: Groups) -> list[Section]:
    """All sections that compare several groups of runs."""
    return [learning(groups), returns(groups), profiles(groups), improvement(groups)]


def learning(groups: Groups) -> Section:
    """Learning curves."""
    figure, (axes,) = figures.new_figure()
    drawn = []
    for (name, runs), color in zip(groups.items(), figures.COLORS * len(groups), strict=False):
        curves = [curve for curve in (run.curve(VALIDATION) for run in runs) if len(curve)]
        if curves:
            drawn.append(figures.draw_curves(axes, curves, name or "mean", color).assign(runs=name))
    if not drawn:
        return Section("learning", "Learning", f"No run has logged {VALIDATION}.")
    axes.legend(loc="best")
    text = (
        "Return of the greedy policy during training: each seed (thin lines), and the mean over seeds with its 95 % "
        "bootstrap interval."
    )
    return Section("learning", "Learning", text, figure, pd.concat(drawn).set_index("runs"), shows_table=False)


def final_returns(runs: Sequence[Run]) -> FloatArray:
    """The return in the last evaluation of each run that was evaluated. [runs] float."""
    return np.array([curve.iloc[-1] for curve in (run.curve(VALIDATION) for run in runs) if len(curve)])


def returns(groups: Groups) -> Section:
    """Final returns: the interquartile mean with its interval, and the return of each seed."""
    rows = {}
    for name, runs in groups.items():
        scores = final_returns(runs)
        if len(scores):
            seeds = ", ".join(f"{score:.4g}" for score in scores)
            mean, interval = interquartile_mean(scores), interquartile_mean_interval(scores)
            rows[name or "all runs"] = (mean, *interval, scores.min(), seeds)
    columns = ["interquartile mean", "lower", "upper", "lowest", "each run"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    text = (
        "Return in the last evaluation of each run: the interquartile mean over runs with its 95 % bootstrap interval "
        "(Agarwal et al., 2021). The final policy is evaluated, not the best one during training."
    )
    if not rows:
        return Section("returns", "Final return", f"No run has logged {VALIDATION}.")
    estimates = table.rename(columns={"interquartile mean": "estimate"})
    figure = figures.draw_estimates(estimates, "final return") if len(rows) > 1 else None
    return Section("returns", "Final return", text, figure, table)


def episodes(runs: Sequence[Run]) -> Section:
    """Return and length of the first run's training episodes."""
    run, order = runs[0], runs[0].facts.order
    names = None if order is None else ["".join(order.letters[i] for i in row) for row in order.sequences]
    text = (
        f"Return and length of every training episode of seed {run.seed}, in its first environment. A dashed line "
        "marks each switch of the rule."
    )
    return Section("episodes", "Training episodes", text, figures.draw_episodes(run.episodes, names))


def criterion(runs: Sequence[Run]) -> Section:
    """Episodes to criterion, and savings."""
    facts = runs[0].facts
    if facts.mastery_return is None:
        why = (
            "The task does not tell when it is mastered: it has neither an attribute optimal_return nor a "
            "reward_threshold in its registration."
        )
        return Section("criterion", "Episodes to criterion", why)
    seeds = pd.Index([run.seed for run in runs], name="seed")
    values = pd.DataFrame([criterion_by_block(run.episodes, facts) for run in runs]).set_index(seeds)
    table = values.add_prefix("block ")
    for block, saved in zip(values.columns[1:], savings(torch.from_numpy(values.to_numpy())).T, strict=True):
        table[f"savings, block {block}"] = saved.numpy()
    text = (
        f"Episodes to criterion in each block: the first of {CRITERION_EPISODES} training episodes in a row, over all "
        f"environments, whose return is at least {facts.mastery_return:g}. A block that never met the criterion has no "
        "number. Savings: the fraction of the first block's episodes that a later block saves; below 0, it took longer."
    )
    figure = figures.draw_by_block(values, "episodes to criterion")
    return Section("criterion", "Episodes to criterion", text, figure, table)


def positions(tables: Sequence[pd.DataFrame]) -> Section:
    """Accuracy by serial position."""
    accuracy = pd.concat([accuracy_by_position(table) for table in tables]).groupby(level=0).mean()
    accuracy.columns += 1
    text = "Fraction of right choices at each position over all of training, random choices included; mean over seeds."
    figure = figures.draw_lines(accuracy, "position", "fraction right", "block")
    return Section("positions", "Accuracy by serial position", text, figure, accuracy)


def confusions(tables: Sequence[pd.DataFrame], order: Order | None) -> Section:
    """Choices at each position in the last fifth of each block."""
    n_actions = sum(column.startswith("q_") for column in tables[0])
    matrices, marks = {}, {}
    for block in sorted(tables[0]["block"].unique()):
        late = [last_fifth(table[table["block"] == block]) for table in tables]
        name = f"block {block}"
        matrices[name] = confusion(pd.concat(late), n_actions)
        if order is not None:
            marks[name] = order.sequences[block, order.num_given :].tolist()
    text = (
        "Share of each object in the choices at each position, in the last fifth of each block's episodes; the right "
        "object is framed."
    )
    figure = figures.draw_matrices(matrices, "" if order is None else order.letters, marks)
    rows = {name: pd.DataFrame(matrix) for name, matrix in matrices.items()}
    return Section("confusion", "Choices by position", text, figure, pd.concat(rows), shows_table=False)


def last_fifth(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of the last fifth of the episodes."""
    first, last = trials["number"].min(), trials["number"].max()
    return trials[trials["number"] > last - (last - first + 1) / 5]


def errors(tables: Sequence[pd.DataFrame], facts: TaskFacts) -> Section:
    """Kinds of errors over training."""
    rows = pd.concat([measure_episodes(table, facts) for table in tables])
    number = rows.index.to_numpy()
    width = max(1, int(number.max() + 1) // 60)
    shares = error_shares(rows.groupby(number // width * width + 1).sum())
    shares.index.name = "episode"
    switches = rows.reset_index().groupby("block")["number"].min().iloc[1:]
    text = (
        "Share of choices that were errors, by kind. Distractor: the object is never right. Perseverative: the choice "
        "repeats an error of the episode (the choice before, or one at the same position). Rule-breaking: after an "
        "error the last right object must be chosen again, and was not. Exploration: any other error."
    )
    line = None
    if "previous_order" in shares:
        text += " The line is the share of choices that were errors now but right at this position in the block before."
        line = shares["previous_order"].rename("previous order")
    bands = shares[list(ERROR_KINDS)].rename(columns=lambda kind: kind.replace("_", "-"))
    figure = figures.draw_shares(bands, [n + 0.5 for n in switches], "episode", "share of choices", line)
    return Section("errors", "Kinds of errors", text, figure, shares, shows_table=False)


def transfer(runs: Sequence[Run], tables: Sequence[pd.DataFrame], order: Order) -> Section:
    """Transfer of rank order after a switch, and inference from a swap."""
    columns = ["correlation with the old order", "with the new one", "new object at once", "after the old one"]
    rows = {
        (run.seed, block): (*rank_transfer(trials, order, block), *swap_inference(trials, order, block))
        for run, trials in zip(runs, tables, strict=True)
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


def distractors(tables: Sequence[pd.DataFrame], order: Order) -> Section:
    """Values of the distractors and of the objects over training."""
    actions = np.arange(order.num_objects, len(order.letters))
    if not len(actions):
        return Section("distractors", "Values of the distractors", "The task has no distractors.")
    groups = {"distractors": actions, "objects": np.arange(order.num_objects)}
    means = {
        name: pd.concat([action_values(table, group) for table in tables], axis=1).mean(axis=1)
        for name, group in groups.items()
    }
    table = pd.DataFrame(means)
    table.index += 1
    table.index.name = "episode"
    figure, (axes,) = figures.new_figure()
    for name in table:
        axes.plot(table.index, table[name], label=name, linewidth=2)
    axes.set(xlabel="episode", ylabel="mean Q-value")
    axes.legend()
    text = "Mean Q-value of the distractors and of the objects in the states of each episode; mean over seeds."
    return Section("distractors", "Values of the distractors", text, figure, table, shows_table=False)


def profiles(groups: Groups) -> Section:
    """Performance profiles."""
    scores = {name: final_returns(runs) for name, runs in groups.items()}
    every = np.concatenate(list(scores.values()))
    margin = 0.05 * (every.max() - every.min() or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 201)
    drawn = {name: performance_profile(values, thresholds) for name, values in scores.items()}
    text = "Fraction of runs that end with more than each return (Agarwal et al., 2021): higher is better."
    table = pd.DataFrame(drawn, index=pd.Index(thresholds, name="return"))
    figure = figures.draw_profiles(drawn, thresholds)
    return Section("profiles", "Performance profiles", text, figure, table, shows_table=False)


def improvement(groups: Groups) -> Section:
    """Probability that a run of one group beats a run of another."""
    scores = {name: final_returns(runs) for name, runs in groups.items()}
    rows = {}
    for ours in scores:
        for theirs in scores:
            if ours < theirs:
                pair = scores[ours], scores[theirs]
                interval = probability_of_improvement_interval(*pair)
                rows[f"{ours} > {theirs}"] = (probability_of_improvement(*pair), *interval)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "lower", "upper"])
    text = (
        "Probability that a run of the first group ends with a higher return than one of the second, ties counting "
        "half, with its 95 % bootstrap interval."
    )
    figure = figures.draw_estimates(table, "probability")
    return Section("improvement", "Probability of improvement", text, figure, table)
