"""Composed observations at the border: the parts of Dict and Tuple spaces, packed into one row of bytes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.parts import ArrayVectorEnv, CheckedParts, own_parts
from seqrl_lightning.envs.spaces import leaves
from seqrl_lightning.envs.values import own_observation, stored_space
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import Array, ConfigurationError


class PackedSpace(Box):
    """The space of packed observations, ``[num_bytes] uint8``, or ``[num_frames, num_bytes]`` for stacks of them.

    Args:
        parts: The space of each part, of a dtype that the package stores.
        num_frames: Number of frames that are shown as one observation.

    Attributes:
        parts: The space of each part.
        layout: The place of each part.
    """

    def __init__(self, parts: Mapping[str, Box], num_frames: int = 1) -> None:
        self.parts = dict(parts)
        dtypes = {name: np.dtype(space.dtype).name for name, space in parts.items()}
        self.layout = PackedShape({name: (dtypes[name], space.shape) for name, space in parts.items()}, num_frames)
        super().__init__(0, 255, tuple(self.layout), np.uint8)

    @classmethod
    def of(cls, space: gym.Space[Any]) -> "PackedSpace":
        """Return the space of packed observations of a composed space.

        Raises:
            ConfigurationError: If two parts would have the same name.
        """
        parts: dict[str, Box] = {}
        for name, leaf in leaves(space):
            if name in parts:
                raise ConfigurationError(f"the observation space {space} has two parts that are called {name!r}")
            parts[name] = part_space(leaf)
        return cls(parts)

    def stacked(self, num_frames: int) -> "PackedSpace":
        """Return the space of stacks of these observations."""
        return PackedSpace(self.parts, num_frames)


def part_space(leaf: gym.Space[Any]) -> Box:
    """Return the space in which a part is stored: one-hot for a Discrete one."""
    if isinstance(leaf, Box):
        return stored_space(leaf)
    flat = gym.spaces.flatten_space(leaf)
    assert isinstance(flat, Box)
    if isinstance(leaf, Discrete | MultiDiscrete | MultiBinary):  # zeros and ones
        return Box(0, 1, flat.shape, np.uint8)
    return stored_space(flat)


def pack(observation: object, space: gym.Space[Any], packed: PackedSpace, batch: tuple[int, ...] = ()) -> Array:
    """Pack an observation, or those of N environments.

    Args:
        observation: The observation, as its space says; of N environments, with N in front of each part's shape.
        space: The space of one observation.
        packed: The packed space.
        batch: ``(N,)`` for N environments.

    Returns:
        ``[*batch, num_bytes] uint8``.

    Raises:
        EnvValueError: If a part isn't what its space says.
    """
    values = _values(own_parts(observation, space, batch), space)
    parts = {
        name: _stored(value, leaf, packed.parts[name], batch, f"observation[{name!r}]")
        for (name, leaf), value in zip(leaves(space), values, strict=True)
    }
    return packed.layout.pack(parts)


def _values(observation: object, space: gym.Space[Any]) -> Iterator[object]:
    """Yield the parts of an observation in the order of :func:`leaves`."""
    if isinstance(space, gym.spaces.Dict):
        assert isinstance(observation, Mapping)
        for key, part in space.items():
            yield from _values(observation[key], part)
    elif isinstance(space, gym.spaces.Tuple):
        assert isinstance(observation, tuple)
        for value, part in zip(observation, space.spaces, strict=True):
            yield from _values(value, part)
    else:
        yield observation


def _stored(value: object, leaf: gym.Space[Any], stored: Box, batch: tuple[int, ...], name: str) -> Array:
    """Return a part of an observation, or of several, as it is stored, ``[*batch, *shape]``."""
    if isinstance(leaf, Box):
        return own_observation(value, stored, (*batch, *stored.shape), name)
    if isinstance(leaf, MultiBinary):
        return np.asarray(value, stored.dtype).reshape((*batch, *stored.shape))
    if isinstance(leaf, Discrete):
        one_hot: Array = np.eye(int(leaf.n), dtype=np.uint8)[value - leaf.start]
        return one_hot
    if not batch:
        return np.asarray(gym.spaces.flatten(leaf, value)).astype(stored.dtype)
    assert isinstance(value, Iterable)
    return np.stack([_stored(item, leaf, stored, (), name) for item in value])


class PackedParts(CheckedParts):
    """Check and pack the parts of an environment's observations.

    Args:
        env: An environment with composed observations.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = self.packed_space = PackedSpace.of(env.observation_space)

    def observation(self, observation: object) -> Array:
        """Return ``[num_bytes] uint8``.

        Raises:
            EnvValueError: If a part isn't what its space says.
        """
        return pack(observation, self.env.observation_space, self.packed_space)


class PackedVectorParts(ArrayVectorEnv):
    """Check and pack the parts of the observations of a vector environment.

    Args:
        envs: Environments with composed observations.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self.packed_space = PackedSpace.of(envs.single_observation_space)
        super().__init__(envs, self.packed_space)

    def observations(self, observations: object) -> Array:
        """Return ``[N, num_bytes] uint8``; see :meth:`ArrayVectorEnv.observations`."""
        return pack(observations, self.parts, self.packed_space, (self.num_envs,))


class UnpackedParts(gym.ObservationWrapper[Any, Any, Any]):
    """Show packed observations as dicts of their parts, for a person who plays an environment by hand.

    Args:
        env: An environment with packed observations.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, PackedSpace)
        self._layout = space.layout
        num_frames, parts = space.layout.num_frames, space.parts
        stacks = {name: part if num_frames == 1 else batch_space(part, num_frames) for name, part in parts.items()}
        self.observation_space = gym.spaces.Dict(stacks)

    def observation(self, observation: Array) -> dict[str, Array]:
        """Return the parts by their names."""
        return self._layout.unpack(observation)
