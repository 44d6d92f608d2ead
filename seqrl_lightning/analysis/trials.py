"""The table of trials with what follows from it: positions, and what kind of error each wrong choice is.

A row of ``trials.csv`` is one choice (:class:`seqrl_lightning.callbacks.trials.Trial`); an *attempt* is an episode: one
way through the sequence, which laboratories call a trial.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from seqrl_lightning.types import Array, BoolArray, IntArray, Order

RIGHT, UNCOUNTED = "right", "uncounted"
ERRORS = ("perseverative", "skip", "repeat", "distractor", "random", "other")
"""In the order of figures; see :func:`outcomes`."""


def read_trials(path: Path, order: Order | None) -> pd.DataFrame:
    """Reads a table of trials and adds columns.

    Args:
        path: ``trials.csv`` or ``predictions.csv``, or a table of people's or animals' choices with the columns
            ``episode``, ``trial``, ``action``, ``correct_action`` and, where there are any, ``env``, ``block``,
            ``state``, ``explored``.
        order: The task's orders; None for tasks without.

    Returns:
        The table with ``position`` (how many objects were right so far, from the state; without an order the number of
        the answer in its episode), ``is_right`` and ``outcome`` (:func:`outcomes`).
    """
    trials = pd.read_csv(path, dtype={"state": "category"})
    for column, value in (("env", 0), ("block", 0), ("explored", 0)):
        trials[column] = trials[column].fillna(value).astype(int) if column in trials else value
    trials["is_right"] = trials["action"] == trials["correct_action"]
    if order is None:
        counts = trials["correct_action"] >= 0
        trials["position"] = counts.groupby([trials["env"], trials["episode"]]).cumsum() - 1
    else:
        places = {text: np.argmax(json.loads(text)[: order.num_picks + 1]) for text in trials["state"].cat.categories}
        trials["position"] = trials["state"].map(places).astype(int)
    columns = ("action", "correct_action", "explored", "block", "position")
    action, correct_action, explored, block, position = (trials[column].to_numpy() for column in columns)
    trials["outcome"] = outcomes(action, correct_action, explored, block, position, order)
    return trials


def outcomes(
    action: IntArray,
    correct_action: IntArray,
    explored: BoolArray,
    block: IntArray,
    position: IntArray,
    order: Order | None,
) -> Array:
    """What each choice was. [N] of text.

    - ``right``; ``uncounted`` where no action was right or wrong.
    - ``random``: wrong, and the agent explored.
    - ``distractor``: an object that is never right.
    - ``perseverative``: the object that was right at this position in the block before.
    - ``repeat``: an object whose turn has been; ``skip``: one whose turn comes later.
    - ``other``: wrong, in a task without an order.

    Args:
        action: [N] int, the object chosen.
        correct_action: [N] int, the right one; -1 where none counts.
        explored: [N] bool, whether it was chosen at random.
        block: [N] int.
        position: [N] int, how many objects had been picked rightly.
        order: The task's orders; None for tasks without.
    """
    wrong = [correct_action < 0, action == correct_action, explored.astype(bool)]
    names = [UNCOUNTED, RIGHT, "random"]
    if order is None:
        return np.select(wrong, names, "other")
    place = np.argsort(order.sequences, axis=1)  # [blocks, n]: where each object stands
    now = position + order.num_given
    before = order.sequences[np.maximum(block - 1, 0), np.minimum(now, order.num_objects - 1)]
    is_distractor = action >= order.num_objects
    places = place[block, np.where(is_distractor, 0, action)]
    conditions = [*wrong, is_distractor, (block > 0) & (action == before), places < now]
    return np.select(conditions, [*names, "distractor", "perseverative", "repeat"], "skip")
