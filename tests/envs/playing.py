"""Playing policies that see observations only."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

History = list[Any]
"""The observations of the episode so far, [N, size] for each step."""


def mean_return(
    env_id: str, policy: Callable[[History], Any], num_envs: int = 1000, seed: int = 0, **kwargs: Any
) -> float:
    """The mean return of one episode in each environment."""
    envs = gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
    observations, _ = envs.reset(seed=seed)
    history, total, is_playing = [observations], np.zeros(num_envs), np.ones(num_envs, bool)
    while is_playing.any():
        observations, reward, terminated, truncated, _ = envs.step(policy(history))
        history.append(observations)
        total += reward * is_playing
        is_playing &= ~(terminated | truncated)
    return float(total.mean())


def at_random(num_actions: int) -> Callable[[History], Any]:
    """The random policy."""
    rng = np.random.default_rng(1)
    return lambda history: rng.integers(num_actions, size=len(history[-1]))
