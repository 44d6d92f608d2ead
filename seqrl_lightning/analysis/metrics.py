"""What a table of trials (:func:`seqrl_lightning.analysis.trials.read_trials`) says about learning."""

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.analysis.trials import ERRORS, UNCOUNTED
from seqrl_lightning.functional import choice_counts, completion, swap_counts, trials_to_criterion
from seqrl_lightning.types import Array, Choices, FloatArray, Order


def choices_of(trials: pd.DataFrame) -> Choices:
    """The choices that were right or wrong, episode by episode, in the order in which episodes come in the table."""
    counted = trials[trials["outcome"] != UNCOUNTED]
    episode = counted.groupby(["env", "episode"], sort=False).ngroup().to_numpy()
    rows = np.argsort(episode, kind="stable")
    names = ("env", "block", "position", "action", "correct_action")
    columns = {name: torch.from_numpy(counted[name].to_numpy(np.int64)[rows]) for name in names}
    return Choices(episode=torch.from_numpy(episode[rows]), **columns)


def attempts(trials: pd.DataFrame, order: Order | None) -> pd.DataFrame:
    """A row for each episode: ``env``, ``episode``, ``block``, ``completion`` and the fraction of each error.

    ``completion`` is how much of the sequence was reached, in [0, 1]; without an order, how many of the answers were
    right.
    """
    counted = trials[trials["outcome"] != UNCOUNTED]
    groups = counted.groupby(["env", "episode"], sort=False)
    table = groups.agg(block=("block", "first"))
    table["completion"] = completion(choices_of(trials), None if order is None else order.num_picks).numpy()
    for error in ERRORS:
        table[error] = groups["outcome"].agg(lambda outcomes, error=error: (outcomes == error).mean())
    return table.reset_index()


def criterion_by_block(table: pd.DataFrame) -> pd.Series:
    """Attempts to criterion of each block, from :func:`attempts` of one environment; NaN where it was never met."""
    values = {block: torch.from_numpy(rows["completion"].to_numpy()) for block, rows in table.groupby("block")}
    return pd.Series({block: trials_to_criterion(of_it) for block, of_it in values.items()}, dtype=float)


def accuracy_by_position(trials: pd.DataFrame) -> pd.DataFrame:
    """The fraction of right choices: a row for each block, a column for each position."""
    counted = trials[trials["outcome"] != UNCOUNTED]
    return counted.pivot_table(index="block", columns="position", values="is_right", aggfunc="mean")


def confusion(trials: pd.DataFrame, n_actions: int) -> FloatArray:
    """How often each object was chosen at each position. [positions, actions], rows sum to 1 (NaN where never seen)."""
    choices = choices_of(trials)
    counts = choice_counts(choices.position, choices.action, int(choices.position.max()) + 1, n_actions)
    shares: FloatArray = (counts.double() / counts.sum(1, keepdim=True)).numpy()
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
    came, at_once, tried_old, then_new = swap_counts(choices_of(trials), order)[:, block].tolist()
    return at_once / came if came else np.nan, then_new / tried_old if tried_old else np.nan
