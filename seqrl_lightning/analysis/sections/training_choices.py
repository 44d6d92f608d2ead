"""Sections on the choices of training, by the tables of trials."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import canvas, figures
from seqrl_lightning.analysis.definitions import KINDS_OF_ERRORS
from seqrl_lightning.analysis.measures import (
    action_values,
    error_shares,
    measure_episodes,
    rank_transfer,
    swap_inference,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.functional import ERROR_KINDS
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.types import Order


def errors(tables: Mapping[int, pd.DataFrame], facts: TaskFacts) -> Section:
    """Kinds of errors over training."""
    measured = {seed: measure_episodes(table, facts) for seed, table in tables.items()}
    rows = pd.concat(measured.values())
    if rows.empty:
        return Section("errors", "Errors", "In no episode that ended was an action right or wrong.")
    width = max(1, int(rows.index.max() + 1) // 60)
    starts = rows.reset_index().groupby("block")["number"].min()
    shares = _pooled_shares(rows, starts, width)
    text = (
        "Share of choices that were errors, by kind, of all training choices, random ones included; seeds together "
        f"(n = {len(tables)}), {width} episode{'s' * (width > 1)} a point. {KINDS_OF_ERRORS} A "
        "dashed line marks each switch of the rule."
    )
    line = None
    if "previous_order" in shares:
        text += " The line is the share of choices that were errors now but right at this position in the block before."
        line = shares["previous_order"].rename("previous order")
    bands = shares[list(ERROR_KINDS)].rename(columns=lambda kind: kind.replace("_", "-"))
    figure = figures.draw_shares(bands, [n + 0.5 for n in starts.iloc[1:]], "episode", "share of choices", line)
    data = pd.concat(measured, names=["seed", "episode"]).reset_index()
    data["episode"] += 1
    return Section("errors", "Kinds of errors", text, figure, None, data)


def _pooled_shares(rows: pd.DataFrame, starts: pd.Series, width: int) -> pd.DataFrame:
    """Pool ``width`` episodes to a point; no point has episodes of two blocks.

    Args:
        rows: Counts of choices of each kind in each episode, by its ``number``.
        starts: The number of each block's first episode.
        width: The episodes of a point.
    """
    number, start = rows.index.to_numpy(), starts.loc[rows["block"]].to_numpy()
    shares = error_shares(rows.groupby(start + (number - start) // width * width + 1).sum())
    shares.index.name = "episode"
    return shares


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
        "whole block: how often the new object was chosen at once, and how often it was chosen next after the old one. "
        f"n = {len(tables)} seed{'s' * (len(tables) > 1)}."
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
    figure, (axes,) = canvas.new_figure(5.0, 3.0)
    for name in groups:
        axes.plot(means.index, means[name], label=name, linewidth=2)
    axes.set(xlabel="episode", ylabel="mean Q-value")
    canvas.add_legend(figure, [axes])
    text = (
        "Mean Q-value of the distractors and of the objects in the states of each episode; mean over seeds "
        f"(n = {len(tables)})."
    )
    return Section("distractors", "Values of the distractors", text, figure, None, data)
