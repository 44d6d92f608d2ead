"""Statistics over seeds, against numbers worked out by hand from the definitions."""

import numpy as np
import pytest

from seqrl_lightning.analysis.statistics import (
    bootstrap_interval,
    interquartile_mean,
    interquartile_mean_interval,
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
)


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == (2 + 3 + 4 + 5) / 4
    assert interquartile_mean(np.array([1.0, 2, 9])) == 4.0  # nothing to cut off three
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 100])) == 2.0
    assert interquartile_mean(np.array([[0.0, 10], [1, 11], [2, 12], [3, 13]])) == (2 + 3 + 10 + 11) / 4


def test_profiles_count_the_runs_above_each_threshold() -> None:
    scores = np.array([[0.0, 1.0], [0.5, 1.0], [1.0, 2.0], [0.2, 0.0]])
    np.testing.assert_allclose(performance_profile(scores, np.array([0.0, 0.5, 1.0])), [6 / 8, 4 / 8, 1 / 8])
    np.testing.assert_allclose(performance_profile(np.array([1.0, 2.0]), np.array([1.0])), [0.5])


def test_the_probability_of_improvement_compares_all_pairs_and_halves_ties() -> None:
    assert probability_of_improvement(np.array([3.0, 1.0]), np.array([1.0, 2.0])) == (1 + 1 + 0.5 + 0) / 4
    two_tasks = np.array([[3.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 5.0], [2.0, 5.0]])
    assert probability_of_improvement(*two_tasks) == 0.625 / 2


def test_the_bootstrap_resamples_each_sample_by_itself() -> None:
    lower, upper = bootstrap_interval(np.array([[0.0, 100.0], [1.0, 100.0]]), statistic=np.mean, axis=0)
    np.testing.assert_allclose((lower[1], upper[1]), 100.0)
    assert (lower[0], upper[0]) == (0.0, 1.0)


def test_the_interval_of_the_interquartile_mean_resamples_runs_within_their_task() -> None:
    one_task = np.array([0.0, 1.0, 2.0, 3.0, 50.0])
    lower, upper = interquartile_mean_interval(one_task)
    assert lower < interquartile_mean(one_task) < upper
    constant_tasks = np.array([[0.0, 100.0], [0.0, 100.0]])  # a resample across tasks would not always mix them evenly
    assert interquartile_mean_interval(constant_tasks) == (50.0, 50.0)


def test_a_single_run_has_an_interval_of_no_width() -> None:
    assert interquartile_mean_interval(np.array([3.0])) == (3.0, 3.0)
    assert probability_of_improvement_interval(np.array([2.0]), np.array([1.0])) == (1.0, 1.0)
    lower, upper = probability_of_improvement_interval(np.array([2.0]), np.array([1.0, 3.0, 1.0]))
    assert 0.0 <= lower < probability_of_improvement(np.array([2.0]), np.array([1.0, 3.0, 1.0])) < upper == 1.0


def test_runs_that_all_end_alike_are_no_improvement() -> None:
    ours, theirs = np.full(3, 5.0), np.full(4, 5.0)
    assert probability_of_improvement(ours, theirs) == 0.5
    assert probability_of_improvement_interval(ours, theirs) == (0.5, 0.5)


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(200, 40))
    lower, upper = bootstrap_interval(samples, statistic=np.mean)
    assert np.mean((lower < 0.0) & (upper > 0.0)) == pytest.approx(0.95, abs=0.05)
