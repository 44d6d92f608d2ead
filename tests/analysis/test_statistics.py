"""Statistics over seeds, against numbers worked out by hand from the definitions."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics import SCORES, coverage_of_improvement, coverage_of_middle
from seqrl_lightning.analysis.statistics import (
    MIN_SEEDS,
    bootstrap_interval,
    holm,
    interquartile_mean,
    interquartile_mean_interval,
    performance_profile,
    permutation_test,
    probability_interval,
    probability_of_improvement,
    seeds_needed,
    smallest_p,
    summarize,
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


def test_runs_that_all_end_alike_are_no_improvement() -> None:
    ours, theirs = np.full(3, 5.0), np.full(4, 5.0)
    assert probability_of_improvement(ours, theirs) == 0.5


def test_the_ends_of_a_probability_are_as_far_away_as_it_says() -> None:
    for probability, ours, theirs in ((0.5, 5, 5), (0.83, 5, 10), (1.0, 5, 5), (0.0, 20, 5)):
        lower, upper = probability_interval(probability, ours, theirs)
        assert 0.0 <= lower <= probability <= upper <= 1.0
        assert lower < upper
        for end in {lower, upper} - {0.0, 1.0}:  # Hanley and McNeil's variance, with both numbers at their mean
            q1, q2, others = end / (2 - end), 2 * end**2 / (1 + end), (ours + theirs) / 2 - 1
            variance = end * (1 - end) + others * (q1 - end**2) + others * (q2 - end**2)
            assert (probability - end) ** 2 == pytest.approx(1.959964**2 * variance / (ours * theirs), rel=1e-4)
        mirrored = probability_interval(1 - probability, theirs, ours)
        np.testing.assert_allclose(mirrored, (1 - upper, 1 - lower), atol=1e-8)


@pytest.mark.parametrize("num_seeds", [5, 10, 20])
@pytest.mark.parametrize("effect", [0.5, 0.75, 0.9, 0.97, 0.995])
def test_the_interval_of_a_probability_covers_it_up_to_samples_that_do_not_overlap(
    effect: float, num_seeds: int
) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 2000, num_seeds))
    ours += np.sqrt(2) * stats.norm.ppf(effect)
    wins = (ours[:, :, None] > theirs[:, None, :]).sum((1, 2))
    found = {won: probability_interval(won / num_seeds**2, num_seeds, num_seeds) for won in np.unique(wins)}
    covered = [found[won][0] <= effect <= found[won][1] for won in wins]
    assert 0.93 <= np.mean(covered) <= 0.985


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(200, 40))
    lower, upper = bootstrap_interval(samples, statistic=np.mean)
    assert np.mean((lower < 0.0) & (upper > 0.0)) == pytest.approx(0.95, abs=0.05)


def test_few_runs_have_a_range_and_more_have_an_interval() -> None:
    scores = np.array([0.0, 1.0, 2.0, 9.0, np.nan])
    assert summarize(scores) == (1.5, 0.0, 9.0, False, 4)
    found = summarize(np.append(scores, 3.0))
    assert found.is_interval
    assert found.num_runs == MIN_SEEDS
    assert (found.lower, found.upper) == interquartile_mean_interval(np.array([0.0, 1.0, 2.0, 9.0, 3.0]))
    assert summarize(np.array([np.nan])).num_runs == 0


def test_p_values_of_several_tests_are_raised() -> None:
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.01, 0.9])), [0.04, np.nan, 0.03, 0.9])
    np.testing.assert_allclose(holm(np.array([0.5, 0.6])), [1.0, 1.0])


@pytest.mark.slow
def test_the_planned_number_of_seeds_finds_the_effect_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    shift = np.sqrt(2) * stats.norm.ppf(0.75)  # of a normal distribution, for an improvement in 75 % of pairs
    n = seeds_needed(0.75)
    ours, theirs = rng.normal(shift, size=(2000, n)), rng.normal(size=(2000, n))
    found = stats.mannwhitneyu(ours, theirs, axis=1).pvalue <= 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


@pytest.mark.slow
def test_without_an_effect_five_in_a_hundred_experiments_of_five_seeds_are_rejected() -> None:
    rng = np.random.default_rng(0)
    experiments = rng.exponential(size=(5000, 10))
    p_values = [permutation_test(seeds[:5], seeds[5:]) for seeds in experiments]
    assert 0.035 <= np.mean(np.array(p_values) <= 0.05) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize("scores", SCORES)
def test_the_interval_of_ten_seeds_covers_the_interquartile_mean(scores: str) -> None:
    assert coverage_of_middle(SCORES[scores], 10, 2000) >= 0.91


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_of_a_probability_covers_it_for_scores_that_are_not_normal(scores: str, shift: float) -> None:
    true, covered = coverage_of_improvement(SCORES[scores], shift, 10, 1000)
    assert true == pytest.approx(0.5) if shift == 0 else 0.7 < true < 0.9
    assert 0.92 <= covered <= 0.98


def test_no_p_is_smaller_than_that_of_samples_that_do_not_overlap() -> None:
    for ours, theirs in ((5, 5), (5, 6), (8, 8)):
        samples = np.arange(float(ours)), 100 + np.arange(float(theirs))
        assert permutation_test(*samples) == pytest.approx(smallest_p(ours, theirs))


@pytest.mark.slow
def test_seeds_that_conditions_share_make_the_test_conservative() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1000, 5))
    ours, theirs = (np.sqrt(0.4) * shared + np.sqrt(0.6) * rng.normal(size=(1000, 5)) for _ in range(2))
    p_values = [permutation_test(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert 0.005 <= np.mean(np.array(p_values) <= 0.05) <= 0.035
