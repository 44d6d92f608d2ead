import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.envs import EnvFactory, FlattenMultiDiscreteAction, PreviousActionReward, ScaleReward
from seqrl_lightning.types import ConfigurationError
from tests.tasks import Lights


def test_previous_action_and_reward_by_hand() -> None:
    env = PreviousActionReward(gym.make("seqrl/SequenceDistractor-v0", objects="AB", distractors="Z"))
    assert env.reset(seed=0)[0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert env.step(np.int64(2))[0].tolist() == [1, 0, 0, 0, 0, 1, -1]
    observation, *_ = env.step(np.int64(0))
    assert observation.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert observation.dtype == np.float32
    assert env.observation_space.contains(observation)
    assert env.reset()[0].tolist() == [1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_step_that_resets_shows_none(num_envs: int) -> None:
    envs = EnvFactory("tests/Diary-v0", wrappers=[PreviousActionReward]).make_envs(num_envs)
    assert (envs.reset(seed=0).observation[:, 3:] == 0).all()
    was_final = np.zeros(envs.num_envs, bool)
    resets = 0
    for t in range(40):
        action = np.full(envs.num_envs, t % 3)
        outcome = envs.step(action)
        expected = np.column_stack([np.eye(3)[action], outcome.reward]) * ~was_final[:, None]
        np.testing.assert_array_equal(outcome.shown.observation[:, 3:], expected)
        resets += was_final.sum()
        was_final = outcome.terminated | outcome.truncated
    assert resets > 5


def test_observations_that_are_no_box_are_flattened() -> None:
    env = PreviousActionReward(gym.make("FrozenLake-v1", is_slippery=False))
    assert env.reset(seed=0)[0].tolist() == [1, *[0] * 20]
    assert env.step(2)[0].tolist() == [0, 1, *[0] * 14, 0, 0, 1, 0, 0]


def test_one_action_for_each_combination() -> None:
    env = FlattenMultiDiscreteAction(gym.make("tests/Lights-v0"))
    assert env.action_space == gym.spaces.Discrete(6)
    env.reset(seed=0)
    combinations = [env.step(action)[0].tolist() for action in range(6)]
    assert combinations == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_combinations_begin_where_the_actions_do() -> None:
    lights = Lights()
    lights.action_space = gym.spaces.MultiDiscrete([2, 2], start=[5, -1])
    env = FlattenMultiDiscreteAction(lights)
    env.reset(seed=0)
    assert env.step(np.int64(2))[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreviousActionReward(gym.make("Pendulum-v1")), "PreviousActionReward needs Discrete actions"),
        (
            lambda: PreviousActionReward(gym.wrappers.ReshapeObservation(gym.make("tests/Corridor-v0"), (2, 3))),
            r"observation space that PreviousActionReward wraps is Box.*; it must be flat",
        ),
        (
            lambda: FlattenMultiDiscreteAction(gym.make("CartPole-v1")),
            "FlattenMultiDiscreteAction needs MultiDiscrete actions; .* has Discrete",
        ),
    ],
)
def test_what_cannot_be_wrapped_is_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_wrapped_environment_goes_on_from_its_state() -> None:
    wrappers = [PreviousActionReward, lambda env: gym.wrappers.TransformReward(env, lambda reward: reward / 2)]
    factory = EnvFactory("seqrl/HiddenSequence-v0", {"objects": "ABC"}, wrappers)
    envs, copy = factory.make_envs(1), factory.make_envs(1)
    envs.reset(seed=0)
    copy.reset(seed=9)
    actions = np.random.default_rng(0).integers(3, size=(150, 1))
    for action in actions[:37]:
        envs.step(action)
    state = envs.state_dict()
    assert state is not None
    copy.load_state_dict(state)
    for action in actions[37:]:
        np.testing.assert_equal(tuple(envs.step(action)), tuple(copy.step(action)))


def test_a_wrapper_that_cannot_tell_its_state_makes_the_whole_unable() -> None:
    def state(*wrappers: Any) -> Any:
        return EnvFactory("seqrl/Sequence-v0", wrappers=wrappers).make_envs(1).state_dict()

    assert state() is not None
    assert state(lambda env: gym.wrappers.TimeLimit(env, max_episode_steps=5)) is not None
    assert state(gym.wrappers.RecordEpisodeStatistics) is None


def test_scaled_rewards_are_learned_from_and_returns_stay_the_tasks_own() -> None:
    envs = EnvFactory("tests/Diary-v0", wrappers=[functools.partial(ScaleReward, factor=3.0)]).make_envs(1)
    plain = EnvFactory("tests/Diary-v0").make_envs(1)
    for some in (envs, plain):
        some.reset(seed=0)
    outcome, expected = (some.step(np.zeros(1, dtype=np.int64)) for some in (envs, plain))
    assert outcome.reward.tolist() == (3 * expected.reward).tolist()
    assert outcome.task_reward.tolist() == expected.reward.tolist()
    with pytest.raises(ConfigurationError, match="the factor of ScaleReward is 0; it must be positive"):
        ScaleReward(gym.make("CartPole-v1"), 0)
