"""seqrl/CartPoleNoVel-v1: CartPole-v1 without its velocities, which have to be remembered from positions."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.symbols import check_count
from seqrl_lightning.envs.task import Generators
from seqrl_lightning.types import Array, BoolArray, FloatArray

_SEEN = [0, 2]  # of CartPole's observation: position, velocity, angle, angular velocity


class CartPoleNoVelEnv(CartPoleEnv):
    """CartPole-v1 whose velocities are not observed.

    - Observation: the cart's position and the pole's angle, ``[2] float32``.
    - Actions (push left, push right), reward (1 a step) and termination: as in CartPole-v1. It is truncated after
      ``max_episode_steps``.
    - Optimal return: ``max_episode_steps``.

    Args:
        max_episode_steps: Steps after which an episode is truncated.
        render_mode: ``human`` or ``rgb_array`` (needs pygame).

    Raises:
        ConfigurationError: If ``max_episode_steps`` isn't positive.
    """

    def __init__(self, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        check_count("max_episode_steps", max_episode_steps)
        super().__init__(render_mode=render_mode)
        self.observation_space = _seen(self.observation_space)
        self.max_episode_steps = max_episode_steps
        self._steps = 0

    @property
    def optimal_return(self) -> float:
        """The pole can be held up for ever."""
        return float(self.max_episode_steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode."""
        observation, info = super().reset(seed=seed, options=options)
        self._steps = 0
        return observation[_SEEN], info

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Pushes the cart."""
        observation, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]
        self._steps += 1
        truncated = not terminated and self._steps >= self.max_episode_steps
        return observation[_SEEN], reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """The environment's own state, as tensors and primitives: what a checkpoint needs to go on exactly here."""
        return {
            "state": torch.from_numpy(np.array(self.state, np.float64)),
            "steps": self._steps,
            "steps_beyond_terminated": self.steps_beyond_terminated,
            "rng": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self.state = state_dict["state"].numpy().copy()
        self._steps = state_dict["steps"]
        self.steps_beyond_terminated = state_dict["steps_beyond_terminated"]
        self.np_random.bit_generator.state = state_dict["rng"]


class CartPoleNoVelVectorEnv(CartPoleVectorEnv):
    """The vectorised twin of :class:`CartPoleNoVelEnv`, with the same arguments.

    Gymnasium's own, but for what is observed, and for a random generator for each environment.
    """

    state: Any  # [4, N] float64

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        check_count("max_episode_steps", max_episode_steps)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.single_observation_space = _seen(self.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._generators = Generators(num_envs)

    @property
    def optimal_return(self) -> float:
        """As for the single environment."""
        return float(self.max_episode_steps)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Starts an episode in every environment; environment i from ``seed + i``."""
        super().reset(options=options)
        self._generators.seed(seed)
        self._begin(np.ones(self.num_envs, np.bool_))
        return self._observations(), {}

    def step(self, action: Array) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Pushes each cart; one whose episode had ended starts the next one instead."""
        restarting = self.prev_done
        _, reward, terminated, truncated, info = super().step(action)
        if np.count_nonzero(restarting):
            self._begin(restarting)
        return self._observations(), reward, terminated, truncated & ~terminated, info

    def _begin(self, envs: BoolArray) -> None:
        for env in np.flatnonzero(envs).tolist():
            self.state[:, env] = self._generators[env].uniform(self.low, self.high, size=4)

    def _observations(self) -> FloatArray:
        observations: FloatArray = self.state[_SEEN].T.astype(np.float32)
        return observations

    def state_dict(self) -> dict[str, Any]:
        """The environments' own state, as tensors and primitives: what a checkpoint needs to go on exactly here."""
        arrays = {"state": self.state, "steps": self.steps, "prev_done": self.prev_done}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return {**tensors, "rng": self._generators.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        for name in ("state", "steps", "prev_done"):
            setattr(self, name, state_dict[name].numpy().copy())
        self._generators.load_state_dict(state_dict["rng"])


def _seen(space: Any) -> gym.spaces.Box:
    return gym.spaces.Box(space.low[_SEEN], space.high[_SEEN], dtype=np.float32)
