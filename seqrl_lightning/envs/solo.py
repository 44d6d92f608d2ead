"""One environment as a vector environment, without the cost of a general one."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.types import Array, BoolArray

_STATELESS = (
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.TransformAction,
    gym.wrappers.TransformObservation,
    gym.wrappers.TransformReward,
)
"""Wrappers that carry nothing from step to step."""


class SoloVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector environment of one: what ``SyncVectorEnv`` does with one environment, at a fraction of the cost.

    It resets in the step after an episode's end (next-step autoreset). Infos hold numbers and arrays only.

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
        """Starts an episode."""
        single_seed = seed[0] if isinstance(seed, Sequence) else seed
        observation, info = self.env.reset(seed=single_seed, options=options)
        self._ended = False
        return np.array([observation]), _batched(info)

    def step(self, actions: Array) -> tuple[Array, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Takes a step, or starts the next episode if the last step ended one."""
        if self._ended:
            observation, info = self.env.reset()
            reward, terminated, truncated = 0.0, False, False
        else:
            observation, reward, terminated, truncated, info = self.env.step(actions[0])  # type: ignore[assignment]
        self._ended = terminated or truncated
        return (
            np.array([observation]),
            np.array([reward], np.float64),
            np.array([terminated]),
            np.array([truncated]),
            _batched(info) if info else info,
        )

    @property
    def tells_state(self) -> bool:
        """Whether the environment and all its wrappers can tell their state, or have none."""
        task, *wrappers = self._layers
        tell = (hasattr(wrapper, "state_dict") or isinstance(wrapper, _STATELESS) for wrapper in wrappers)
        return hasattr(task, "state_dict") and all(tell)

    def state_dict(self) -> dict[str, Any]:
        """The environment's own state and its wrappers'; only where ``tells_state``."""
        return {"ended": self._ended, "layers": [layer.state_dict() for layer in self._layers_with_state]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self._ended = state_dict["ended"]
        for layer, layer_state in zip(self._layers_with_state, state_dict["layers"], strict=True):
            layer.load_state_dict(layer_state)

    @property
    def _layers(self) -> list[Any]:
        """The task itself, and its wrappers from the inside out."""
        layers: list[Any] = [self.env]
        while isinstance(layers[0], gym.Wrapper):
            layers.insert(0, layers[0].env)
        return layers

    @property
    def _layers_with_state(self) -> list[Any]:
        return [layer for layer in self._layers if hasattr(layer, "state_dict")]

    def render(self) -> Any:
        """The environment's picture, in a tuple."""
        return (self.env.render(),)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environment."""
        self.env.close()


def state_of(envs: VectorEnv[Any, Any, Any]) -> dict[str, Any] | None:
    """The environments' own state as tensors and primitives, for ``load_state_dict``; None if they can't tell it."""
    vector: Any = envs.unwrapped
    tells_state = vector.tells_state if isinstance(vector, SoloVectorEnv) else hasattr(vector, "state_dict")
    state: dict[str, Any] | None = vector.state_dict() if tells_state else None
    return state


def _batched(info: dict[str, Any]) -> dict[str, Any]:
    batched: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, int | float | np.number | np.ndarray):
            batched[key], batched[f"_{key}"] = np.array([value]), np.array([True])
    return batched
