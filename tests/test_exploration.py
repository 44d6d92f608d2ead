import math

import numpy as np
import pytest

from seqrl_lightning.exploration import (
    ConstantEpsilon,
    EpsilonSchedule,
    ExponentialEpsilon,
    LinearEpsilon,
    epsilon_greedy,
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


def test_epsilon_is_the_rate_of_random_actions() -> None:
    q_values = np.tile(np.array([0.0, 0.0, 1.0, 0.0]), (100_000, 1))
    actions = epsilon_greedy(q_values, 0.2, np.random.default_rng(0))
    assert (actions == 2).mean() == pytest.approx(0.8 + 0.2 / 4, abs=0.01)
    for other in (0, 1, 3):
        assert (actions == other).mean() == pytest.approx(0.2 / 4, abs=0.01)


def test_without_epsilon_the_first_of_the_best_is_taken() -> None:
    q_values = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]])
    assert epsilon_greedy(q_values, 0.0, np.random.default_rng(0)).tolist() == [1, 0]
