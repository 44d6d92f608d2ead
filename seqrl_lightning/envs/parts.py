"""Observations that are checked before they are flattened or stacked."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, flatten, flatten_space
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space, iterate

from seqrl_lightning.envs.bounds import require_inside
from seqrl_lightning.envs.faults import EnvValueError, short
from seqrl_lightning.envs.stateless import Stateless
from seqrl_lightning.envs.values import as_array, own_observation, stored_space
from seqrl_lightning.types import Array, IntArray


class CheckedParts(Stateless, gym.ObservationWrapper[Any, Any, Any]):
    """Refuse observations that aren't in their space, before they are flattened: flattening casts and wraps around.

    Args:
        env: An environment whose observations are no Box.
    """

    def observation(self, observation: object) -> Any:
        """Return an observation whose parts are of their spaces' shapes and kinds.

        Raises:
            EnvValueError: If a part isn't.
        """
        return own_parts(observation, self.env.observation_space)


class CheckedBox(Stateless, gym.ObservationWrapper[Array, Any, Any]):
    """Copy observations into arrays of the dtype that is stored, before they are stacked: stacking wraps around.

    Args:
        env: An environment whose observations are a Box.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = self._space = stored_space(env.observation_space)

    def observation(self, observation: object) -> Array:
        """Return an array of the space's shape and dtype.

        Raises:
            EnvValueError: If the observation isn't of that shape or kind.
        """
        return own_observation(observation, self._space, self._space.shape)


class ArrayVectorEnv(Stateless, VectorWrapper[Array, Any, Any, Any, Any], ABC):
    """Turn the observations of a vector environment, which are no Box, into arrays.

    Gymnasium's ``VectorObservationWrapper`` refuses tasks whose metadata don't name the autoreset mode as it does.

    Args:
        envs: Environments whose observations are no Box.
        space: The space of the array that one observation becomes.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], space: gym.Space[Any]) -> None:
        super().__init__(envs)
        self.parts: gym.Space[Any] = envs.single_observation_space
        self.single_observation_space = space
        self.observation_space = batch_space(space, envs.num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every environment. Raise as :meth:`observations` does."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self.observations(observations), infos

    def step(self, actions: IntArray) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        """Act in every environment. Raise as :meth:`observations` does."""
        observations, *outcome, infos = self.env.step(actions)
        return self.observations(observations), *outcome, infos

    @abstractmethod
    def observations(self, observations: object) -> Array:
        """Return the observations of all environments, [N, ...].

        Raises:
            EnvValueError: If a part of an observation isn't in its space.
        """


class FlatVectorEnv(ArrayVectorEnv):
    """Check and flatten the observations of a vector environment.

    Args:
        envs: Environments whose observations are no Box.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(envs, flatten_space(envs.single_observation_space))
        self._batched_parts = batch_space(self.parts, envs.num_envs)

    def observations(self, observations: object) -> Array:
        """Return ``[N, size]``; see :meth:`ArrayVectorEnv.observations`."""
        own = own_parts(observations, self.parts, (self.num_envs,))
        return np.stack([np.asarray(flatten(self.parts, one)) for one in iterate(self._batched_parts, own)])


def own_parts(value: object, space: gym.Space[Any], batch: tuple[int, ...] = (), name: str = "observation") -> Any:
    """Return an observation, or a batch of them, whose parts are arrays of their spaces' shapes and dtypes.

    Args:
        value: The observation, as Gymnasium batches it.
        space: The space of one observation.
        batch: ``(N,)`` for a batch.
        name: Its name in an error.

    Raises:
        EnvValueError: If a part isn't in its space; finite values outside the bounds of a Box are left to the border.
    """
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(value, Mapping) or set(value) != set(space.spaces):
            raise EnvValueError(f"{name} is {short(value)}; it must be a dict of {', '.join(map(str, space.spaces))}")
        return {key: own_parts(value[key], part, batch, f"{name}[{key!r}]") for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        if isinstance(value, np.ndarray) and value.ndim > 0:  # a Gymnasium Tuple contains it, too
            value = tuple(value)
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise EnvValueError(f"{name} is {short(value)}; it must be a tuple of {len(space.spaces)} parts")
        pairs = enumerate(zip(value, space.spaces, strict=True))
        return tuple(own_parts(part, its_space, batch, f"{name}[{k}]") for k, (part, its_space) in pairs)
    if isinstance(space, Box):
        return own_observation(value, space, (*batch, *space.shape), name)
    if isinstance(space, Discrete | MultiBinary | MultiDiscrete):
        return _own_integers(value, space, batch, name)
    for env, one in enumerate(value if batch and isinstance(value, Iterable) else [value]):
        if not space.contains(one):
            must_be = f"it must be in {space}"
            raise EnvValueError(f"{name} is {short(one)}; {must_be}", env=env if batch else None)
    return value


def _own_integers(
    value: object, space: Discrete | MultiBinary | MultiDiscrete, batch: tuple[int, ...], name: str
) -> Array:
    array = as_array(value, name)
    if isinstance(space, Discrete) and not batch and array.size == 1:
        array = array.reshape(())
    if array.shape != (*batch, *(space.shape or ())) or array.dtype.kind not in "biu":
        raise EnvValueError(
            f"{name} is {short(value)}; it must be in {batch_space(space, batch[0]) if batch else space}"
        )
    if isinstance(space, MultiBinary):
        low, high = np.zeros(space.shape, np.int64), np.ones(space.shape, np.int64)
    else:
        start, count = (space.start, space.n) if isinstance(space, Discrete) else (space.start, space.nvec)
        low, high = np.asarray(start, np.int64), np.asarray(start + count - 1, np.int64)
    require_inside(array, (array >= low) & (array <= high), low, high, name)
    return array.astype(space.dtype)
