"""What a report says: each function makes one section from runs of one task, which differ by their seed."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.metrics import (
    accuracy_by_position,
    action_values,
    attempts,
    confusion,
    criterion_by_block,
    rank_transfer,
    swap_inference,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.statistics import (
    bootstrap_interval,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from seqrl_lightning.analysis.trials import ERRORS
from seqrl_lightning.functional import savings
from seqrl_lightning.types import FloatArray, Order

VALIDATION = "val/return_mean"
Groups = Mapping[str, Sequence[Run]]
"""Runs by the name of what they have in common."""


def about_one(runs: Sequence[Run]) -> list[Section]:
    """All sections about runs with the same settings."""
    found = [learning({"": runs}), returns({"": runs}), episodes(runs)]
    tables = [run.trials for run in runs if run.trials is not None]
    if len(tables) < len(runs):
        why = "The task does not tell which action is right, so there is no table of trials (trials.csv)."
        return [*found, Section("trials", "Trials", why)]
    found += [criterion(runs, tables), positions(tables), confusions(tables, runs[0].order)]
    if runs[0].order is None:
        why = "The task's objects have no order that a block decides: no kinds of errors, no transfer of ranks."
        return [*found, Section("errors", "Errors", why)]
    found += [errors(tables, runs[0].order), transfer(runs, tables, runs[0].order), distractors(tables, runs[0].order)]
    return found


def about_many(groups: Groups) -> list[Section]:
    """All sections that hold several groups of runs against each other."""
    return [learning(groups), returns(groups), profiles(groups), improvement(groups)]


def learning(groups: Groups) -> Section:
    """Learning curves."""
    figure, (axes,) = figures.new_figure()
    drawn = []
    for (name, runs), colour in zip(groups.items(), figures.COLOURS * len(groups), strict=False):
        curves = [curve for curve in (run.curve(VALIDATION) for run in runs) if len(curve)]
        if curves:
            drawn.append(figures.draw_curves(axes, curves, name or "mean", colour).assign(runs=name))
    if not drawn:
        return Section("learning", "Learning", f"No run has logged {VALIDATION}.")
    axes.legend(loc="best")
    text = "The greedy policy's return during training: each seed (thin), their mean, and its 95 % bootstrap interval."
    return Section("learning", "Learning", text, figure, pd.concat(drawn).set_index("runs"), shows_table=False)


def final_returns(runs: Sequence[Run]) -> FloatArray:
    """The last evaluation's return of each run that was evaluated. [runs]."""
    return np.array([curve.iloc[-1] for curve in (run.curve(VALIDATION) for run in runs) if len(curve)])


