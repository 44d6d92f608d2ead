"""Times to an event, some of them censored."""

import numpy as np
import pytest
from scipy import stats

from seqrl_lightning.analysis.statistics import probability_of_improvement
from seqrl_lightning.analysis.survival import kaplan_meier, log_rank_scores, log_rank_test, probability_of_taking_longer


def test_survival_counts_censored_runs_as_slow() -> None:
    times = np.array([3.0, 5.0, 5.0, 8.0, 10.0])
    is_met = np.array([True, True, False, True, False])
    survival = kaplan_meier(times, is_met)
    assert survival.times.tolist() == [0, 3, 5, 8, 10]
    # 4 of 5 outlast 3; of the 4 at risk at 5, 3 outlast it; of the 2 at risk at 8, 1
    np.testing.assert_allclose(survival.fraction, [1, 4 / 5, 4 / 5 * 3 / 4, 3 / 5 / 2, 3 / 5 / 2])
    assert survival.median == 8
    assert kaplan_meier(times, np.zeros(5, bool)).median == np.inf


def test_scores_add_up_to_the_log_rank_test_of_scipy() -> None:
    rng = np.random.default_rng(3)
    times, is_met = rng.integers(1, 9, 20).astype(float), rng.random(20) < 0.7
    scores = log_rank_scores(times, is_met)
    assert scores.sum() == pytest.approx(0.0)
    groups = [stats.CensoredData.right_censored(times[part], ~is_met[part]) for part in (slice(9), slice(9, None))]
    statistic = stats.logrank(*groups).statistic  # (observed - expected) / standard deviation
    variance = 0.0
    for time in np.unique(times[is_met]):
        at_risk, events = np.sum(times >= time), np.sum(times[is_met] == time)
        ours = np.sum(times[:9] >= time) / at_risk
        variance += events * ours * (1 - ours) * (at_risk - events) / max(at_risk - 1, 1)
    assert abs(scores[:9].sum()) == pytest.approx(abs(statistic) * np.sqrt(variance))


def test_runs_that_never_learn_are_slower_than_runs_that_do() -> None:
    fast, slow = np.full(5, 30.0), np.full(5, 40.0)
    always, never = np.ones(5, bool), np.zeros(5, bool)
    assert log_rank_test(fast, always, slow, never) == pytest.approx(2 / 252)
    assert log_rank_test(fast, never, slow, never) == 1.0


def test_pairs_of_which_nobody_knows_who_took_longer_count_half() -> None:
    ours, met = np.array([3.0, 9.0]), np.array([True, False])  # the second took more than 9
    theirs, met_there = np.array([5.0, 12.0, 9.0]), np.array([True, False, True])
    # 3 is shorter than all; more than 9 is longer than 5 and 9, and perhaps than more than 12
    estimate = probability_of_taking_longer(ours, met, theirs, met_there)
    assert estimate == pytest.approx((0 + 0 + 0 + 1 + 0.5 + 1) / 6)
    everyone = np.ones(3, bool)
    times = np.array([4.0, 2.0, 4.0]), np.array([4.0, 3.0, 1.0])
    found = probability_of_taking_longer(times[0], everyone, times[1], everyone)
    assert found == pytest.approx(probability_of_improvement(*times))
