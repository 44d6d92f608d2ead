"""Sections on the choices of the greedy policy, in evaluations."""

from collections.abc import Sequence

import pandas as pd

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.definitions import GREEDY, KINDS_OF_ERRORS
from seqrl_lightning.analysis.measures import (
    accuracy_by_position,
    confusion,
    has_one_order,
    probes_at,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.sections.agreement import (
    block_titles,
    note_on_evaluations,
    num_runs_of,
    number_of_seeds,
    reference_lines,
)
from seqrl_lightning.analysis.statistics import SPREAD, interquartile_mean
from seqrl_lightning.functional import ERROR_KINDS
from seqrl_lightning.types import Order

_NO_PROBES = "Not every run has a whole episode of an evaluation in its table of probes (probes.csv)."


def positions(groups: Groups) -> Section:
    """Accuracy by serial position in the last evaluation of each block, in a panel for each block."""
    if not all(_probes_of(groups)):
        return Section("positions", "Accuracy by serial position", _NO_PROBES)
    data = probed_accuracy(groups)
    blocks = sorted(data["block"].unique())
    titles = block_titles(groups)
    references = reference_lines(
        "random choices", "-.", {name: _random_accuracy(runs[0]) for name, runs in groups.items()}
    )
    accuracy = {titles[block]: _by_condition(data, block) for block in blocks}
    figure = figures.draw_positions(accuracy, num_runs_of(groups), references)
    text = (
        f"Fraction of right choices at each serial position ({_position_in_words(groups)}), of the greedy policy in "
        f"the last evaluation of each block (probes.csv). {GREEDY}. Each seed (thin), and {SPREAD}; "
        f"{number_of_seeds(groups)}.{note_on_evaluations(_evaluated(data), groups)}"
    )
    if references:
        text += " Random choices: one over the number of actions."
    table = data.groupby(["condition", "block", "position"], sort=False).agg(
        accuracy=("accuracy", interquartile_mean), seeds=("accuracy", "size"), choices=("choices", "sum")
    )
    return Section("positions", "Accuracy by serial position", text, figure, table, data)


def _position_in_words(groups: Groups) -> str:
    if all(run.facts.num_positions is not None for runs in groups.values() for run in runs):
        return "the place in the sequence that is due"
    return "the number of the trial in its episode"


def _by_condition(data: pd.DataFrame, block: int) -> dict[str, pd.DataFrame]:
    """Return the accuracies in a block, a row for each seed and a column for each position, by condition."""
    of_block = data[data["block"] == block].groupby("condition", sort=False)
    return {str(name): rows.pivot(index="seed", columns="position", values="accuracy") for name, rows in of_block}


def _evaluated(data: pd.DataFrame) -> dict[int, dict[str, int]]:
    """Return the number of runs that were evaluated in each block, by condition."""
    return {block: rows.groupby("condition")["seed"].nunique().to_dict() for block, rows in data.groupby("block")}


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
        f"choice is random; mean over seeds, {number_of_seeds(groups)}.{note_on_evaluations(_evaluated(data), groups)} "
        f"{KINDS_OF_ERRORS}"
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
        "of the greedy policy, which makes no random choices, in the last evaluation of each block; the right object "
        f"is framed. All seeds together, {number_of_seeds({'': runs})}."
    )
    if not by_position:
        text += " At one position, different objects are right in different episodes, so positions are not shown."
    letters = "" if order is None else order.letters
    figure = figures.draw_matrices(matrices, letters, marks, by_position)
    shares = {name: pd.DataFrame(matrix).stack() for name, matrix in matrices.items()}
    data = pd.concat(shares, names=["block", rows, "action"]).rename("share").reset_index()
    return Section("confusion", "Objects chosen", text, figure, None, data)


def _probes_of(groups: Groups) -> list[bool]:
    """Whether each run has choices that count in the table of probes."""
    return [
        run.probes is not None and not probes_at(run.probes, "last").empty for runs in groups.values() for run in runs
    ]


def _random_accuracy(run: Run) -> float | None:
    """Return the accuracy of random choices; None if the table of trials lacks the actions' values."""
    count = num_actions(run)
    return 1 / count if count else None


def num_actions(run: Run) -> int:
    """Return the number of actions, from the run's table of trials."""
    assert run.trials is not None
    return sum(column.startswith("q_") for column in run.trials)
