"""Policies: values, a rule, and a state."""

import numpy as np
import pytest

from seqrl_lightning.collect import ExploringPolicy, Policy
from seqrl_lightning.exploration import ConstantEpsilon, LinearEpsilon
from tests.collect.collecting import CountingNetwork, constant_values

OBSERVATION = np.zeros((3, 4), np.float32)
MASK = np.array([[True, True, False], [True, False, False], [True, True, True]])


def test_a_policy_takes_the_best_allowed_action_and_keeps_the_values() -> None:
    policy = Policy(constant_values(3))
    assert policy.values is None
    assert policy.act(OBSERVATION).tolist() == [2, 2, 2]
    assert policy.act(OBSERVATION, MASK).tolist() == [1, 0, 2]
    assert policy.values is not None
    assert policy.values.tolist() == [[0, 1, 2]] * 3


def test_the_rule_can_be_another() -> None:
    worst = Policy(constant_values(3), lambda values, mask=None: values.argmin(-1))
    assert worst.act(OBSERVATION).tolist() == [0, 0, 0]


def test_the_state_is_carried_and_forgotten_where_an_episode_starts() -> None:
    policy = Policy(CountingNetwork(2))
    for _ in range(3):
        policy.act(OBSERVATION)
    policy.act(OBSERVATION, is_first=np.array([False, True, False]))
    assert policy.state.tolist() == [4, 1, 4]
    policy.reset()
    assert policy.state is None
    assert policy.values is None


def exploring(epsilon: float, seed: int = 0) -> ExploringPolicy:
    return ExploringPolicy(constant_values(3), ConstantEpsilon(epsilon), 3, np.random.default_rng(seed))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_is_the_rate_of_random_actions(epsilon: float) -> None:
    observation = np.zeros((20_000, 4), np.float32)
    policy = exploring(epsilon)
    action = policy.act(observation)
    assert policy.explores is not None
    assert policy.explores.mean() == pytest.approx(epsilon, abs=0.02)
    assert (action[~policy.explores] == 2).all()
    assert (policy.values is None) == (epsilon == 1.0)
    if epsilon:
        chosen = action[policy.explores]
        assert np.bincount(chosen, minlength=3) / len(chosen) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_forbidden_actions_are_neither_explored_nor_greedy() -> None:
    policy = exploring(0.5)
    for _ in range(200):
        assert MASK[np.arange(3), policy.act(OBSERVATION, MASK)].all()


def test_with_forbidden_actions_epsilon_is_the_rate_of_random_ones_among_the_allowed() -> None:
    policy, mask = exploring(0.3), np.tile([True, False, True], (20_000, 1))
    action = policy.act(np.zeros((20_000, 4), np.float32), mask)
    assert policy.explores is not None
    assert policy.explores.mean() == pytest.approx(0.3, abs=0.02)
    assert (action[policy.explores] == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert (action[~policy.explores] == 2).all()


def test_epsilon_follows_the_env_steps() -> None:
    policy = ExploringPolicy(constant_values(3), LinearEpsilon(1.0, 0.0, 100), 3, np.random.default_rng(0))
    policy.act(OBSERVATION, env_steps=25)
    assert policy.epsilon == 0.75


def test_a_network_that_remembers_sees_every_observation() -> None:
    policy = ExploringPolicy(CountingNetwork(2), ConstantEpsilon(1.0), 2, np.random.default_rng(0))
    policy.find_memory(OBSERVATION)
    assert policy.remembers
    assert policy.state is None  # to find that out leaves no trace
    for _ in range(5):
        policy.act(OBSERVATION)
        assert policy.values is not None
    assert policy.state.tolist() == [5, 5, 5]
    forgetful = exploring(1.0)
    forgetful.find_memory(OBSERVATION)
    assert not forgetful.remembers


def test_a_restored_policy_explores_as_the_original_does() -> None:
    policy, copy = exploring(0.5), exploring(0.5, seed=9)
    policy.act(OBSERVATION)
    copy.load_state_dict(policy.state_dict())
    for _ in range(20):
        np.testing.assert_array_equal(policy.act(OBSERVATION), copy.act(OBSERVATION))
        np.testing.assert_array_equal(policy.explores, copy.explores)
