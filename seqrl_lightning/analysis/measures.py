"""Measures of a table of trials (:func:`seqrl_lightning.analysis.trials.read_trials`) and of a table of episodes."""

import numpy as np
import pandas as pd
import torch

from seqrl_lightning.analysis.trials import choices_of, counted_trials, has_ended
from seqrl_lightning.functional import ERROR_KINDS, choice_counts, completion, follows_previous_order, swap_counts
from seqrl_lightning.metrics import EpisodesToCriterion, TaskFacts
from seqrl_lightning.types import Array, FloatArray, Order


def criterion_by_block(episodes: pd.DataFrame, facts: TaskFacts) -> pd.DataFrame:
    """Measure how long each block took to meet the criterion, over all environments.

    Args:
        episodes: A run's ``episodes.csv``: a row for each training episode, in the order in which they ended.
        facts: Facts about the task, ``mastery_return`` among them.

    Returns:
        A row for each ``block`` that had an episode: ``episodes`` to criterion; ``env_steps`` of the block's episodes
        up to and including that one; and ``is_met``. Where the criterion was not met, the two are lower bounds on
        its beginning (:func:`seqrl_lightning.functional.episodes_without_criterion`).
    """
    assert facts.mastery_return is not None
    block = episodes["block"].clip(0, facts.num_blocks - 1)  # of a task without num_blocks, it means something else
    metric = EpisodesToCriterion(facts.mastery_return, facts.num_blocks)
    returns = torch.from_numpy(episodes["episode_return"].to_numpy(np.float64))
    metric.update(torch.from_numpy(block.to_numpy(np.int64)), returns)
    needed, is_met = (column.numpy() for column in metric.by_block())
    rows = [
        (k, int(needed[k]), int(lengths.head(int(needed[k])).sum()), bool(is_met[k]))
        for k, lengths in episodes["episode_length"].groupby(block)
    ]
    return pd.DataFrame(rows, columns=["block", "episodes", "env_steps", "is_met"]).set_index("block")


def trials_to_criterion(criterion: pd.DataFrame, trials: pd.DataFrame) -> pd.Series:
    """Count each block's trials, up to and including the episode that met the criterion.

    Args:
        criterion: The run's :func:`criterion_by_block`.
        trials: The run's table of trials.

    Returns:
        The number of choices for which an action was right, by ``block``; where the criterion was not met, the number
        after which it is known to begin. NaN where the table lacks some of these episodes.
    """
    ended = trials[has_ended(trials)]
    by_episode = (ended["correct_action"] >= 0).groupby([ended["block"], ended["number"]]).sum().reset_index("block")
    needed = {}
    for block, episodes in criterion["episodes"].items():
        counts = by_episode.loc[by_episode["block"] == block, "correct_action"].head(episodes)
        needed[block] = float(counts.sum()) if len(counts) == episodes else np.nan
    return pd.Series(needed, name="trials", dtype=float)


