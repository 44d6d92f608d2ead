"""The task's own reward, kept beside the one that wrappers make of it."""

import copy
from typing import Any, SupportsFloat, TypeVar

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.values import as_reward

T = TypeVar("T")


class TaskReward(gym.Wrapper[Any, Any, Any, Any]):
    """Keep the task's own reward, from inside all wrappers that may change it.

    Wrappers get observations of their own: a task may write into its arrays again, and a stack keeps some.

    Args:
        env: The task, without wrappers that change rewards.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._sum = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._sum = 0.0
        observation, info = self.env.reset(seed=seed, options=options)
        return _copied(observation), info

    def step(self, action: object) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, and add its reward to those since the last :meth:`take`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._sum += as_reward(reward)
        return _copied(observation), reward, terminated, truncated, info

    def take(self) -> float:
        """Return the sum of the rewards since the last call: one step of a wrapper may take several steps."""
        reward, self._sum = self._sum, 0.0
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: between two steps of the outermost wrapper there is no reward to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the reward of another episode."""
        self._sum = 0.0


def _copied(observation: T) -> T:
    if isinstance(observation, np.ndarray) and type(observation) is np.ndarray and observation.dtype != object:
        return observation.copy()
    return copy.deepcopy(observation)  # several times as slow
