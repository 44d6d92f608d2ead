"""Observation spaces that have parts."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np


def is_composed(space: gym.Space[Any]) -> bool:
    """Return whether a space has parts."""
    return isinstance(space, gym.spaces.Dict | gym.spaces.Tuple)


def has_picture(space: gym.Space[Any]) -> bool:
    """Return whether a part of a composed space is a picture, which would lose its rows and columns when flattened."""
    return is_composed(space) and any(is_picture(leaf.dtype, leaf.shape or ()) for _, leaf in leaves(space))


def is_picture(dtype: Any, shape: tuple[int, ...]) -> bool:
    """Return whether a part is a picture: uint8, ``[H, W]``, ``[C, H, W]`` or ``[H, W, C]``."""
    return dtype == np.uint8 and len(shape) in (2, 3)


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
