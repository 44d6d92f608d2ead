"""Statistics over seeds, as Agarwal et al. (2021, arXiv:2108.13264) define them.

``scores`` are [runs, tasks] throughout (one task: [runs, 1] or [runs]). Their own package, rliable, can't be imported
beside NumPy 2.4.
"""

from collections.abc import Callable

import numpy as np

from seqrl_lightning.types import FloatArray

Statistic = Callable[[FloatArray], FloatArray | float]


def interquartile_mean(scores: FloatArray) -> float:
    """The mean of the middle half of all scores (section 4.3): a quarter is cut off at each end, rounded down."""
    ordered = np.sort(np.asarray(scores, float), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(
    scores: FloatArray, statistic: Statistic, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """The percentile interval of a statistic, by the stratified bootstrap (section 4.1).

    Runs are drawn with replacement within each task.

    Args:
        scores: [runs, tasks] or [runs] float.
        statistic: Of an array of this shape; a number, or an array.
        level: The interval's coverage.
        resamples: How often is drawn.
        seed: Of the draws.

    Returns:
        The lower and the upper end, of the statistic's shape.
    """
    columns = _two_dimensional(scores)
    runs, tasks = columns.shape
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(np.take_along_axis(columns, rng.integers(runs, size=(runs, tasks)), axis=0)) for _ in range(resamples)
    ]
    tail = (1 - level) / 2
    lower, upper = np.quantile(np.asarray(drawn), [tail, 1 - tail], axis=0)
    return lower, upper


def performance_profile(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """The fraction of runs that score more than each threshold, averaged over tasks (section 4.2). [thresholds]."""
    columns = _two_dimensional(scores)
    profile: FloatArray = (columns[..., None] > np.asarray(thresholds)).mean(axis=(0, 1))
    return profile


def probability_of_improvement(ours: FloatArray, theirs: FloatArray) -> float:
    """The probability that a run of ours scores more than one of theirs, averaged over tasks (section 4.3).

    Ties count half (the Mann-Whitney U statistic).

    Args:
        ours: [runs, tasks] or [runs] float.
        theirs: The same with as many tasks; the number of runs may differ.
    """
    x, y = _two_dimensional(ours)[:, None, :], _two_dimensional(theirs)[None, :, :]
    return float(((x > y) + 0.5 * (x == y)).mean())


def _two_dimensional(scores: FloatArray) -> FloatArray:
    columns = np.asarray(scores, float)
    return columns[:, None] if columns.ndim == 1 else columns
