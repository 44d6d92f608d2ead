"""Fits: Newton's method, the three methods, groups."""

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.behavior.fits import METHODS, default_method, fit, own_prior
from seqrl_lightning.behavior.histories import Histories, Trial, read_histories
from seqrl_lightning.behavior.likelihood import log_likelihood
from seqrl_lightning.behavior.model import RATE, Memory, Model, Parameter, Parameters, find_model
from seqrl_lightning.behavior.newton import derivatives, maximize
from seqrl_lightning.types import Array, ConfigurationError, FloatArray
from tests.behavior.tables import bandit, histories_of


class Coin(Model):
    """Chooses action 1 with a probability: its likelihood is the binomial one."""

    parameters = {"p": RATE}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        return np.stack([1 - p["p"], p["p"]], 1)


class Logit(Coin):
    """The same, by its log-odds: for the prior of a group, the Gaussian of the log-odds."""

    parameters = {"x": Parameter()}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        return np.stack([1 / (1 + np.exp(p["x"])), 1 / (1 + np.exp(-p["x"]))], 1)


def flips(ones: list[int], of: int, groups: str = "") -> Histories:
    """Coins, with a number of ones of each."""
    rows = [(n, groups[n : n + 1] or "all", 0, int(t < k), 0.0) for n, k in enumerate(ones) for t in range(of)]
    return histories_of(rows, "subject group state action reward")


def test_derivatives_are_those_of_a_function_that_is_known() -> None:
    def objective(points: FloatArray, problems: Array) -> FloatArray:
        x, y = points[..., 0], points[..., 1]
        return np.exp(x) * np.sin(y) + problems * x * y

    point = np.array([[0.3, 0.7], [-0.5, 0.2]])
    value, gradient, hessian = derivatives(objective, point, np.array([0, 2]))
    for i, scale in enumerate((0, 2)):
        x, y = point[i]
        assert value[i] == pytest.approx(np.exp(x) * np.sin(y) + scale * x * y)
        assert gradient[i] == pytest.approx(
            [np.exp(x) * np.sin(y) + scale * y, np.exp(x) * np.cos(y) + scale * x], rel=1e-5
        )
        mixed = np.exp(x) * np.cos(y) + scale
        expected = [[np.exp(x) * np.sin(y), mixed], [mixed, -np.exp(x) * np.sin(y)]]
        np.testing.assert_allclose(hessian[i], expected, rtol=1e-5)


def test_each_problem_has_its_own_maximum_inside_the_box() -> None:
    centers = np.array([[0.0, 1.0], [3.0, -1.0], [9.0, 0.5]])

    def objective(points: FloatArray, problems: Array) -> FloatArray:
        away = points - centers[problems]
        return -((away**2).sum(-1)) - 0.5 * (away.sum(-1)) ** 4

    found = maximize(objective, np.full((3, 2), 4.0), np.full(2, -5.0), np.full(2, 5.0))
    np.testing.assert_allclose(found.point[:2], centers[:2], atol=1e-2)
    assert found.point[2, 0] == 5.0  # the box's side


def test_maximum_likelihood_is_the_fraction() -> None:
    found = fit(Coin(), flips([12, 30], 40), "ml")
    np.testing.assert_allclose(found.parameters["p"], [0.3, 0.75], atol=1e-3)
    errors = np.sqrt([0.3 * 0.7 / 40, 0.75 * 0.25 / 40])
    np.testing.assert_allclose(found.standard_errors["p"], errors, rtol=1e-2)
    expected = 12 * np.log(0.3) + 28 * np.log(0.7)
    assert found.log_likelihood[0] == pytest.approx(expected, abs=1e-4)
    assert found.aic[0] == pytest.approx(2 - 2 * expected, abs=1e-3)
    assert found.bic[0] == pytest.approx(np.log(40) - 2 * expected, abs=1e-3)
    assert np.isnan(found.log_evidence).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_fit_does_not_depend_on_the_unit_of_rewards(method: str) -> None:
    table = bandit(5, 60)
    in_units, in_cents = (
        fit(find_model("QLearning"), read_histories(table.assign(reward=table["reward"] * unit)), method)
        for unit in (1, 1000)
    )
    np.testing.assert_allclose(in_cents.log_likelihood, in_units.log_likelihood, atol=1e-4)
    np.testing.assert_allclose(1000 * in_cents.parameters["beta"], in_units.parameters["beta"], rtol=1e-2)


def test_the_evidence_is_the_integral_of_likelihood_and_prior() -> None:
    histories = flips([12], 40)
    found = fit(Logit(), histories, "map")
    x = np.linspace(-8, 8, 4001)
    prior = np.exp(-0.5 * (x / 1.5) ** 2) / (1.5 * np.sqrt(2 * np.pi))
    likelihood = np.exp(log_likelihood(Logit(), histories, x[:, None, None])[:, 0])
    assert found.log_evidence[0] == pytest.approx(np.log(np.trapezoid(likelihood * prior, x)), abs=0.02)
    mode = x[np.argmax(likelihood * prior)]
    assert found.points[0, 0] == pytest.approx(mode, abs=5e-3)


