"""The package's tasks agree with plain Python, to the last bit: single environments and vector environments alike."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.scripts.tasks import PAGES, PICTURES, file_name
from seqrl_lightning.commands.envs import task_ids
from seqrl_lightning.types import ConfigurationError
from tests.envs import oracles
from tests.envs.cases import SETTINGS, TASKS, assert_same, single_and_native

DEFAULTS: list[tuple[str, dict[str, Any]]] = [(env_id, {}) for env_id in SETTINGS]


def oracle_of(env_id: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    name = env_id.removeprefix("seqrl/").removesuffix("-v0")
    env: gym.Env[Any, Any] = getattr(oracles, name)(**kwargs)
    return env


def play_alike(env_id: str, kwargs: dict[str, Any], seed: int, num_envs: int, skill: float, steps: int) -> None:
    """Plays the oracles, the single environments and the vector environment side by side.

    With probability ``skill`` an action is the right one, so that episodes end in every way.
    """
    oracle = SyncVectorEnv([lambda: oracle_of(env_id, kwargs)] * num_envs)
    single, native = single_and_native(env_id, num_envs, render_mode="ansi", **kwargs)
    for envs in (single, native):
        assert envs.single_observation_space == oracle.single_observation_space
        assert envs.single_action_space == oracle.single_action_space
    rng = np.random.default_rng(seed)

    def compare(expected: Any, *results: Any) -> dict[str, Any]:
        for result in results:
            assert_same(expected, result)
        assert oracle.render() == single.render() == native.render()
        infos: dict[str, Any] = expected[-1]
        return infos

    infos = compare(*(envs.reset(seed=seed) for envs in (oracle, single, native)))
    for t in range(steps):
        if t % 30 == 29:
            last_block = {"block": native.num_blocks - 1}  # type: ignore[attr-defined]
            how: Any = rng.choice([{}, {"options": last_block}, {"seed": t}])
            infos = compare(*(envs.reset(**how) for envs in (oracle, single, native)))
        random = rng.integers(native.single_action_space.n, size=num_envs)  # type: ignore[attr-defined]
        action = np.where(rng.random(num_envs) < skill, np.maximum(infos["correct_action"], 0), random)
        infos = compare(*(envs.step(action) for envs in (oracle, single, native)))


def test_every_task_is_compared() -> None:
    elsewhere = "seqrl/CartPoleNoVel-v1"  # with Gymnasium's, in test_cartpole_no_vel.py
    assert set(SETTINGS) == set(task_ids()) - {elsewhere}, "name its settings in SETTINGS of tests/envs/cases.py"


@pytest.mark.parametrize("env_id", task_ids())
def test_every_task_has_a_page_and_a_picture(env_id: str) -> None:
    written = PAGES / f"{file_name(env_id)}.md", PICTURES / f"{file_name(env_id)}.gif"
    assert all(path.exists() for path in written), "run python -m docs.scripts.tasks"


@pytest.mark.slow_after(6)
@pytest.mark.parametrize(("env_id", "kwargs"), DEFAULTS + TASKS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), num_envs=st.integers(1, 4), skill=st.floats(0.3, 1.0))
def test_given_settings(env_id: str, kwargs: dict[str, Any], seed: int, num_envs: int, skill: float) -> None:
    play_alike(env_id, kwargs, seed, num_envs, skill, steps=50)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("env_id", SETTINGS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31), num_envs=st.integers(1, 3), skill=st.floats(0.3, 1.0))
def test_random_settings(env_id: str, data: Any, seed: int, num_envs: int, skill: float) -> None:
    play_alike(env_id, data.draw(SETTINGS[env_id]), seed, num_envs, skill, steps=70)


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_one_environment_without_a_vector_environment_around_it(env_id: str, kwargs: dict[str, Any]) -> None:
    env, oracle = gym.make(env_id, **kwargs).unwrapped, oracle_of(env_id, kwargs)
    rng = np.random.default_rng(0)
    result, expected = env.reset(seed=7), oracle.reset(seed=7)
    for _ in range(300):
        assert_same(expected, result)
        right = expected[-1]["correct_action"]
        action = np.int64(right if right >= 0 and rng.random() < 0.7 else rng.integers(env.action_space.n))  # type: ignore[attr-defined]
        result, expected = env.step(action), oracle.step(action)  # type: ignore[assignment]
        if expected[2] or expected[3]:  # type: ignore[misc]
            assert_same(expected, result)
            result, expected = env.reset(), oracle.reset()


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_a_vector_environment_goes_on_from_its_state(env_id: str, kwargs: dict[str, Any]) -> None:
    envs, copy = (gym.make_vec(env_id, num_envs=3, **kwargs) for _ in range(2))
    envs.reset(seed=0)
    copy.reset(seed=9)
    actions = np.random.default_rng(0).integers(3, size=(80, 3))
    for action in actions[:37]:
        envs.step(action)
    copy.load_state_dict(envs.state_dict())  # type: ignore[attr-defined]
    for action in actions[37:]:
        assert_same(envs.step(action), copy.step(action))


@pytest.mark.parametrize(("env_id", "kwargs"), TASKS)
def test_what_was_handed_out_stays_as_it_was(env_id: str, kwargs: dict[str, Any]) -> None:
    """Writing into observations, infos or actions doesn't break the environment, nor does it write into them."""
    for envs, others in zip(
        single_and_native(env_id, 2, **kwargs), single_and_native(env_id, 2, **kwargs), strict=True
    ):
        observation, infos = envs.reset(seed=3)
        others.reset(seed=3)
        for _ in range(30):
            for array in observation.values() if isinstance(observation, dict) else [observation]:
                array[:] = 7
            infos["correct_action"][:] = infos["block"][:] = 7
            action = np.array([0, 1])
            step, expected = envs.step(action), others.step(np.array([0, 1]))
            assert action.tolist() == [0, 1]
            action[:] = 2
            assert_same(step, expected)
            observation, infos = step[0], step[4]


@pytest.mark.parametrize("env_id", SETTINGS)
def test_an_unknown_block_is_refused(env_id: str) -> None:
    for envs in (gym.make(env_id), gym.make_vec(env_id, num_envs=2)):
        num_blocks = envs.unwrapped.num_blocks  # type: ignore[attr-defined]
        with pytest.raises(ConfigurationError, match=rf'options\["block"\] is 9; it must be in 0 to {num_blocks - 1}'):
            envs.reset(options={"block": 9})


@pytest.mark.parametrize("env_id", [env_id for env_id in gym.registry if env_id.startswith("seqrl/")])
def test_a_task_can_be_made_from_its_description_as_text(env_id: str) -> None:
    assert gym.envs.registration.EnvSpec.from_json(gym.spec(env_id).to_json()) == gym.spec(env_id)