def probes_at(probes: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Select the counted choices of one evaluation of each block.

    Args:
        probes: The table of probes.
        stage: ``first`` or ``last``: which evaluation of the block.
    """
    at = probes.groupby("block")["env_steps"].transform({"first": "min", "last": "max"}[stage])
    return counted_trials(probes[probes["env_steps"] == at])


def measure_episodes(trials: pd.DataFrame, facts: TaskFacts) -> pd.DataFrame:
    """Measure each episode that ended.

    Args:
        trials: The table of trials.
        facts: Facts about the task.

    Returns:
        A row for each episode, by its ``number``: ``env``, ``block``, ``completion``
        (:func:`seqrl_lightning.functional.completion`), ``choices``, the number of its choices, the number that were
        each of ``ERROR_KINDS``, and, if the task has an ``order``, the number that followed the order of the block
        before, ``previous_order``.
    """
    counted = counted_trials(trials)
    choices = choices_of(trials)
    groups = counted.groupby("number")
    table = groups.agg(env=("env", "first"), block=("block", "first"), choices=("outcome", "size"))
    table["completion"] = completion(choices, facts.num_picks).numpy()
    for kind in ERROR_KINDS:
        table[kind] = (counted["outcome"] == kind).groupby(counted["number"]).sum()
    if facts.order is not None:
        follows = pd.Series(follows_previous_order(choices, facts.order).numpy(), index=counted.index)
        table["previous_order"] = follows.groupby(counted["number"]).sum()
    return table


def error_shares(episodes: pd.DataFrame) -> pd.DataFrame:
    """Share of choices that were errors, for each row of a table of counts like :func:`measure_episodes` returns.

    Returns:
        A column for each of ``ERROR_KINDS``, and ``previous_order`` if there are such counts.
    """
    columns = [column for column in (*ERROR_KINDS, "previous_order") if column in episodes]
    return episodes[columns].div(episodes["choices"], axis=0)


def accuracy_by_position(trials: pd.DataFrame) -> pd.DataFrame:
    """Measure the fraction of right choices at each serial position.

    Returns:
        A row for each block and position, by the index ``block`` and ``position``: ``accuracy``, and the number of
        ``choices``.
    """
    by_place = counted_trials(trials).groupby(["block", "position"])["is_right"]
    return by_place.agg(accuracy="mean", choices="size")


def confusion(trials: pd.DataFrame, n_actions: int, rows: str = "position") -> FloatArray:
    """Share of each action in the choices at each serial position, or in those with each right action.

    Args:
        trials: The table of trials.
        n_actions: Number of actions.
        rows: ``position`` or ``correct_action``.

    Returns:
        [positions or right actions, n_actions] float64; each row sums to 1, or is NaN where there were no choices.
    """
    counted = counted_trials(trials)
    row, action = (torch.from_numpy(counted[column].to_numpy(np.int64)) for column in (rows, "action"))
    counts = choice_counts(row, action, int(row.max()) + 1, n_actions)
    shares: FloatArray = (counts.double() / counts.sum(1, keepdim=True)).numpy()
    return shares


def has_one_order(trials: pd.DataFrame) -> bool:
    """Whether one action is right at each serial position, so that positions stand for actions."""
    return bool((counted_trials(trials).groupby("position")["correct_action"].nunique() == 1).all())


def rank_transfer(trials: pd.DataFrame, order: Order, block: int, num_episodes: int = 5) -> tuple[float, float]:
    """Spearman's correlation of the positions at which objects are chosen with their old and their new ranks.

    Args:
        trials: The table of trials.
        order: The objects' orders, by block.
        block: A block after the first.
        num_episodes: Number of episodes after the switch that are measured.

    Returns:
        The correlation with the ranks in the block before, and with those in this block. (1, x) means that choices
        still follow the order before the switch, (x, 1) that they follow the new one. NaN if choices are at one
        position only.
    """
    rows = counted_trials(trials[(trials["block"] == block) & (trials["action"] < order.num_objects)])
    rows = rows[rows["number"].isin(rows["number"].unique()[:num_episodes])]
    rank = np.argsort(order.sequences, axis=1)
    old, new = (pd.Series(rank[k][rows["action"]]) for k in (block - 1, block))
    position = rows["position"].reset_index(drop=True)
    if position.nunique() < 2:  # all choices are at one position: none is correlated with anything
        return np.nan, np.nan
    return position.corr(old, method="spearman"), position.corr(new, method="spearman")


def action_values(trials: pd.DataFrame, actions: Array) -> pd.Series:
    """Mean Q-value of some actions in the states of each episode with values, by the episode's ``number``.

    Args:
        trials: The table of trials.
        actions: [K] int.
    """
    columns = [f"q_{action}" for action in actions if f"q_{action}" in trials]
    return trials.groupby("number")[columns].mean().mean(axis=1).dropna()


def swap_inference(trials: pd.DataFrame, order: Order, block: int) -> tuple[float, float]:
    """Fractions of episodes in which a swap of two objects (ABCDE to ADCBE) was anticipated or inferred.

    Both are measured at the first position that changed (:func:`seqrl_lightning.functional.swap_counts`).

    Args:
        trials: The table of trials.
        order: The objects' orders, by block.
        block: A block after the first.

    Returns:
        The fraction of the block's episodes in which the new object was chosen at once ("anticipated swap"), and, of
        those in which the old one was tried first, the fraction in which the new one came next ("ordinal inference");
        NaN where there were none.
    """
    reached, at_once, tried_old, then_new = swap_counts(choices_of(trials), order)[:, block].tolist()
    return at_once / reached if reached else np.nan, then_new / tried_old if tried_old else np.nan
