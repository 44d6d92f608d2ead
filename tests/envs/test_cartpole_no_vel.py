from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from tests.envs.cases import single_and_native
from tests.envs.playing import at_random, mean_return

ENV_ID = "seqrl/CartPoleNoVel-v1"


def test_it_is_cartpole_without_velocities() -> None:
    whole, masked = gym.make("CartPole-v1"), gym.make(ENV_ID)
    assert masked.observation_space.shape == (2,)
    rng = np.random.default_rng(0)
    for seed in range(5):
        one, other = whole.reset(seed=seed)[0], masked.reset(seed=seed)[0]
        ended = False
        while not ended:
            assert other.tolist() == one[[0, 2]].tolist()
            action = int(rng.integers(2))
            one, reward, ended, *_ = whole.step(action)
            other, other_reward, other_ended, *_ = masked.step(action)
            assert (reward, ended) == (other_reward, other_ended)


def balance(observation: Any, angular_velocity: Any) -> Any:
    """Holds the pole up for long."""
    return (observation[:, 1] + 0.3 * angular_velocity + 0.02 * observation[:, 0] > 0).astype(np.int64)


def test_the_vector_environment_agrees() -> None:
    sync, native = single_and_native(ENV_ID, 3, max_episode_steps=50)
    rng = np.random.default_rng(0)
    assert sync.single_observation_space == native.single_observation_space
    one, other = sync.reset(seed=4), native.reset(seed=4)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)
    ends = np.zeros(2, int)
    previous = one[0]
    for _ in range(250):
        velocities = 50 * (one[0] - previous)
        previous = one[0]
        # The first environment's pole is held up by its velocity; the others' fall.
        action = rng.integers(2, size=3)
        action[0] = balance(previous, velocities[:, 1])[0]
        one, other = sync.step(action), native.step(action)
        for a, b in zip(one[:4], other[:4], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        ends += [one[2].sum(), one[3].sum()]
    assert (ends > 0).all()  # terminations and truncations


def test_a_native_environment_goes_on_from_its_state() -> None:
    envs, copy = (gym.make_vec(ENV_ID, num_envs=3) for _ in range(2))
    envs.reset(seed=0)
    copy.reset(seed=9)
    actions = np.random.default_rng(0).integers(2, size=(120, 3))
    for action in actions[:37]:
        envs.step(action)
    copy.load_state_dict(envs.state_dict())  # type: ignore[attr-defined]
    for action in actions[37:]:
        for a, b in zip(envs.step(action)[:4], copy.step(action)[:4], strict=True):
            np.testing.assert_array_equal(a, b)


def test_random_return() -> None:
    assert 18 < mean_return(ENV_ID, at_random(2), num_envs=200) < 27  # as in CartPole-v1


def test_check_env_is_clean() -> None:
    check_env(gym.make(ENV_ID).unwrapped, skip_render_check=True)
