"""Wrappers for ``data.wrappers``, beside Gymnasium's own."""

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat, SupportsInt

import gymnasium as gym
import numpy as np
import torch

from seqrl_lightning.envs.spaces import has_picture
from seqrl_lightning.envs.stateless import Stateless
from seqrl_lightning.types import Array, ConfigurationError, FloatArray, IntArray, require

MAX_COMBINATIONS = 4096
"""The most combinations of MultiDiscrete actions that become actions by themselves."""


class MaskInObservation(Stateless, gym.Wrapper[Any, Any, Any, Any]):
    """Move an action mask from a Dict observation to ``info["action_mask"]``, where agents expect it.

    Args:
        env: An environment with Dict observations, one part of which is the mask, [A].
        key: The name of that part.

    Raises:
        ConfigurationError: If observations have no such part.
    """

    def __init__(self, env: gym.Env[Any, Any], key: str = "action_mask") -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Dict) or key not in space.spaces:
            raise ConfigurationError(f"MaskInObservation looks for {key!r}, which isn't in the observations: {space}")
        self._key = key
        self.observation_space = gym.spaces.Dict({name: part for name, part in space.items() if name != key})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        return self._split(*self.env.reset(seed=seed, options=options))

    def step(self, action: object) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = self._split(observation, info)
        return observation, reward, terminated, truncated, info

    def _split(self, observation: dict[str, Any], info: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        rest = {name: part for name, part in observation.items() if name != self._key}
        return rest, {**info, "action_mask": observation[self._key]}


class PreviousActionReward(gym.Wrapper[Any, Any, Any, Any]):
    """Append the previous action, one-hot, and the previous reward to the observation; zeros at an episode's start.

    A network with a memory needs them in a task whose observations don't show the last action and its reward. The
    memory tasks of this package append them by themselves (``previous_action_reward``), and faster.

    Args:
        env: An environment with Discrete actions. Observations that are no Box (Discrete, Dict, ...) are flattened by
            Gymnasium's ``FlattenObservation`` first; a Box must be flat, ``[size]``. The new observations are
            ``[size + n_actions + 1] float32``. A Dict with a picture gets another part instead, ``previous``,
            ``[n_actions + 1] float32``.

    Raises:
        ConfigurationError: If the environment's spaces don't fit.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        is_part = isinstance(env.observation_space, gym.spaces.Dict) and has_picture(env.observation_space)
        if not (is_part or isinstance(env.observation_space, gym.spaces.Box)):
            env = gym.wrappers.FlattenObservation(env)
        super().__init__(env)
        space, actions = env.observation_space, env.action_space
        must_be = "flat, [size]; gymnasium.wrappers.FlattenObservation makes it so"
        require(
            is_part or (isinstance(space, gym.spaces.Box) and len(space.shape) == 1),
            "the observation space that PreviousActionReward wraps",
            space,
            must_be,
        )
        if not isinstance(actions, gym.spaces.Discrete):
            raise ConfigurationError(f"PreviousActionReward needs Discrete actions; {env} has {actions}")
        self._first_action = int(actions.start)
        low, high = np.zeros(int(actions.n) + 1, np.float32), np.ones(int(actions.n) + 1, np.float32)
        low[-1], high[-1] = -np.inf, np.inf
        self._previous = np.zeros_like(low)
        if isinstance(space, gym.spaces.Dict):
            self.observation_space = gym.spaces.Dict({**space, "previous": gym.spaces.Box(low, high)})
            return
        assert isinstance(space, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(
            np.concatenate([space.low, low], dtype=np.float32), np.concatenate([space.high, high], dtype=np.float32)
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, without a previous action."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._previous = np.zeros_like(self._previous)
        return self._appended(observation), info

    def step(self, action: SupportsInt) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._previous = np.zeros_like(self._previous)
        self._previous[int(action) - self._first_action] = 1.0
        self._previous[-1] = reward
        return self._appended(observation), reward, terminated, truncated, info

    def _appended(self, observation: Mapping[str, Any] | Array) -> FloatArray | dict[str, Any]:
        if isinstance(observation, Mapping):
            return {**observation, "previous": self._previous.copy()}
        return np.concatenate([observation, self._previous], dtype=np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Return the previous action and reward."""
        return {"previous": torch.from_numpy(self._previous.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._previous = state_dict["previous"].numpy().copy()


class FlattenMultiDiscreteAction(gym.wrappers.TransformAction[Any, Any, Any]):
    """Make one Discrete action of each combination of a MultiDiscrete environment's actions.

    Combinations are numbered like the digits of a number, the last digit changing first: of ``MultiDiscrete([2, 3])``,
    action 0 is [0, 0], action 1 is [0, 1], action 3 is [1, 0], and there are 6 actions.

    Args:
        env: An environment with MultiDiscrete actions.

    Raises:
        ConfigurationError: If its actions aren't MultiDiscrete.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        space = env.action_space
        if not isinstance(space, gym.spaces.MultiDiscrete):
            raise ConfigurationError(f"FlattenMultiDiscreteAction needs MultiDiscrete actions; {env} has {space}")
        super().__init__(env, lambda action: _combination(action, space), gym.spaces.Discrete(num_combinations(space)))


class FlattenMultiDiscreteVectorAction(Stateless, gym.vector.VectorActionWrapper):
    """Make one Discrete action of each combination, in a task's own vectorized implementation.

    Args:
        envs: Environments with MultiDiscrete actions.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(envs)
        space = envs.single_action_space
        assert isinstance(space, gym.spaces.MultiDiscrete)
        self._space = space
        self.single_action_space = gym.spaces.Discrete(num_combinations(space))
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, envs.num_envs)

    def actions(self, actions: IntArray) -> IntArray:
        """Return the combinations, [N, ...], of actions [N]."""
        return np.stack([_combination(action, self._space) for action in actions])


def is_enumerable(space: gym.Space[Any]) -> bool:
    """Return whether a space's actions are combinations that are few enough to make an action of each."""
    return isinstance(space, gym.spaces.MultiDiscrete) and num_combinations(space) <= MAX_COMBINATIONS


def num_combinations(space: gym.spaces.MultiDiscrete) -> int:
    """Return the number of combinations of actions."""
    return math.prod(space.nvec.ravel().tolist())


def _combination(action: SupportsInt, space: gym.spaces.MultiDiscrete) -> IntArray:
    digits = np.array(np.unravel_index(int(action), space.nvec.ravel())).reshape(space.shape)
    return (digits + space.start).astype(space.dtype)


class ScaleReward(Stateless, gym.RewardWrapper[Any, Any]):
    """Multiply rewards by a constant, so that values have a size that suits optimizers and losses.

    Returns remain those of the task's own rewards.

    Args:
        env: An environment.
        factor: The constant.

    Raises:
        ConfigurationError: If the factor isn't positive.
    """

    def __init__(self, env: gym.Env[Any, Any], factor: float) -> None:
        super().__init__(env)
        require(factor > 0, "the factor of ScaleReward", factor, "positive")
        self.factor = factor

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """Scale a reward, or those of several environments, [N]."""
        return self.factor * (reward if isinstance(reward, np.ndarray) else float(reward))
