"""What a table of trials (:func:`seqrl_lightning.analysis.trials.read_trials`) says about learning."""

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.trials import ERRORS, UNCOUNTED, Order
from seqrl_lightning.types import Array, FloatArray

CRITERION, WINDOW = 0.8, 4  # of completion, and how many attempts it is held for


def attempts(trials: pd.DataFrame, order: Order | None) -> pd.DataFrame:
    """A row for each episode: ``env``, ``episode``, ``block``, ``completion`` and the fraction of each error.

    ``completion`` is how much of the sequence was reached, in [0, 1]; without an order, how many of the answers were
    right.
    """
    counted = trials[trials["outcome"] != UNCOUNTED]
    groups = counted.groupby(["env", "episode"], sort=False)
    table = groups.agg(block=("block", "first"), completion=("is_right", "mean"))
    if order is not None:
        reached = (counted["position"] + counted["is_right"]).groupby([counted["env"], counted["episode"]], sort=False)
        table["completion"] = reached.max() / order.num_picks
    for error in ERRORS:
        table[error] = groups["outcome"].agg(lambda outcomes, error=error: (outcomes == error).mean())
    return table.reset_index()


def trials_to_criterion(completion: FloatArray) -> int | None:
    """The first attempt i, from 1, with completion(i) >= 0.8 and a mean over i..i+3 of at least 0.8; None if never.

    Args:
        completion: [attempts] float, of one block, in order. Attempts that lack followers are not looked at.
    """
    values = np.asarray(completion, float)
    if len(values) < WINDOW:
        return None
    means = np.convolve(values, np.full(WINDOW, 1 / WINDOW), "valid")
    mastered = np.flatnonzero((values[: len(means)] >= CRITERION) & (means >= CRITERION - 1e-12))
    return int(mastered[0]) + 1 if len(mastered) else None


def criterion_by_block(table: pd.DataFrame) -> pd.Series:
    """Attempts to criterion of each block, from :func:`attempts` of one environment; NaN where it was never met."""
    found = {block: trials_to_criterion(rows["completion"].to_numpy()) for block, rows in table.groupby("block")}
    return pd.Series(found, dtype=float)


def savings(criterion: pd.Series) -> pd.Series:
    """What relearning saves of the first block's attempts: 1 - attempts(block) / attempts(first); below 0 it cost more.

    Args:
        criterion: Attempts to criterion by block.
    """
    return 1 - criterion.iloc[1:] / criterion.iloc[0]


def accuracy_by_position(trials: pd.DataFrame) -> pd.DataFrame:
    """The fraction of right choices: a row for each block, a column for each position."""
    counted = trials[trials["outcome"] != UNCOUNTED]
    return counted.pivot_table(index="block", columns="position", values="is_right", aggfunc="mean")


def confusion(trials: pd.DataFrame, n_actions: int) -> FloatArray:
    """How often each object was chosen at each position. [positions, actions], rows sum to 1 (NaN where never seen)."""
    counted = trials[trials["outcome"] != UNCOUNTED]
    counts = np.zeros((int(counted["position"].max()) + 1, n_actions))
    np.add.at(counts, (counted["position"].to_numpy(), counted["action"].to_numpy()), 1)
    with np.errstate(invalid="ignore"):
        shares: FloatArray = counts / counts.sum(1, keepdims=True)
    return shares


def rank_transfer(trials: pd.DataFrame, order: Order, block: int, num_attempts: int = 5) -> tuple[float, float]:
    """Whether objects keep their rank when the order changes.

    Args:
        trials: Of one environment.
        order: The task's orders.
        block: A block after the first.
        num_attempts: How many attempts after the switch are looked at.

    Returns:
        Spearman's correlation of the position at which an object was chosen with its rank in the order before, and
        with its rank in the present one. (1, x): everything is still done as before; (x, 1): as it should be now.
    """
    rows = trials[(trials["block"] == block) & (trials["action"] < order.num_objects)]
    rows = rows[rows["episode"] < rows["episode"].min() + num_attempts]
    place = np.argsort(order.sequences, axis=1)
    old, new = (pd.Series(place[k][rows["action"]]) for k in (block - 1, block))
    position = rows["position"].reset_index(drop=True)
    return position.corr(old, method="spearman"), position.corr(new, method="spearman")


def action_values(trials: pd.DataFrame, actions: Array) -> pd.Series:
    """The mean Q-value of some actions in the states that were met, by attempt, where the table holds any."""
    columns = [f"q_{action}" for action in actions if f"q_{action}" in trials]
    return trials.groupby("episode")[columns].mean().mean(axis=1).dropna()


def swap_inference(trials: pd.DataFrame, order: Order, block: int) -> tuple[float, float]:
    """How a swap of two objects (ABCDE to ADCBE) was dealt with, at the first position that changed.

    Args:
        trials: Of one environment.
        order: The task's orders.
        block: A block after the first.

    Returns:
        The fraction of the block's attempts in which the new object was chosen at once ("anticipated swap"), and of
        those in which the old one was tried first, the fraction in which the new one came next time ("ordinal
        inference"); NaN where there were none.
    """
    changed = np.flatnonzero(order.sequences[block - 1] != order.sequences[block])
    at = int(changed[changed >= order.num_given][0]) - order.num_given
    old, new = order.sequences[block - 1, at + order.num_given], order.sequences[block, at + order.num_given]
    chosen = trials[(trials["block"] == block) & (trials["position"] == at)].groupby("episode")["action"]
    first, second = chosen.nth(0).to_numpy(), chosen.nth(1)
    tried_old = chosen.first()[lambda actions: actions == old].index
    then = second[trials.loc[second.index, "episode"].isin(tried_old).to_numpy()].to_numpy()
    return (
        float((first == new).mean()) if len(first) else np.nan,
        float((then == new).mean()) if len(then) else np.nan,
    )
