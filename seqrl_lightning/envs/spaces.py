"""Observation spaces that have parts."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.parts import is_picture


def is_composed(space: gym.Space[Any]) -> bool:
    """Return whether a space has parts."""
    return isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)


def has_fixed_size(space: gym.Space[Any]) -> bool:
    """Return whether all observations of a space have one size."""
    try:
        return space.is_np_flattenable
    except NotImplementedError:  # a space of a task's own may not say, like that of Minigrid's missions
        return False


def lacks_parts(space: gym.Space[Any]) -> bool:
    """Return whether a composed space, or one within it, has no part: nothing can be made of its observations."""
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        return False
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces
    return not parts or any(map(lacks_parts, parts))


def has_picture(space: gym.Space[Any]) -> bool:
    """Return whether a part of a composed space is a picture, which would lose its rows and columns when flattened."""
    boxes = (leaf for _, leaf in leaves(space) if isinstance(leaf, gym.spaces.Box))
    return is_composed(space) and any(is_picture(np.dtype(box.dtype).name, box.shape) for box in boxes)


def leaves(space: gym.Space[Any], name: str = "") -> Iterator[tuple[str, gym.Space[Any]]]:
    """Yield the parts of a space by their names; those of a nested space are called ``outer.inner``."""
    if isinstance(space, gym.spaces.Dict):
        inner: list[tuple[str, gym.Space[Any]]] = [(str(key), part) for key, part in space.items()]
    elif isinstance(space, gym.spaces.Tuple):
        inner = [(str(k), part) for k, part in enumerate(space.spaces)]
    else:
        yield name, space
        return
    for key, part in inner:
        yield from leaves(part, f"{name}.{key}" if name else key)
