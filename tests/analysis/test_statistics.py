"""Statistics over seeds, against numbers worked out by hand from the definitions."""

import numpy as np
import pytest

from seqrl_lightning.analysis.statistics import (
    bootstrap_interval,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
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


def test_the_bootstrap_draws_runs_within_their_task() -> None:
    scores = np.array([[0.0, 100.0], [1.0, 100.0]])  # a draw across tasks would mix 0 and 100
    lower, upper = bootstrap_interval(scores, lambda drawn: drawn.mean(0))
    np.testing.assert_allclose((lower[1], upper[1]), 100.0)
    assert (lower[0], upper[0]) == (0.0, 1.0)


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        lower, upper = bootstrap_interval(rng.normal(size=40), np.mean, resamples=200, seed=seed)
        covered += bool(lower < 0.0 < upper)
    assert covered / 200 == pytest.approx(0.95, abs=0.05)
