"""seqrl/CartPoleNoVel-v1: CartPole-v1 without its velocities, which have to be inferred from earlier positions."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.symbols import check_count
from seqrl_lightning.envs.vector import Generators
from seqrl_lightning.saved_state import restore_stream
from seqrl_lightning.types import Array, BoolArray, FloatArray

_SEEN = [0, 2]  # of CartPole's observation, which is position, velocity, angle and angular velocity


class CartPoleNoVelEnv(CartPoleEnv):
    """Balance the pole of CartPole-v1 without observing velocities.

    - Observation: the position of the cart and the angle of the pole, ``[2] float32``.
    - Actions: ``Discrete(2)``, push the cart to the left or to the right.
    - Rewards: 1 for each step.
    - Starting state and transitions: as in CartPole-v1.
    - Episode end: the episode terminates as in CartPole-v1. It is truncated after ``max_episode_steps`` steps.
    - Optimal return: ``max_episode_steps``.

    Args:
        max_episode_steps: Number of steps after which an episode is truncated.
        render_mode: ``human`` or ``rgb_array`` (needs pygame).

    Raises:
        ConfigurationError: If ``max_episode_steps`` isn't positive.
    """

    def __init__(self, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        check_count("max_episode_steps", max_episode_steps)
        super().__init__(render_mode=render_mode)
        self.observation_space = _seen_part_of(self.observation_space)
        self.max_episode_steps = max_episode_steps
        self._steps = 0

    @property
    def optimal_return(self) -> float:
        """The return of a policy that never lets the pole fall."""
        return float(self.max_episode_steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode."""
        observation, info = super().reset(seed=seed, options=options)
        self._steps = 0
        return observation[_SEEN], info

    def step(self, action: object) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """Push the cart."""
        observation, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]  # Gymnasium's
        self._steps += 1
        truncated = not terminated and self._steps >= self.max_episode_steps
        return observation[_SEEN], reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environment, as tensors and primitives."""
        return {
            "state": torch.from_numpy(np.array(self.state, np.float64)),
            "steps": self._steps,
            "steps_beyond_terminated": self.steps_beyond_terminated,
            "rng": self.np_random.bit_generator.state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environment back to a state that :meth:`state_dict` returned."""
        self.state = state_dict["state"].numpy().copy()
        self._steps = state_dict["steps"]
        self.steps_beyond_terminated = state_dict["steps_beyond_terminated"]
        restore_stream(self.np_random, state_dict.get("rng"), "the task's random stream")


class CartPoleNoVelVectorEnv(CartPoleVectorEnv):
    """N environments of :class:`CartPoleNoVelEnv`, stepped at once in NumPy.

    It is Gymnasium's vectorized CartPole with the same two numbers observed, and with a random generator for each
    environment: an environment's episodes start where those of a single one with the same seed start.

    Args:
        num_envs: Number of environments, N.
        max_episode_steps: Number of steps after which an episode is truncated.
        render_mode: ``rgb_array`` (needs pygame).

    Raises:
        ConfigurationError: If ``max_episode_steps`` isn't positive.
    """

    state: Any  # [4, N] float64

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        check_count("max_episode_steps", max_episode_steps)
        super().__init__(num_envs, max_episode_steps, render_mode)
        self.single_observation_space = _seen_part_of(self.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._generators = Generators(num_envs)

    @property
    def optimal_return(self) -> float:
        """The return of a policy that never lets the pole fall."""
        return float(self.max_episode_steps)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: Environment i is seeded with ``seed + i``, or with item i of a sequence.
            options: As for CartPole-v1.
        """
        super().reset(options=options)
        self._generators.seed(seed)
        self._begin(np.ones(self.num_envs, np.bool_))
        return self._observations(), {}

    def step(self, action: Array) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Push each cart. An environment whose episode has ended starts the next episode instead."""
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
        """Return the state of the environments, as tensors and primitives."""
        return {
            "state": torch.from_numpy(self.state.copy()),
            "steps": torch.from_numpy(self.steps.copy()),
            "prev_done": torch.from_numpy(self.prev_done.copy()),
            "rng": self._generators.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environments back to a state that :meth:`state_dict` returned."""
        self.state = state_dict["state"].numpy().copy()
        self.steps = state_dict["steps"].numpy().copy()
        self.prev_done = state_dict["prev_done"].numpy().copy()
        self._generators.load_state_dict(state_dict["rng"])


def _seen_part_of(space: gym.Space[Any]) -> gym.spaces.Box:
    """Return the space of positions and angles within that of CartPole's observations."""
    assert isinstance(space, gym.spaces.Box)
    return gym.spaces.Box(space.low[_SEEN], space.high[_SEEN], dtype=np.float32)
