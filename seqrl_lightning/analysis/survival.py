"""Survival analysis: statistics of times to an event, such as the episodes to criterion, computed by SciPy.

Times come with ``is_met``: where it is false, the event has not occurred up to that time, and the time is censored.
Such runs count as slow in every measure here, and none is dropped.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from seqrl_lightning.analysis.statistics import permutation_test
from seqrl_lightning.types import BoolArray, FloatArray


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
