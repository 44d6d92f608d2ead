"""Where environments are: told and set back, so that a run goes on in the middle of its episodes."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.envs.toy_text import BlackjackEnv, CliffWalkingEnv, FrozenLakeEnv, TaxiEnv
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

# Wrappers that carry nothing from step to step (the checkers only look on).
_STATELESS = (
    gym.wrappers.OrderEnforcing,
    gym.wrappers.PassiveEnvChecker,
    gym.wrappers.TransformAction,
    gym.wrappers.TransformObservation,
    gym.wrappers.TransformReward,
)
# What changes in Gymnasium's own. Of a layer that is in neither list, nor has a ``state_dict``, nothing is known.
_CHANGES: dict[type, tuple[str, ...]] = {
    gym.wrappers.TimeLimit: ("_elapsed_steps",),
    AcrobotEnv: ("state",),
    CartPoleEnv: ("state", "steps_beyond_terminated"),
    MountainCarEnv: ("state",),
    BlackjackEnv: ("dealer", "player", "dealer_top_card_suit", "dealer_top_card_value_str"),
    CliffWalkingEnv: ("s", "lastaction"),
    FrozenLakeEnv: ("s", "lastaction"),
    TaxiEnv: ("s", "lastaction", "fickle_step", "taxi_orientation"),
    CartPoleVectorEnv: ("state", "steps", "prev_done", "low", "high"),
}


class TrackedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One environment of several, which tells where it is, also out of a process of its own.

    Args:
        env: The environment.

    Attributes:
        failed: Whether it raised.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._ended = False
        self.failed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        self._ended = False
        self.failed = True  # unless it comes back
        result = self.env.reset(seed=seed, options=options)
        self.failed = False
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step. Set back to an episode's end it starts the next one: a worker process has forgotten to."""
        if self._ended:
            observation, info = self.reset()
            return observation, 0.0, False, False, info
        self.failed = True
        result = self.env.step(action)
        self.failed = False
        self._ended = bool(result[2] or result[3])
        return result

    @property
    def tracked_state(self) -> dict[str, Any] | None:
        """Where it is, without tensors; None if that can't be told. Setting it sets the environment back."""
        state = env_state(self.env)
        return None if state is None else {"ended": self._ended, **arrays(state)}

    @tracked_state.setter
    def tracked_state(self, state: dict[str, Any]) -> None:
        self._ended = state["ended"]
        set_env_state(self.env, plain(state))


def tracked(envs: VectorEnv[Any, Any, Any]) -> VectorEnv[Any, Any, Any]:
    """The same, each environment a :class:`TrackedEnv` (in worker processes it has to be one from the start)."""
    if isinstance(envs, SyncVectorEnv):
        envs.envs = [TrackedEnv(env) for env in envs.envs]
    return envs


def state_of(envs: VectorEnv[Any, Any, Any]) -> dict[str, Any] | None:
    """Where the environments are, in tensors, numbers, texts and collections; None if that can't be told."""
    vector: Any = envs.unwrapped
    if isinstance(vector, SyncVectorEnv | AsyncVectorEnv):
        states = vector.get_attr("tracked_state")
        return None if None in states else {"envs": [plain(state) for state in states]}
    return env_state(vector)


def set_state(envs: VectorEnv[Any, Any, Any], state: dict[str, Any]) -> None:
    """Sets the environments, which have been reset, back to where ``state_of`` was asked."""
    vector: Any = envs.unwrapped
    if isinstance(vector, SyncVectorEnv | AsyncVectorEnv):
        vector.set_attr("tracked_state", [arrays(env_state) for env_state in state["envs"]])
    else:
        set_env_state(vector, state)


def env_state(env: Any) -> dict[str, Any] | None:
    """Where an environment is: what changes in its layers, outermost first, and its random stream; or None.

    A task or wrapper of one's own takes part by the methods ``state_dict()``, which returns tensors, numbers, texts and
    collections of them, and ``load_state_dict(state_dict)``.
    """
    states = [_layer_state(layer) for layer in _layers(env)]
    stream = getattr(env.unwrapped, "_np_random", None)  # asking for `np_random` would make one
    rng = None if stream is None else stream.bit_generator.state
    return None if any(state is None for state in states) else {"layers": states, "rng": rng}


def set_env_state(env: Any, state: dict[str, Any]) -> None:
    """Sets an environment, which has been reset, back to where ``env_state`` was asked."""
    for layer, layer_state in zip(_layers(env), state["layers"], strict=True):
        if hasattr(type(layer), "load_state_dict"):
            layer.load_state_dict(layer_state)
        else:
            for name in _CHANGES.get(type(layer), ()):  # whatever else a checkpoint may hold
                setattr(layer, name, arrays(layer_state[name]))
    if state["rng"] is not None:
        env.unwrapped.np_random.bit_generator.state = state["rng"]


def _layer_state(layer: Any) -> dict[str, Any] | None:
    if hasattr(type(layer), "state_dict"):
        state: dict[str, Any] | None = layer.state_dict()
        return state
    if isinstance(layer, _STATELESS):
        return {}
    changes = _CHANGES.get(type(layer))
    return None if changes is None else {name: plain(getattr(layer, name)) for name in changes}


def _layers(env: Any) -> list[Any]:
    layers = [env]
    while isinstance(env, gym.Wrapper):
        env = env.env
        layers.append(env)
    return layers


def plain(value: Any) -> Any:
    """Arrays as tensors, NumPy's numbers as Python's, tuples as lists: what loads without running code."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def arrays(value: Any) -> Any:
    """Tensors as arrays of their own."""
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, dict):
        return {key: arrays(item) for key, item in value.items()}
    return [arrays(item) for item in value] if isinstance(value, list) else value
