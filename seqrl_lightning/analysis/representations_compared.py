"""The section of a report that compares the states of several networks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import state_figures as figures
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.representations import Representation


def comparison(networks: Sequence[Representation]) -> Section:
    """The main measures of several networks, side by side."""
    steps = sorted({step for found in networks for step in found.item_steps})
    accuracy = pd.DataFrame(
        {found.name: dict(zip(found.item_steps, found.held, strict=True)) for found in networks}
    ).T.reindex(columns=steps)
    accuracy.columns = [step + 1 for step in steps]
    chance = float(np.mean([found.chance for found in networks]))
    figure = figures.draw_comparison(accuracy, over_training(networks), chance)
    table = pd.DataFrame({found.name: summary(found) for found in networks}).T.rename_axis("network")
    table["env steps"] = table["env steps"].astype("Int64")
    text = (
        "How well each network's items are decoded at the last step at which one is shown, by the step of the item "
        "and, where several checkpoints of a run are read, over training (the mean over items). The table has, "
        "besides, the smallest of these accuracies; the threshold that shuffled items don't reach; the accuracy of "
        "serial positions; at the same step, the share of variance between items less that of shuffled ones, summed "
        "over items, and the mean angle between the subspaces of different items; the largest participation ratio; and "
        "the largest contribution of a past observation to a choice."
    )
    return Section(
        "comparison", "Networks compared", text, figure, table, accuracy.rename_axis("network").reset_index()
    )


def over_training(networks: Sequence[Representation]) -> pd.DataFrame:
    """Return the mean accuracy of decoding items over training: a row for each network with known env steps.

    Returns:
        ``run``, ``env_steps``, ``accuracy``; no rows unless there are several networks of a run.
    """
    rows = [(found.run, found.env_steps, found.held.mean()) for found in networks if found.env_steps is not None]
    table = pd.DataFrame(rows, columns=["run", "env_steps", "accuracy"])
    return table if table["run"].duplicated().any() else table[:0]


def summary(found: Representation) -> pd.Series:
    """The main measures of a network as numbers, by their names."""
    angles = found.angles.observed
    others = angles[~np.eye(len(angles), dtype=bool)]
    variance = found.variance.observed - found.variance.null.mean(0)
    salient = found.contributions
    past = np.nan if salient is None else np.tril(salient.observed - salient.null.mean(0), -1).max()
    return pd.Series(
        {
            "env steps": np.nan if found.env_steps is None else found.env_steps,
            "items (mean)": found.held.mean(),
            "items (least)": found.held.min(),
            "items (threshold)": found.items.threshold,
            "position": float(found.steps.accuracy.observed),
            "item variance": variance[:, found.aligned.reference_step].sum(),
            "angle": others.mean() if len(others) else np.nan,
            "dimension": found.dimension.observed.max(),
            "past contribution": past,
        }
    )
