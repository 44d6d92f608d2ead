"""Posterior predictive checks: what fitted subjects, simulated in the table's task, do like the real ones."""

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.fits import Fit
from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.simulation import simulate
from seqrl_lightning.types import Array, BoolArray, FloatArray

MEASURES = {
    "learning": "trials, in tenths of a subject's",
    "position": "serial position",
    "repeats": "after a reward",
    "switch": "trial from the switch of the block",
}
"""The measures, each with what it is taken over."""
_BINS = 10
_AROUND_SWITCH = 10  # trials before and after


def score(histories: Histories) -> FloatArray:
    """Return whether each choice was right or, if the table states no right action, its reward, [T, N]; else NaN."""
    if (histories.correct_action < 0).all():
        return np.where(histories.is_choice, histories.reward, np.nan)
    is_right = np.where(histories.correct_action >= 0, histories.action == histories.correct_action, np.nan)
    return np.where(histories.is_choice, is_right, np.nan)


def score_name(histories: Histories) -> str:
    """Return the name of :func:`score`."""
    return "mean reward" if (histories.correct_action < 0).all() else "fraction right"


def measure(histories: Histories) -> pd.DataFrame:
    """Measure the choices, as means over subjects.

    Args:
        histories: The choices of N subjects.

    Returns:
        A row for each ``measure`` and ``x``, with its ``value``. ``learning``: the score by tenths of a subject's
        trials. ``position``: the score by serial position, if episodes have several. ``repeats``: the fraction of
        choices that repeat the last one in the same state, after a reward above 0 (x = 1) and after others (x = 0).
        ``switch``: the score by trials from a switch of the session or block, if there is one.
    """
    scores, chosen = score(histories), histories.is_choice
    tenth = (chosen.cumsum(0) - 1) * _BINS // chosen.sum(0) + 1
    parts = {"learning": _means(scores, tenth, chosen)}
    if histories.num_positions > 1:
        parts["position"] = _means(scores, histories.position + 1, chosen)
    repeats, won, has_last = _repeats(histories)
    parts["repeats"] = _means(repeats, won.astype(int), chosen & has_last)
    from_switch = _trials_from_switch(histories)
    parts["switch"] = _means(scores, from_switch, chosen & (np.abs(from_switch) <= _AROUND_SWITCH))
    table = pd.concat({name: part for name, part in parts.items() if len(part)}, names=["measure", "x"])
    return table.rename("value").reset_index()


def check(found: Fit, histories: Histories, copies: int = 20, seed: int = 0) -> pd.DataFrame:
    """Compare the choices with those of the fitted subjects, simulated in the table's task.

    Args:
        found: The fit.
        histories: The choices of N subjects.
        copies: Number of times that each subject is simulated.
        seed: Seed of the simulations.

    Returns:
        As from :func:`measure`, with the mean over simulations, ``simulated``, and their 2.5 % and 97.5 % quantiles,
        ``lower`` and ``upper``.
    """
    real = measure(histories).set_index(["measure", "x"])["value"]
    copied = [measure(simulate(found.model, histories, found.points, seed + k)) for k in range(copies)]
    values = pd.concat([table.set_index(["measure", "x"])["value"] for table in copied], axis=1).reindex(real.index)
    lower, upper = (values.quantile(level, axis=1) for level in (0.025, 0.975))
    return pd.DataFrame({"value": real, "simulated": values.mean(1), "lower": lower, "upper": upper}).reset_index()


def _means(values: FloatArray, x: Array, counted: BoolArray) -> pd.Series:
    """Return the mean over subjects of each subject's mean at each x."""
    subject = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    keep = counted & ~np.isnan(values)
    table = pd.DataFrame({"x": x[keep], "subject": subject[keep], "value": values[keep]})
    return table.groupby(["x", "subject"])["value"].mean().groupby("x").mean()


def _repeats(histories: Histories) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Return whether each choice repeats the subject's last one in the state, if that one won, and if there is one."""
    row = np.arange(histories.num_subjects)
    last = np.full((len(row), histories.num_states), -1)
    won = np.zeros(last.shape, bool)
    repeats, after_win, has_last = [], [], []
    columns = histories.state, histories.action, histories.reward, histories.is_choice
    for state, action, reward, chosen in zip(*columns, strict=True):
        before = last[row, state]
        repeats.append((before == action).astype(float))
        after_win.append(won[row, state])
        has_last.append(before >= 0)
        last[row[chosen], state[chosen]], won[row[chosen], state[chosen]] = action[chosen], reward[chosen] > 0
    return np.stack(repeats), np.stack(after_win), np.stack(has_last)


def _trials_from_switch(histories: Histories) -> Array:
    """Return how far each trial is from the nearest switch of the fold, [T, N]: 0 right after, -1 right before it."""
    far = np.full(histories.fold.shape, len(histories.fold) + _AROUND_SWITCH + 1)
    time = np.arange(len(far))[:, None]
    switched = np.zeros(far.shape, bool)
    switched[1:] = histories.is_trial[1:] & (histories.fold[1:] != histories.fold[:-1])
    for t in np.flatnonzero(switched.any(1)):
        distance = np.where(switched[t], time - t, far)
        far = np.where(np.abs(distance) < np.abs(far), distance, far)
    return far
