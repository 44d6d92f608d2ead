"""Statistics over seeds, as Agarwal et al. (2021, arXiv:2108.13264) define them, computed by SciPy.

``scores`` are [runs, tasks] throughout, or [runs] for one task. Their own package, rliable, can't be imported beside
NumPy 2.4.
"""

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from seqrl_lightning.types import FloatArray

Statistic = Callable[..., FloatArray]
"""A statistic of one or more samples, called as ``statistic(*samples, axis=-1)`` like SciPy's own."""

LEVEL = 0.95
"""Confidence level of all intervals."""
RESAMPLES = 2000
_DIVISIONS = 9_999  # tried at most by a permutation test
_CLOSE_TO_AN_END = 1e-9  # at 0 and at 1, the standard error of a probability is 0
MIN_SEEDS = 5
"""Fewest runs of which intervals are estimated and which are tested; of fewer, the range is shown."""
SPREAD = (
    f"the interquartile mean over seeds (a quarter cut off at each end, rounded down) with, from {MIN_SEEDS} seeds on, "
    "its 95 % percentile bootstrap interval"
)
"""The name of :func:`summarize`'s numbers, in captions."""


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


def probability_interval(probability: float, ours: int, theirs: int) -> tuple[float, float]:
    """Interval of a probability of improvement for one task: Newcombe's score interval (2006, method 5).

    Its ends are the probabilities from which the estimate is 1.96 standard errors away, each with the standard error
    that it would have at that end. So samples that don't overlap have an interval of some width too, unlike by the
    bootstrap.

    Args:
        probability: The estimate, such as :func:`probability_of_improvement`.
        ours: Number of our runs.
        theirs: Number of their runs.

    Returns:
        The lower and the upper end of the interval.

    >>> [round(end, 3) for end in probability_interval(1.0, 5, 5)]  # no run of theirs has more than one of ours
    [0.643, 1.0]
    """
    z = stats.norm.ppf(0.5 + LEVEL / 2)
    mean_other_runs = (ours + theirs) / 2 - 1

    def deviation(at: float) -> float:
        pairs_with_a_run_in_common = (1 - at) / (2 - at) + at / (1 + at)
        variance = at * (1 - at) * (1 + mean_other_runs * pairs_with_a_run_in_common) / (ours * theirs)
        return float((probability - at) ** 2 - z**2 * variance)

    inside = _CLOSE_TO_AN_END
    lower = optimize.brentq(deviation, inside, probability - inside) if probability > inside else 0.0
    upper = optimize.brentq(deviation, probability + inside, 1 - inside) if probability < 1 - inside else 1.0
    return float(lower), float(upper)


def interquartile_means(scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute the interquartile mean of each of several samples of the same runs, with its 95 % bootstrap interval.

    Args:
        scores: [K, runs] float, at least two runs.

    Returns:
        The means and the lower and the upper ends of their intervals, each [K] float64.
    """

    def statistic(values: FloatArray, axis: int) -> FloatArray:
        means: FloatArray = stats.trim_mean(values, 0.25, axis=axis)
        return means

    return statistic(scores, -1), *bootstrap_interval(scores, statistic=statistic)


class Summary(NamedTuple):
    """The interquartile mean of some runs, and how far it, or they, spread."""

    mean: float
    lower: float
    upper: float
    is_interval: bool  # whether lower and upper are its 95 % interval; otherwise the lowest and the highest run
    num_runs: int


def summarize(scores: FloatArray) -> Summary:
    """Summarize the runs of a condition: with an interval from five runs on, with their range below that.

    A bootstrap of four runs can't be wider than their range and covers the mean far less often than it says.

    Args:
        scores: [runs] float, at least one; NaN where a run has no value, which is left out.

    >>> summarize(np.array([1.0, 4.0, 2.5]))
    Summary(mean=2.5, lower=1.0, upper=4.0, is_interval=False, num_runs=3)
    """
    known = scores[~np.isnan(scores)]
    if not len(known):
        return Summary(np.nan, np.nan, np.nan, False, 0)
    is_interval = len(known) >= MIN_SEEDS
    ends = interquartile_mean_interval(known) if is_interval else (float(known.min()), float(known.max()))
    return Summary(interquartile_mean(known), *ends, is_interval, len(known))


def permutation_test(ours: FloatArray, theirs: FloatArray) -> float:
    """Test whether two conditions have the same distribution: a permutation test of the difference of their means.

    All divisions of the runs into two groups of these sizes are tried if there are at most 9,999 of them, otherwise as
    many random ones, so that the test rejects at most as often as it says, whatever the distribution.

    Args:
        ours: [runs] float, at least ``MIN_SEEDS``.
        theirs: [runs] float, at least ``MIN_SEEDS``.

    Returns:
        The two-sided p value.

    >>> permutation_test(np.arange(5.0), np.arange(5.0) + 5)  # 2 of the 252 divisions are as extreme
    0.007936507936507936
    """

    def difference(a: FloatArray, b: FloatArray, axis: int) -> FloatArray:
        return np.asarray(a.mean(axis) - b.mean(axis))

    rng = np.random.default_rng(0)
    result = stats.permutation_test((ours, theirs), difference, vectorized=True, n_resamples=_DIVISIONS, rng=rng)
    return float(result.pvalue)


def smallest_p(ours: int, theirs: int) -> float:
    """Return the smallest p value that :func:`permutation_test` can have, where no two runs overlap.

    Args:
        ours: Number of our runs.
        theirs: Number of their runs.

    >>> smallest_p(5, 5) == 2 / 252
    True
    """
    return 2 / min(comb(ours + theirs, ours), _DIVISIONS + 1)


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p values for the number of tests (Holm, 1979).

    Args:
        p_values: [tests] float; NaN where there was no test.

    Returns:
        [tests] float64: rejecting those of at most 5 % keeps the chance of any false rejection at 5 %.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaNs are last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def seeds_needed(effect: float, power: float = 0.8) -> int:
    """Plan an experiment: the seeds for each of two conditions to find an effect at the level of 5 % (Noether, 1987).

    The equation is that of the Mann-Whitney test: ``n = (z(0.975) + z(power))^2 / (6 (effect - 1/2)^2)``.

    Args:
        effect: The smallest probability of improvement that matters, in (0.5, 1]; never the one that was observed.
        power: The probability of finding it.

    >>> [seeds_needed(effect) for effect in (0.64, 0.71, 0.9)]
    [67, 30, 9]
    """
    z = stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(power)
    return max(MIN_SEEDS, int(np.ceil(z**2 / (6 * (effect - 0.5) ** 2))))


def _share_of_wins(ours: FloatArray, theirs: FloatArray, axis: int) -> FloatArray:
    """Share of the pairs of observations in which ours is larger; ties count half."""
    with np.errstate(divide="ignore", invalid="ignore"):  # the p value of ties alone, which isn't used
        u = stats.mannwhitneyu(ours, theirs, axis=axis, method="asymptotic").statistic
    shares: FloatArray = u / (ours.shape[axis] * theirs.shape[axis])
    return shares


def _by_run_and_task(scores: FloatArray) -> FloatArray:
    """[runs, tasks] float64."""
    columns = np.asarray(scores, float)
    return columns[:, None] if columns.ndim == 1 else columns
