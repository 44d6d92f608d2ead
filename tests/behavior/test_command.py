"""Fits of learners to choices."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.analysis.behavior import (
    BOUNDS,
    MODELS,
    ChoiceHistory,
    fit,
    fit_all,
    log_likelihood,
    read_choices,
    simulate,
)
from tests.running import seqrl

BY_HAND = ChoiceHistory(np.array([0, 0, 1, 0]), np.array([1, 1, 0, 0]), np.array([1.0, -1.0, 1.0, 0.0]), 2)


def learner(alpha: float, beta: float, forgetting: float, perseveration: float) -> float:
    """The likelihood of ``BY_HAND``, choice by choice."""
    first = 0.5  # nothing is known
    q1 = alpha  # of action 1 in state 0, after reward 1
    second = np.exp(beta * q1 + perseveration) / (np.exp(beta * q1 + perseveration) + 1)
    q1 += alpha * (-1 - q1)
    third = 0.5  # another state
    fourth = 1 / (1 + np.exp(beta * q1 + perseveration))  # q0 is still 0, and has decayed to 0
    return float(np.log(first * second * third * fourth))


def test_the_likelihood_is_that_of_each_choice() -> None:
    for values in ((0.3, 2.0, 0.0, 0.0), (0.9, 5.0, 0.5, -1.0), (0.5, 1.0, 0.2, 2.0)):
        found = log_likelihood(BY_HAND, dict(zip(BOUNDS, values, strict=True)))
        assert found[0] == pytest.approx(learner(*values))


def test_forgetting_decays_the_values_of_what_was_not_chosen() -> None:
    choices = ChoiceHistory(np.zeros(3, int), np.array([0, 1, 0]), np.array([1.0, 0.0, 0.0]), 2)
    q0 = 0.5 * (1 - 0.4)  # learned by the first choice, decayed by the second
    expected = np.log(0.5) + np.log(1 / (1 + np.exp(2 * 0.5))) + np.log(1 / (1 + np.exp(-2 * q0)))
    found = log_likelihood(choices, {"alpha": 0.5, "beta": 2.0, "forgetting": 0.4})
    assert found[0] == pytest.approx(expected)


def test_many_parameters_at_once_are_the_same_as_one_by_one() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (4, 7))
    together = log_likelihood(BY_HAND, dict(zip(BOUNDS, points, strict=True)))
    apart = [log_likelihood(BY_HAND, dict(zip(BOUNDS, column, strict=True)))[0] for column in points.T]
    np.testing.assert_allclose(together, apart)


@pytest.fixture(scope="module")
def simulated() -> ChoiceHistory:
    env = gym.make(
        "seqrl/SequenceDistractor-v0", blocks=[{"sequence": "ABCDE", "episodes": 30}, {"sequence": "swap_2_4"}]
    )
    return simulate(env, {"alpha": 0.4, "beta": 4.0}, 80, seed=1)


def test_parameters_are_recovered(simulated: ChoiceHistory) -> None:
    found = fit(simulated, MODELS["Q-learning"]).parameters
    assert found["alpha"] == pytest.approx(0.4, abs=0.08)
    assert found["beta"] == pytest.approx(4.0, rel=0.15)


def test_models_are_compared(simulated: ChoiceHistory) -> None:
    chance = len(simulated.action) * np.log(1 / simulated.n_actions)
    fits = fit_all({"a": ChoiceHistory(*(column[:150] for column in simulated[:3]), simulated.n_actions)}).loc["a"]
    full, learned = fits.loc["+ both"], fits.loc["Q-learning"]
    assert fits.loc["chance", "log_likelihood"] == pytest.approx(chance * 150 / len(simulated.action))
    assert full["log_likelihood"] >= fits["log_likelihood"].max() - 1e-6  # it contains the others
    assert learned["p (chance)"] < 1e-6
    assert learned["AIC"] == pytest.approx(4 - 2 * learned["log_likelihood"])
    assert learned["BIC"] == pytest.approx(2 * np.log(150) - 2 * learned["log_likelihood"])
    assert fits["best"].sum() == 1
    assert fits["BIC"].idxmin() == fits["best"].idxmax()


def test_the_command_fits_each_subject(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(subject, state, int(rng.integers(2)), 1.0) for subject in ("x", "y") for state in ("s", "t") * 5]
    table = tmp_path / "choices.csv"
    pd.DataFrame(rows, columns=["subject", "state", "action", "reward"]).to_csv(table, index=False)
    status, out, err = seqrl("fit-behaviour", str(table))
    assert status == 0, err
    assert "Q-learning" in out
    assert set(pd.read_csv(tmp_path / "fits.csv")["subject"]) == {"x", "y"}


def test_states_are_numbered_anew() -> None:
    """A state's values take memory, not its number."""
    table = pd.DataFrame({"state": [10**12, 3, 10**12], "action": [0, 1, 1], "reward": [1, 0, 1]})
    assert read_choices(table)["all"].state.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("state,action\n0,1\n", "it must be state, action, reward (and subject)"),
        ("state,action,reward\n0,1,\n", "the table has empty cells"),
        ("state,action,reward\n0,A,1\n", "an action in the table is ['A']; it must be a whole number from 0"),
        (
            "state,action,reward\n0,1000,1\n",
            "is [1000]; it must be a whole number from 0 to 999",
        ),
        ("state,action,reward\n0,1,x\n", "a reward in the table is ['x']; it must be a number"),
        ("state,action,reward\n0,1,inf\n", "a reward in the table is [inf]; it must be a number"),
        ("state,action,reward\n", "the number of choices in the table is 0; it must be at least 1"),
        ('state,action,reward\n"', "choices.csv can't be used: Error tokenizing data"),
        ("", "choices.csv can't be used: No columns"),
        (None, "it must be a CSV file"),
    ],
)
def test_a_table_that_cannot_be_fitted_gets_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    table = tmp_path / "choices.csv"
    if text is not None:
        table.write_text(text)
    status, _, err = seqrl("fit-behaviour", str(table))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_choices_do_not_follow_the_random_stream_of_the_task() -> None:
    class Flips(gym.Env):  # type: ignore[type-arg]
        action_space = gym.spaces.Discrete(2)
        observation_space = gym.spaces.Discrete(1)

        def reset(self, *, seed: int | None = None, options: object = None) -> tuple[int, dict[str, object]]:
            super().reset(seed=seed)
            self.gumbel = self.np_random.gumbel(size=2)  # as the learner draws its choice
            return 0, {}

        def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, object]]:
            return 0, float(action == self.gumbel.argmax()), True, False, {}

    rewards = simulate(Flips(), {}, episodes=200, seed=3).reward
    assert 0.35 < rewards.mean() < 0.65
