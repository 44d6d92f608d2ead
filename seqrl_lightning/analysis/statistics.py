"""Statistics over seeds, as Agarwal et al. (2021, arXiv:2108.13264) define them, computed by SciPy.

``scores`` are [runs, tasks] throughout, or [runs] for one task. Their own package, rliable, can't be imported beside
NumPy 2.4.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from seqrl_lightning.types import FloatArray

Statistic = Callable[..., FloatArray]
"""A statistic of one or more samples, called as ``statistic(*samples, axis=-1)`` like SciPy's own."""

LEVEL = 0.95
"""Confidence level of all intervals."""
RESAMPLES = 2000


def interquartile_mean(scores: FloatArray) -> float:
    """Mean of the middle half of all scores (section 4.3): a quarter is cut off at each end, rounded down.

    >>> interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50]))
    3.5
    """
    return float(stats.trim_mean(scores, 0.25, axis=None))


def interquartile_mean_interval(scores: FloatArray) -> tuple[float, float]:
    """Interval of the interquartile mean, by the stratified bootstrap: runs are resampled within each task.

    Args:
        scores: [runs, tasks] or [runs] float.

    Returns:
        The lower and the upper end of the interval.
    """

    def statistic(*tasks: FloatArray, axis: int) -> FloatArray:
        trimmed: FloatArray = stats.trim_mean(np.concatenate(tasks, axis=axis), 0.25, axis=axis)
        return trimmed

    lower, upper = bootstrap_interval(*_by_run_and_task(scores).T, statistic=statistic)
    return float(lower), float(upper)


def bootstrap_interval(
    *samples: FloatArray, statistic: Statistic, axis: int = -1, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Percentile interval of a statistic, by the bootstrap (section 4.1).

    Args:
        samples: Independent samples; each is resampled by itself.
        statistic: A function of the samples.
        axis: The samples' axis of observations.
        seed: Seed of the resampling.

    Returns:
        The lower and the upper end of the interval, each of the statistic's shape. With a single observation in each
        sample, both are the statistic itself.
    """
    if all(np.shape(sample)[axis] == 1 for sample in samples):
        value = np.asarray(statistic(*samples, axis=axis))
        return value, value
    result = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        axis=axis,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def performance_profile(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Fraction of runs that score more than each threshold, averaged over tasks (section 4.2).

    Args:
        scores: [runs, tasks] or [runs] float.
        thresholds: [K] float.

    Returns:
        [K] float64.
    """
    profiles = [stats.ecdf(task).sf.evaluate(thresholds) for task in _by_run_and_task(scores).T]
    return np.asarray(np.mean(profiles, axis=0))


def probability_of_improvement(ours: FloatArray, theirs: FloatArray) -> float:
    """Probability that a run of ours scores more than one of theirs, averaged over tasks (section 4.3).

    Ties count half: this is the Mann-Whitney U statistic, divided by the number of pairs.

    Args:
        ours: [runs, tasks] or [runs] float.
        theirs: The same with as many tasks; the number of runs may differ.

    >>> probability_of_improvement(np.array([3.0, 1.0]), np.array([1.0, 2.0]))
    0.625
    """
    return float(np.mean(_share_of_wins(_by_run_and_task(ours), _by_run_and_task(theirs), axis=0)))


def probability_of_improvement_interval(ours: FloatArray, theirs: FloatArray) -> tuple[float, float]:
    """Interval of the probability of improvement for one task: the runs of both are resampled independently.

    Args:
        ours: [runs] float.
        theirs: [runs] float; the number of runs may differ.

    Returns:
        The lower and the upper end of the interval.
    """
    # SciPy resamples no single observation; twice the same one leaves all shares as they are.
    samples = [np.repeat(scores, 2) if len(scores) == 1 else scores for scores in (ours, theirs)]
    lower, upper = bootstrap_interval(*samples, statistic=_share_of_wins)
    return float(lower), float(upper)


def _share_of_wins(ours: FloatArray, theirs: FloatArray, axis: int) -> FloatArray:
    """Share of the pairs of observations in which ours is larger; ties count half."""
    with np.errstate(divide="ignore", invalid="ignore"):  # the p value of all ties, which nobody asked for
        u = stats.mannwhitneyu(ours, theirs, axis=axis, method="asymptotic").statistic
    shares: FloatArray = u / (ours.shape[axis] * theirs.shape[axis])
    return shares


def _by_run_and_task(scores: FloatArray) -> FloatArray:
    """[runs, tasks] float64."""
    columns = np.asarray(scores, float)
    return columns[:, None] if columns.ndim == 1 else columns
