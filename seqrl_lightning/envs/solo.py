"""A single environment as a vector environment of one, without the cost of a general one."""

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.state import env_state, set_env_state
from seqrl_lightning.types import Array, BoolArray


class SoloVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector environment of one: it does what ``SyncVectorEnv`` does with one environment, at a fraction of the cost.

    It resets in the step after an episode's end (next-step autoreset). Infos hold only numbers and arrays.

    Args:
        env: The environment, with a Box observation space.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.env = env
        self.num_envs = 1
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self.spec = env.spec
        self.render_mode = env.render_mode
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self.observation_space = batch_space(env.observation_space, 1)
        self.action_space = batch_space(env.action_space, 1)
        self._ended = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        single_seed = seed[0] if isinstance(seed, Sequence) else seed
        observation, info = self.env.reset(seed=single_seed, options=options)
        self._ended = False
        return np.array([observation]), _batched(info)

    def step(self, actions: Array) -> tuple[Array, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Take a step, or start the next episode if the last step ended one."""
        reward: SupportsFloat
        if self._ended:
            observation, info = self.env.reset()
            reward, terminated, truncated = 0.0, False, False
        else:
            observation, reward, terminated, truncated, info = self.env.step(actions[0])
        self._ended = terminated or truncated
        return (
            np.array([observation]),
            np.array([reward], np.float64),
            np.array([terminated]),
            np.array([truncated]),
            _batched(info) if info else info,
        )

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environment's state (:func:`env_state`); None if it is unknown."""
        state = env_state(self.env)
        return None if state is None else {"ended": self._ended, **state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environment back to where ``state_dict`` was taken."""
        self._ended = state_dict["ended"]
        set_env_state(self.env, state_dict)

    def render(self) -> Any:
        """Return the environment's picture, in a tuple."""
        return (self.env.render(),)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environment."""
        self.env.close()


def _batched(info: dict[str, Any]) -> dict[str, Any]:
    batched: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, int | float | np.number | np.ndarray):
            batched[key], batched[f"_{key}"] = np.array([value]), np.array([True])
    return batched
