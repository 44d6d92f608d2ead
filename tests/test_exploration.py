import math

import numpy as np
import pytest

from seqrl_lightning.exploration import (
    ConstantEpsilon,
    EpsilonSchedule,
    ExponentialEpsilon,
    LinearEpsilon,
    explore,
    greedy,
)
from seqrl_lightning.types import ConfigurationError


@pytest.mark.parametrize(
    ("schedule", "env_steps", "epsilon"),
    [
        (ExponentialEpsilon(0.9, 0.05, 200), 0, 0.9),
        (ExponentialEpsilon(0.9, 0.05, 200), 200, 0.05 + 0.85 / math.e),
        (ExponentialEpsilon(0.9, 0.05, 200), 10**6, 0.05),
        (LinearEpsilon(1.0, 0.2, 100), 0, 1.0),
        (LinearEpsilon(1.0, 0.2, 100), 50, 0.6),
        (LinearEpsilon(1.0, 0.2, 100), 1000, 0.2),
        (ConstantEpsilon(0.3), 12345, 0.3),
    ],
)
def test_schedules_by_hand(schedule: EpsilonSchedule, env_steps: int, epsilon: float) -> None:
    assert schedule(env_steps) == pytest.approx(epsilon)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: ExponentialEpsilon(start=1.1), "agent.epsilon.start is 1.1"),
        (lambda: LinearEpsilon(end=-0.1), "agent.epsilon.end is -0.1"),
        (lambda: LinearEpsilon(decay_env_steps=0), "agent.epsilon.decay_env_steps is 0"),
        (lambda: ConstantEpsilon(2.0), "agent.epsilon.epsilon is 2.0"),
    ],
)
def test_bad_settings_are_named(make: type, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        make()


def test_epsilon_is_the_rate_of_random_actions_which_are_uniform() -> None:
    explores, actions = explore(100_000, 4, 0.2, np.random.default_rng(0))
    assert explores.mean() == pytest.approx(0.2, abs=0.01)
    for chosen in (actions, actions[explores]):
        assert np.bincount(chosen, minlength=4) / len(chosen) == pytest.approx(0.25, abs=0.01)


def test_the_extremes_of_epsilon() -> None:
    assert explore(1000, 3, 1.0, np.random.default_rng(0))[0].all()
    assert not explore(1000, 3, 0.0, np.random.default_rng(0))[0].any()


def test_greedy_takes_the_first_of_the_best() -> None:
    assert greedy(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]])).tolist() == [1, 0]
