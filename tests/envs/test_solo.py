from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.envs import SoloVectorEnv
from tests.envs.cases import TASKS, assert_same


@pytest.mark.parametrize(
    ("env_id", "kwargs"), [*TASKS, ("CartPole-v1", {}), ("seqrl/CartPoleNoVel-v1", {}), ("tests/Diary-v0", {})]
)
def test_solo_is_a_sync_vector_environment_of_one(env_id: str, kwargs: dict[str, Any]) -> None:
    solo = SoloVectorEnv(gym.make(env_id, **kwargs))
    sync = gym.make_vec(env_id, num_envs=1, vectorization_mode="sync", **kwargs)
    assert solo.single_observation_space == sync.single_observation_space
    assert solo.observation_space == sync.observation_space
    rng = np.random.default_rng(0)
    assert_same(solo.reset(seed=3), sync.reset(seed=3))
    for _ in range(200):
        action = rng.integers(solo.single_action_space.n, size=1)  # type: ignore[attr-defined]
        assert_same(solo.step(action), sync.step(action))


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_solo_goes_on_from_its_state(env_id: str, kwargs: dict[str, Any]) -> None:
    solo, copy = (SoloVectorEnv(gym.make(env_id, **kwargs)) for _ in range(2))
    solo.reset(seed=0)
    copy.reset(seed=9)
    actions = np.random.default_rng(0).integers(3, size=(80, 1))
    for action in actions[:37]:
        solo.step(action)
    copy.load_state_dict(solo.state_dict())
    for action in actions[37:]:
        assert_same(solo.step(action), copy.step(action))
