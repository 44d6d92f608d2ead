"""The bounds of spaces: the values that an array may hold."""

import math
from operator import le
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from seqrl_lightning.envs.faults import EnvValueError
from seqrl_lightning.types import Array, BoolArray

_FEW = 16  # values, which Python compares in less time than NumPy


class Bounds:
    """The bounds of an array of N environments.

    Args:
        space: The space of the array of one of them.
        shape: The array's shape, [N, ...].
    """

    def __init__(self, space: Box, shape: tuple[int, ...]) -> None:
        lowest, highest = limits_of(space)
        low, high = np.maximum(space.low, lowest), np.minimum(space.high, highest)
        self._can_be_infinite = np.issubdtype(space.dtype, np.floating)
        fills_dtype = bool((low == lowest).all() and (high == highest).all())
        self._can_be_outside = self._can_be_infinite or not fills_dtype
        # Inside finite bounds there is neither NaN nor infinity: two comparisons find everything, and take half the
        # time with bounds for each environment.
        if self._can_be_outside:
            self._space = space
            self._limits = {  # by whether the space's bounds are checked, or the dtype's alone
                True: [np.broadcast_to(bound, shape).copy() for bound in (low, high)],
                False: [np.full(shape, limit, space.dtype) for limit in (lowest, highest)],
            }
            self._has_few = math.prod(shape) <= _FEW
            self._lists = {
                is_checked: [bound.ravel().tolist() if self._has_few else [] for bound in limits]
                for is_checked, limits in self._limits.items()
            }

    def require(self, array: Array, check_bounds: bool, name: str) -> None:
        """Refuse an array with NaN or infinity in it, or, with ``check_bounds``, with a value outside its space.

        Raises:
            EnvValueError: If there is such a value; ``name`` is the array's name in it.
        """
        if not (self._can_be_outside if check_bounds else self._can_be_infinite):
            return
        if self._has_few:
            values, (lowest, highest) = array.ravel().tolist(), self._lists[check_bounds]
            if all(map(le, lowest, values)) and all(map(le, values, highest)):
                return
        low, high = self._limits[check_bounds]
        is_above, is_below = array >= low, array <= high
        # count_nonzero() is several times as fast as all().
        if np.count_nonzero(is_above) + np.count_nonzero(is_below) < 2 * array.size:
            low, high, hint = self._space.low, self._space.high, " (agent.check_bounds: false accepts it)"
            require_inside(array, is_above & is_below, low, high, name, hint)


def limits_of(space: Box) -> tuple[Any, Any]:
    """Return the smallest and the largest finite value of a space's dtype."""
    dtype: np.dtype[Any] = np.dtype(space.dtype)
    if dtype.kind == "b":
        return False, True
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.min, limits.max


def require_inside(
    array: Array, is_inside: BoolArray, low: Array, high: Array, name: str = "observation", hint: str = ""
) -> None:
    """Refuse an array with values outside their space; the error names the first of them.

    Args:
        array: One array of a space, or several in a row.
        is_inside: Which values are inside, of the array's shape.
        low: The least values that the space allows, of the space's shape.
        high: The largest ones.
        name: The array's name in an error.
        hint: An alternative, added to the error if the value is finite.

    Raises:
        EnvValueError: If there is one.
    """
    if is_inside.all():
        return
    index = np.unravel_index(int(is_inside.argmin()), array.shape)
    value, num_before = array[index], array.ndim - np.ndim(low)
    inner = index[num_before:]
    place = f"{name}[{', '.join(map(str, inner))}]" if inner else name
    must_be = f"the space allows [{low[inner]!s}, {high[inner]!s}]{hint}" if np.isfinite(value) else "it must be finite"
    raise EnvValueError(f"{place} is {value!s}; {must_be}", env=int(index[0]) if num_before else None)
