"""Statistics over seeds, as Agarwal et al. (2021, arXiv:2108.13264) define them, computed by SciPy.

``scores`` are [runs, tasks] throughout, or [runs] for one task. Their own package, rliable, can't be imported beside
NumPy 2.4.

Times to an event, such as the episodes to criterion, come with ``is_met``: where it is false, the event has not
occurred up to that time, and the time is censored. Such runs count as slow in every measure here, and none is dropped.
"""

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from seqrl_lightning.types import BoolArray, FloatArray

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


def log_rank_scores(times: FloatArray, is_met: BoolArray) -> FloatArray:
    """Score each run by its time to an event, so that censored times can be compared (Peto and Peto, 1972).

    The score is 1 if the event occurred, less the Nelson-Aalen estimate, from all runs, of the cumulative hazard at the
    run's time: high for fast runs, low for slow and for censored ones. The sum of a condition's scores is the observed
    less the expected number of events of the log-rank test; a permutation test of the scores is its exact version.

    Args:
        times: [runs] float, of all conditions.
        is_met: [runs] bool, whether the event occurred.

    Returns:
        [runs] float64; they sum to 0.

    >>> log_rank_scores(np.array([1.0, 2.0, 2.0]), np.array([True, True, False])).round(3).tolist()
    [0.667, 0.167, -0.833]
    """
    event_times = np.unique(times[is_met])
    events = (times[is_met][:, None] == event_times).sum(0)
    at_risk = (times[:, None] >= event_times).sum(0)
    reached = times[:, None] >= event_times  # [runs, events]
    scores: FloatArray = is_met - (reached * (events / at_risk)).sum(1)
    return scores


def log_rank_test(ours: FloatArray, is_met: BoolArray, theirs: FloatArray, is_met_there: BoolArray) -> float:
    """Test whether two conditions take equally long: the permutation version of the log-rank test.

    Args:
        ours: [runs] float, times to the event or until they were censored.
        is_met: [runs] bool, whether the event occurred.
        theirs: [runs] float, of the other condition.
        is_met_there: [runs] bool.

    Returns:
        The two-sided p value.
    """
    scores = log_rank_scores(np.concatenate([ours, theirs]), np.concatenate([is_met, is_met_there]))
    return permutation_test(scores[: len(ours)], scores[len(ours) :])


def probability_of_taking_longer(
    ours: FloatArray, is_met: BoolArray, theirs: FloatArray, is_met_there: BoolArray
) -> float:
    """Probability that a run of ours takes longer than one of theirs.

    This is the probability of improvement for times to an event: pairs of which censoring hides who took longer count
    half (Gehan, 1965), like ties.

    Args:
        ours: [runs] float, times to the event or until they were censored.
        is_met: [runs] bool, whether the event occurred.
        theirs: [runs] float, of the other condition.
        is_met_there: [runs] bool.

    >>> probability_of_taking_longer(np.array([9.0]), np.array([False]), np.array([4.0, 20.0]), np.array([True, True]))
    0.75
    """
    longer = is_met_there & ((ours[:, None] > theirs) | ((ours[:, None] == theirs) & ~is_met[:, None]))
    shorter = is_met[:, None] & ((ours[:, None] < theirs) | ((ours[:, None] == theirs) & ~is_met_there))
    return float(np.mean((1.0 + longer - shorter) / 2))


class Survival(NamedTuple):
    """A Kaplan-Meier estimate of the fraction of runs in which an event has not occurred yet."""

    times: FloatArray  # [K] float64, ascending, from 0 on
    fraction: FloatArray  # [K] float64, from each time until the next

    @property
    def median(self) -> float:
        """The time at which half of the runs have had the event; infinite if fewer ever have."""
        reached = self.times[self.fraction <= 0.5]
        return float(reached[0]) if len(reached) else np.inf


def kaplan_meier(times: FloatArray, is_met: BoolArray) -> Survival:
    """Estimate how many runs have not had an event yet (Kaplan and Meier, 1958).

    Args:
        times: [runs] float, times to the event or until they were censored.
        is_met: [runs] bool, whether the event occurred.

    >>> kaplan_meier(np.array([4.0, 9.0, 20.0]), np.array([True, True, False])).fraction.round(2).tolist()
    [1.0, 0.67, 0.33, 0.33]
    >>> kaplan_meier(np.array([4.0, 20.0, 20.0]), np.array([True, False, False])).median
    inf
    """
    curve = stats.ecdf(stats.CensoredData.right_censored(times, ~is_met)).sf
    return Survival(np.insert(curve.quantiles, 0, 0.0), np.insert(curve.probabilities, 0, 1.0))


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