def returns(groups: Groups) -> Section:
    """Final returns: the interquartile mean with its interval, and each seed's."""
    rows = {}
    for name, runs in groups.items():
        scores = final_returns(runs)
        if len(scores):
            lower, upper = bootstrap_interval(scores, interquartile_mean)
            seeds = ", ".join(f"{score:.4g}" for score in scores)
            rows[name or "all runs"] = (interquartile_mean(scores), float(lower), float(upper), scores.min(), seeds)
    columns = ["interquartile mean", "lower", "upper", "lowest", "each run"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    text = (
        "The last evaluation of each run: interquartile mean over runs with its 95 % bootstrap interval "
        "(Agarwal et al., 2021). It is of the final policy, not of the best one on the way."
    )
    if not rows:
        return Section("returns", "Final return", f"No run has logged {VALIDATION}.")
    estimates = table.rename(columns={"interquartile mean": "estimate"})
    figure = figures.draw_estimates(estimates, "final return") if len(rows) > 1 else None
    return Section("returns", "Final return", text, figure, table)


def episodes(runs: Sequence[Run]) -> Section:
    """The seed's figure, of the first run."""
    run = runs[0]
    names = None if run.order is None else ["".join(run.order.letters[i] for i in row) for row in run.order.sequences]
    text = f"Return and length of every training episode (seed {run.seed}); a dashed line at every switch of the rule."
    return Section("episodes", "Training episodes", text, figures.draw_episodes(run.episodes, names))


def criterion(runs: Sequence[Run], tables: Sequence[pd.DataFrame]) -> Section:
    """Attempts to criterion, and savings."""
    of_first_env = [attempts(table[table["env"] == 0], run.order) for run, table in zip(runs, tables, strict=True)]
    found = pd.DataFrame([criterion_by_block(rows) for rows in of_first_env], index=[run.seed for run in runs])
    found.index.name = "seed"
    table = found.add_prefix("block ")
    for block, values in zip(found.columns[1:], savings(torch.from_numpy(found.to_numpy())).T, strict=True):
        table[f"savings, block {block}"] = values.numpy()
    text = (
        "Attempts (episodes) to criterion in each block: the first attempt that completes at least 80 % of the "
        "sequence and begins four that do so on average. Savings: what a later block saves of the first one's attempts "
        "(below 0: it took longer)."
    )
    figure = figures.draw_by_block(found, "attempts to criterion")
    return Section("criterion", "Attempts to criterion", text, figure, table)


def positions(tables: Sequence[pd.DataFrame]) -> Section:
    """Accuracy by serial position."""
    accuracy = pd.concat([accuracy_by_position(table) for table in tables]).groupby(level=0).mean()
    accuracy.columns += 1
    text = "The fraction of right choices at each position, explorative ones included; mean over seeds."
    figure = figures.draw_lines(accuracy, "position", "fraction right", "block")
    return Section("positions", "Accuracy by serial position", text, figure, accuracy)


def confusions(tables: Sequence[pd.DataFrame], order: Order | None) -> Section:
    """What was chosen at each position in the last fifth of each block."""
    n_actions = sum(column.startswith("q_") for column in tables[0])
    matrices, marks = {}, {}
    for block in sorted(tables[0]["block"].unique()):
        late = [late_part(table[table["block"] == block]) for table in tables]
        name = f"block {block}"
        matrices[name] = confusion(pd.concat(late), n_actions)
        if order is not None:
            marks[name] = order.sequences[block, order.num_given :].tolist()
    text = "What was chosen at each position in the last fifth of each block's attempts; the right object is framed."
    figure = figures.draw_matrices(matrices, "" if order is None else order.letters, marks)
    rows = {name: pd.DataFrame(matrix) for name, matrix in matrices.items()}
    return Section("confusion", "Choices by position", text, figure, pd.concat(rows), shows_table=False)


def late_part(trials: pd.DataFrame) -> pd.DataFrame:
    """The last fifth of the episodes."""
    first, last = trials["episode"].min(), trials["episode"].max()
    return trials[trials["episode"] > last - (last - first + 1) / 5]


def errors(tables: Sequence[pd.DataFrame], order: Order) -> Section:
    """Kinds of errors through training."""
    rows = pd.concat([attempts(table[table["env"] == 0], order) for table in tables])
    width = max(1, int(rows["episode"].max() + 1) // 60)
    binned = rows.groupby(rows["episode"] // width * width + 1)[list(ERRORS)].mean()
    binned = binned.loc[:, (binned > 0).any()]
    blocks = rows.groupby("block")["episode"].min()
    text = (
        "The share of choices that were wrong, by kind. Perseverative: right at this position before the switch; skip: "
        "its turn comes later; repeat: its turn has been; distractor: never right; random: wrong, and the agent "
        "explored."
    )
    figure = figures.draw_shares(binned, [float(e) + 0.5 for e in blocks.iloc[1:]], "episode", "share of choices")
    return Section("errors", "Kinds of errors", text, figure, binned, shows_table=False)


def transfer(runs: Sequence[Run], tables: Sequence[pd.DataFrame], order: Order) -> Section:
    """Transfer of rank order, and what was inferred from a swap."""
    columns = ["correlation with the old order", "with the new one", "new object at once", "after the old one"]
    rows = {
        (run.seed, block): (*rank_transfer(table, order, block), *swap_inference(table, order, block))
        for run, trials in zip(runs, tables, strict=True)
        for table in [trials[trials["env"] == 0]]
        for block in sorted(table["block"].unique())
        if block > 0
    }
    if not rows:
        return Section("transfer", "Transfer of rank order", "There is only one block.")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["seed", "block"])
    text = (
        "In the first five attempts after a switch: Spearman's correlation of the position at which an object was "
        "chosen with its rank in the old order and in the new one. Then, at the first position that changed, over the "
        "whole block: how often the new object was chosen at once, and how often next after the old one."
    )
    return Section("transfer", "Transfer of rank order", text, None, table)


def distractors(tables: Sequence[pd.DataFrame], order: Order) -> Section:
    """The value of the distractors, and of the right objects, through training."""
    actions = np.arange(order.num_objects, len(order.letters))
    if not len(actions):
        return Section("distractors", "Value of the distractors", "The task has no distractors.")
    values = pd.concat([action_values(table[table["env"] == 0], actions) for table in tables], axis=1)
    objects = [action_values(table[table["env"] == 0], np.arange(order.num_objects)) for table in tables]
    table = pd.DataFrame({"distractors": values.mean(1), "objects": pd.concat(objects, axis=1).mean(1)})
    table.index += 1
    figure, (axes,) = figures.new_figure()
    for name in table:
        axes.plot(table.index, table[name], label=name, linewidth=2)
    axes.set(xlabel="episode", ylabel="mean Q-value")
    axes.legend()
    text = "The mean Q-value of the distractors, and of the objects, in the states of each episode; mean over seeds."
    return Section("distractors", "Value of the distractors", text, figure, table, shows_table=False)


def profiles(groups: Groups) -> Section:
    """Performance profiles."""
    scores = {name: final_returns(runs) for name, runs in groups.items()}
    every = np.concatenate(list(scores.values()))
    margin = 0.05 * (every.max() - every.min() or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 201)
    drawn = {name: performance_profile(values, thresholds) for name, values in scores.items()}
    text = "For each return, the fraction of runs that end with more (Agarwal et al., 2021): higher is better."
    table = pd.DataFrame(drawn, index=pd.Index(thresholds, name="return"))
    figure = figures.draw_profiles(drawn, thresholds)
    return Section("profiles", "Performance profiles", text, figure, table, shows_table=False)


def improvement(groups: Groups) -> Section:
    """The probability that a run of one beats a run of the other."""
    scores = {name: final_returns(runs) for name, runs in groups.items()}
    rows = {}
    for ours in scores:
        for theirs in scores:
            if ours < theirs:
                rows[f"{ours} > {theirs}"] = _improvement(scores[ours], scores[theirs])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "lower", "upper"])
    text = (
        "The probability that a run of the first ends with a higher return than one of the second, ties counted half, "
        "with its 95 % bootstrap interval."
    )
    return Section(
        "improvement", "Probability of improvement", text, figures.draw_estimates(table, "probability"), table
    )


def _improvement(ours: FloatArray, theirs: FloatArray) -> tuple[float, float, float]:
    """The estimate and its interval: the runs of both are drawn anew, independently."""
    rng = np.random.default_rng(0)
    drawn = [
        probability_of_improvement(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs))) for _ in range(2000)
    ]
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return probability_of_improvement(ours, theirs), float(lower), float(upper)
