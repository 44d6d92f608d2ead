"""On data that no one here made: the examples of the PyPI package hbayesdm, read from where it is installed.

pip install --no-deps hbayesdm
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from seqrl_lightning.behavior.comparison import chance_log_likelihood
from seqrl_lightning.behavior.fits import fit
from seqrl_lightning.behavior.histories import read_histories
from seqrl_lightning.behavior.model import RATE, Parameter, find_model
from seqrl_lightning.behavior.models import QLearning

SPEC = find_spec("hbayesdm")  # not imported: it needs Stan
pytestmark = pytest.mark.skipif(SPEC is None, reason="hbayesdm is not installed")


class Delta(QLearning):
    """Its bandit2arm_delta: an inverse temperature from 0 to 5."""

    parameters = {"alpha": RATE, "beta": Parameter(0.0, 5.0)}


def example(name: str) -> pd.DataFrame:
    assert SPEC is not None
    assert SPEC.origin is not None
    table = pd.read_csv(Path(SPEC.origin).parent / "common" / "extdata" / f"{name}_exampleData.txt", sep="\t")
    return table.rename(columns={"subjID": "subject", "outcome": "reward"})


def two_armed_bandit() -> pd.DataFrame:
    table = example("bandit2arm")
    return table.assign(state="both", action=table["choice"] - 1)


def probabilistic_selection() -> pd.DataFrame:
    """Of two of six stimuli, the first digit of the type is the better one."""
    table = example("pst")
    first, second = table["type"] // 10 - 1, table["type"] % 10 - 1
    action = np.where(table["choice"] == 1, first, second)
    return table.assign(state="all", action=action, allowed=first.astype(str) + " " + second.astype(str))


def two_step() -> pd.DataFrame:
    table = example("ts").reset_index(names="episode")
    first = table.assign(state="first", action=table["level1_choice"] - 1, reward=0)
    reached = (table["level2_choice"] - 1) // 2
    second = table.assign(state=reached.map({0: "A", 1: "B"}), action=(table["level2_choice"] - 1) % 2)
    return pd.concat([first, second]).sort_values("episode", kind="stable")


@pytest.mark.parametrize(
    ("table", "name"),
    [(two_armed_bandit, "QLearning"), (probabilistic_selection, "QLearning+alpha_worse"), (two_step, "TwoStep")],
)
def test_people_learn(table: Callable[[], pd.DataFrame], name: str) -> None:
    histories = read_histories(table())
    found = fit(find_model(name), histories, "map")
    assert (found.log_likelihood > chance_log_likelihood(histories)).mean() > 0.9
    assert found.bic.sum() < -2 * chance_log_likelihood(histories).sum()


@pytest.mark.slow
def test_group_means_are_within_the_posterior_of_the_same_model() -> None:
    """Sampled here, by Metropolis within Gibbs, from bandit2arm_delta as its Stan code defines it."""
    table = two_armed_bandit()
    found = fit(Delta(), read_histories(table))
    assert found.group_level is not None
    medians = [float(spec.bounded(found.group_level.mean[0, i])) for i, spec in enumerate(found.model.free.values())]
    action = table["action"].to_numpy().reshape(-1, 100).T
    reward = table["reward"].to_numpy(float).reshape(-1, 100).T
    draws = sampled(action, reward, num_draws=6000, seed=0)[1000:]
    for i, scale in enumerate((1.0, 5.0)):
        lower, upper = scale * ndtr(np.quantile(draws[:, i], [0.025, 0.975]))
        assert lower < medians[i] < upper


def sampled(action: np.ndarray, reward: np.ndarray, num_draws: int, seed: int) -> np.ndarray:
    """Draw the group means [draws, 2]: mu ~ N(0, 1), sigma ~ half N(0, 0.2), A = Phi(x), tau = 5 Phi(x)."""
    rng = np.random.default_rng(seed)
    size = action.shape[1]
    x, mean, sd = np.zeros((size, 2)), np.zeros(2), np.full(2, 0.2)
    likelihood = delta(action, reward, x)
    draws = []
    for _ in range(num_draws):
        tried = x + rng.normal(0, 0.25, x.shape) * (rng.random((size, 2)) < 0.7)
        tried_likelihood = delta(action, reward, tried)
        prior = [-0.5 * (((point - mean) / sd) ** 2).sum(1) for point in (x, tried)]
        accepted = np.log(rng.random(size)) < tried_likelihood + prior[1] - likelihood - prior[0]
        x[accepted], likelihood[accepted] = tried[accepted], tried_likelihood[accepted]
        precision = 1 + size / sd**2
        mean = x.sum(0) / sd**2 / precision + rng.normal(size=2) / np.sqrt(precision)
        wider = sd * np.exp(rng.normal(0, 0.3, 2))
        density = [
            -size * np.log(s) - 0.5 * (((x - mean) / s) ** 2).sum(0) - 0.5 * (s / 0.2) ** 2 + np.log(s)
            for s in (sd, wider)
        ]
        sd = np.where(np.log(rng.random(2)) < density[1] - density[0], wider, sd)
        draws.append(mean)
    return np.array(draws)


def delta(action: np.ndarray, reward: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The log-likelihood of each subject's choices, written from the Stan code."""
    rate, tau = ndtr(x[:, 0]), 5 * ndtr(x[:, 1])
    values = np.zeros((len(x), 2))
    subject = np.arange(len(x))
    total = np.zeros(len(x))
    for chosen, outcome in zip(action, reward, strict=True):
        gap = values[subject, chosen] - values[subject, 1 - chosen]
        total -= np.log1p(np.exp(-tau * gap))
        values[subject, chosen] += rate * (outcome - values[subject, chosen])
    return total
