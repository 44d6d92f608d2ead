"""ALE's own vector environment, by the settings of ``configs/pong_pqn.yaml``."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.envs import EnvFactory, Outcome

pytest.importorskip("ale_py")
SETTINGS = {"reward_clipping": False, "stack_num": 1, "repeat_action_probability": 0.0, "num_threads": 2}
CLIP = functools.partial(gym.wrappers.ClipReward, min_reward=-0.5, max_reward=0.5)


def factory(**env_kwargs: Any) -> EnvFactory:
    return EnvFactory("ale_py:ALE/Pong-v5", {**SETTINGS, **env_kwargs}, [CLIP], 4, "vector_entry_point")


def played(made: EnvFactory, num_steps: int, seed: int = 3) -> list[Outcome]:
    envs, rng = made.make_envs(2), np.random.default_rng(0)
    envs.reset(seed=seed)
    return [envs.step(rng.integers(0, 6, 2)) for _ in range(num_steps)]


def test_spaces_are_those_of_the_vector_environment() -> None:
    facts = factory().read_facts()
    assert (facts.obs_shape, facts.obs_dtype, facts.n_actions) == ((4, 1, 84, 84), "uint8", 6)
    assert facts.unrepeated is None  # so that an evaluation repeats
    assert factory().make_env().reset(seed=0)[0].shape == (4, 1, 84, 84)


def test_rewards_to_learn_from_are_clipped_and_those_of_returns_are_not() -> None:
    outcomes = played(factory(), 120)
    task, learned = (np.stack([o[k] for o in outcomes]) for k in (2, 1))
    assert set(np.unique(task)) == {-1.0, 0.0}
    np.testing.assert_array_equal(learned, task / 2)


def test_same_step_autoreset_shows_whole_episodes_as_next_step_does() -> None:
    frames = {"max_num_frames_per_episode": 40}
    next_step, same_step = (played(factory(autoreset_mode=mode, **frames), 12) for mode in ("NextStep", "SameStep"))
    ends = [k for k, outcome in enumerate(next_step) if outcome.truncated.all()]
    assert ends == [9]
    for one, other in zip(next_step[:10], same_step[:10], strict=True):  # up to the final observation
        np.testing.assert_array_equal(one.shown.observation, other.shown.observation)
        np.testing.assert_array_equal(one.truncated, other.truncated)
    first = same_step[10].shown.observation
    np.testing.assert_array_equal(first, np.repeat(first[:, :1], 4, axis=1))  # a new stack


def test_the_default_mode_does_not_mix_both_forms() -> None:
    envs = EnvFactory("ale_py:ALE/Pong-v5").make_envs(2)  # the vectorized form shows (4, 84, 84)
    assert envs.observation_space.shape == (210, 160, 3)
    envs.close()
