"""Comparison of models and groups."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from seqrl_lightning.behavior.comparison import (
    chance_log_likelihood,
    compare_groups,
    criteria,
    held_out,
    random_effects_selection,
)
from seqrl_lightning.behavior.fits import fit
from seqrl_lightning.behavior.histories import read_histories
from seqrl_lightning.behavior.likelihood import log_likelihood
from seqrl_lightning.behavior.model import find_model
from seqrl_lightning.behavior.sections import Comparison, cautions
from seqrl_lightning.types import ConfigurationError
from tests.behavior.tables import bandit, histories_of
from tests.behavior.test_fits import Logit, flips


def test_chance_is_among_the_allowed_actions() -> None:
    rows = [("a", "s", 1, 0.0, "1 2"), ("a", "s", 2, 0.0, "0 1 2"), ("b", "s", 0, 0.0, "0 1 2")]
    histories = histories_of(rows, "subject state action reward allowed")
    np.testing.assert_allclose(chance_log_likelihood(histories), [-np.log(6), -np.log(3)])


def test_criteria() -> None:
    histories = read_histories(bandit(3, 80))
    models = {name: find_model(name) for name in ("Chance", "QLearning", "QLearning+perseveration")}
    table = criteria({name: fit(model, histories, "ml") for name, model in models.items()}, histories)
    learned, chance = table.loc[("s1", "QLearning")], table.loc[("s1", "Chance")]
    gained = learned["log_likelihood"] - chance["log_likelihood"]
    assert chance["log_likelihood"] == pytest.approx(80 * np.log(0.5))
    assert learned["p"] == pytest.approx(stats.chi2.sf(2 * gained, 2))
    assert learned["p"] < 1e-3
    assert learned["pseudo_r2"] == pytest.approx(gained / (80 * np.log(2)))
    assert np.isnan(chance["p"])
    assert table["is_best"].groupby("subject").sum().tolist() == [1, 1, 1]
    full = table.xs("QLearning+perseveration", level="model")["log_likelihood"]
    assert (full >= table.xs("QLearning", level="model")["log_likelihood"] - 1e-3).all()  # it contains the other


def test_left_out_choices_are_predicted_by_the_others() -> None:
    histories = read_histories(bandit(5, 40))
    model = find_model("QLearning")
    by_hand = np.zeros(5)
    for fold in (0, 1):
        found = fit(model, histories, "map", histories.fold != fold)
        each = [log_likelihood(model, histories, found.points[None], histories.fold == k)[0] for k in (0, 1)]
        np.testing.assert_allclose(each[1 - fold], found.log_likelihood)
        by_hand += each[fold]
    np.testing.assert_allclose(held_out(model, histories, "map"), by_hand)
    assert (by_hand < fit(model, histories, "ml").log_likelihood).all()
    with pytest.raises(ConfigurationError, match="it must be at least 2 for --cross_validate"):
        held_out(model, read_histories(bandit(5, 40).drop(columns="block")), "map")


def test_equal_models_are_equally_frequent() -> None:
    found = random_effects_selection(np.zeros((20, 4)))
    np.testing.assert_allclose(found.frequency, 0.25)
    np.testing.assert_allclose(found.protected, 0.25, atol=0.01)
    assert found.equal > 0.9


def test_a_subject_with_an_extreme_preference_does_not_decide_alone() -> None:
    """Unlike with fixed effects: nine subjects follow one model, and the tenth another with overwhelming evidence."""
    log_evidence = np.array([[3.0, 0.0]] * 9 + [[0.0, 1000.0]])
    assert log_evidence.sum(0).argmax() == 1
    found = random_effects_selection(log_evidence)
    assert found.frequency[0] > 0.75
    assert found.protected[0] > 0.9


def test_the_frequencies_are_those_of_the_exact_posterior() -> None:
    """Two models, of which each subject's is known for certain: the posterior is a Beta distribution."""
    log_evidence = np.where(np.arange(12)[:, None] < 8, [[0.0, -500.0]], [[-500.0, 0.0]])
    found = random_effects_selection(log_evidence)
    np.testing.assert_allclose(found.frequency, [9 / 14, 5 / 14])
    assert found.exceedance[0] == pytest.approx(stats.beta.sf(0.5, 9, 5), abs=0.01)
    # The evidence that frequencies differ is B(9, 5), that they are equal 2^-12.
    ratio = float(stats.beta(9, 5).pdf(0.5)) / 1.0  # Savage and Dickey: posterior over prior density at 1/2
    assert found.equal == pytest.approx(ratio / (1 + ratio), abs=1e-6)


def test_a_fit_that_failed_is_said() -> None:
    told = flips([30, 10], 60, "aa")
    found = fit(Logit(), told, "ml")
    failed = replace(found, log_likelihood=found.log_likelihood - 40.0)
    (of_rewards,) = cautions(Comparison(told, {"Logit": found}, {"Logit": found}, {}))
    assert of_rewards.startswith("All rewards are 0")
    said = cautions(Comparison(told, {"Logit": failed}, {"Logit": failed}, {}))
    assert [text for text in said if text != of_rewards] == [text for text in said if "fits worse than chance" in text]
    assert len(said) == 2


@pytest.mark.slow
def test_small_groups_are_told_apart_by_a_t_test() -> None:
    """With so many choices that a subject's fraction is its probability, it is that of the fractions' logits."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=10)
    num_choices = 4000
    ones = np.rint(num_choices / (1 + np.exp(-logits))).astype(int)
    row = compare_groups(fit(Logit(), flips(ones.tolist(), num_choices, "a" * 5 + "b" * 5))).loc["x"]
    exact = stats.ttest_ind(logits[:5], logits[5:], equal_var=False)
    assert row["t"] == pytest.approx(exact.statistic, rel=0.02)
    assert row["p"] == pytest.approx(exact.pvalue, abs=0.01)


@pytest.mark.slow
def test_groups_are_told_apart_if_they_differ() -> None:
    rng = np.random.default_rng(2)
    for probability, differs in ((0.75, True), (0.3, False)):
        ones = [*rng.binomial(60, 0.3, 10).tolist(), *rng.binomial(60, probability, 10).tolist()]
        found = fit(Logit(), flips(ones, 60, "a" * 10 + "b" * 10))
        table = compare_groups(found)
        row = table.loc["x"]
        assert (row["group"], row["other"]) == ("a", "b")
        assert row["difference"] == pytest.approx(row["median"] - row["median_other"])  # of a parameter without bounds
        assert (row["p"] < 1e-4) == differs
        level = found.group_level
        assert level is not None
        variances = level.mean_error[:, 0] ** 2
        assert row["df"] == pytest.approx(variances.sum() ** 2 / (variances**2 / 9).sum())  # Welch and Satterthwaite
        assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["difference"] / row["error"]), row["df"]))