def test_a_group_is_found_by_expectation_maximization_and_shrinks_its_subjects() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0.5, 0.8, 60)
    histories = flips(rng.binomial(30, 1 / (1 + np.exp(-true))).tolist(), 30)
    found = fit(Logit(), histories, "hierarchical")
    assert found.group_level is not None
    mean, sd, error = (
        float(value[0, 0]) for value in (found.group_level.mean, found.group_level.sd, found.group_level.mean_error)
    )
    assert abs(mean - true.mean()) < 2 * error
    assert sd == pytest.approx(true.std(), rel=0.25)
    assert error == pytest.approx(np.sqrt((sd**2 + 1 / (30 * 0.22)) / 60), rel=0.1)  # 0.22: p (1 - p), on average
    alone = fit(Logit(), histories, "ml").points[:, 0]
    together = found.points[:, 0]
    shrunk = np.abs(together - mean) < np.abs(alone - mean)
    assert shrunk[np.abs(alone - mean) > 0.05].all()
    assert np.square(together - true).mean() < np.square(alone - true).mean()


def test_groups_have_their_own_distributions() -> None:
    rng = np.random.default_rng(1)
    ones = [*rng.binomial(40, 0.3, 8).tolist(), *rng.binomial(40, 0.7, 8).tolist()]
    found = fit(Logit(), flips(ones, 40, "a" * 8 + "b" * 8), "hierarchical")
    assert found.group_level is not None
    assert found.group_level.names == ("a", "b")
    np.testing.assert_allclose(found.group_level.mean[:, 0], [np.log(3 / 7), np.log(7 / 3)], atol=0.4)
    alone = fit(Logit(), flips(ones[:8], 40), "hierarchical")
    assert alone.group_level is not None
    np.testing.assert_allclose(alone.group_level.mean[0], found.group_level.mean[0], atol=1e-2)


def test_missed_trials_count_for_nothing() -> None:
    table = bandit(6, 60)
    with_missed = pd.concat(
        [rows.iloc[:20] for _, rows in table.groupby("subject")]
        + [
            rows.iloc[20:21].assign(action=missed, reward=np.nan)
            for missed, (_, rows) in zip([-1, None] * 3, table.groupby("subject"), strict=True)
        ]
        + [rows.iloc[20:] for _, rows in table.groupby("subject")]
    )
    model = find_model("QLearning+perseveration")
    whole, missed = (fit(model, read_histories(rows), "map") for rows in (table, with_missed))
    assert missed.num_choices.tolist() == [60] * 6
    np.testing.assert_allclose(missed.points, whole.points, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_choices_that_count_are_fitted(method: str) -> None:
    """But the model learns from all of them."""
    histories = read_histories(bandit(6, 60, beta=(2.0, 6.0)))
    model = find_model("QLearning")
    counted = histories.fold == 1
    found = fit(model, histories, method, counted)
    assert found.num_choices.tolist() == [30] * 6
    best = log_likelihood(model, histories, found.points[None], counted)[0]
    np.testing.assert_allclose(found.log_likelihood, best)
    if method == "ml":
        near = found.points + np.random.default_rng(0).normal(0, 0.3, (50, 6, 2))
        reach = own_prior(model, 1)
        near = np.clip(near, reach.mean - 5 * reach.sd, reach.mean + 5 * reach.sd)
        assert (log_likelihood(model, histories, near, counted) <= best + 1e-3).all()


def test_parameters_are_found_again() -> None:
    alpha, beta = (0.1, 0.3, 0.6), (3.0, 6.0)
    found = fit(find_model("QLearning"), read_histories(bandit(24, 400, alpha, beta)))
    for name, values in (("alpha", alpha), ("beta", beta)):
        true = np.resize(values, 24)
        assert np.corrcoef(found.parameters[name], true)[0, 1] > 0.8
        assert found.parameters[name].mean() == pytest.approx(true.mean(), rel=0.15)


def test_a_model_without_parameters_is_fitted_too() -> None:
    histories = flips([3] * 5, 8)
    for method in METHODS:
        found = fit(find_model("Chance"), histories, method)
        np.testing.assert_allclose(found.log_likelihood, 8 * np.log(0.5))
        np.testing.assert_allclose(found.log_evidence, 8 * np.log(0.5))


def test_few_subjects_have_no_group() -> None:
    few = flips([3, 4, 5], 8)
    assert default_method(few) == "map"
    assert default_method(flips([3, 4, 5, 3, 4], 8)) == "hierarchical"
    with pytest.raises(ConfigurationError, match="it must be map or ml for fewer than 5 subjects"):
        fit(Coin(), few, "hierarchical")
    with pytest.raises(ConfigurationError, match="--method is 'bayes'; it must be one of hierarchical, map, ml"):
        fit(Coin(), few, "bayes")
