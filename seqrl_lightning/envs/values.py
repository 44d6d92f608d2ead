"""Observations, rewards and flags, of whatever type Gymnasium allows, as the package's own types."""

from decimal import Decimal
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from seqrl_lightning.envs.bounds import limits_of, require_inside
from seqrl_lightning.envs.faults import EnvValueError, short
from seqrl_lightning.types import Array, one_line

_WIDER = {"bool": "uint8", "uint16": "int32", "uint32": "int64", "uint64": "int64"}


def stored_space(space: gym.Space[Any]) -> Box:
    """Return a Box space of a dtype that the package stores and networks read: float32 for other floats, and so on."""
    assert isinstance(space, Box)
    dtype = np.dtype(space.dtype)
    stored = np.dtype("float32" if dtype.kind == "f" else _WIDER.get(dtype.name, dtype.name))
    if stored == dtype:
        return space
    low, high = space.low, space.high
    if dtype == np.uint64:
        low, high = (np.minimum(bound, np.uint64(np.iinfo(stored).max)) for bound in (low, high))
    with np.errstate(over="ignore"):
        return Box(low.astype(stored), high.astype(stored), dtype=stored.type)


def is_masked(value: object) -> bool:
    """Return whether a value is an array of ``numpy.ma`` that hides something, which ``np.asarray`` would show."""
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def as_array(value: object, name: str) -> Array:
    """Return a value as a NumPy array.

    Args:
        value: The value.
        name: Its name in an error.

    Raises:
        EnvValueError: If NumPy makes no array of it, or it has masked values.
    """
    if is_masked(value):
        raise EnvValueError(f"{name} is {short(value)}; none of its values may be masked")
    try:
        return np.asarray(value)
    except Exception as error:  # an object's own conversion may raise anything; a tensor with gradients refuses
        raise EnvValueError(f"{name} is {short(value)}, which is no array: {one_line(error)}") from error


def own_observation(value: object, space: Box, shape: tuple[int, ...], name: str = "observation") -> Array:
    """Copy an observation into an array of its space's dtype.

    Args:
        value: The observation, or several in a row.
        space: The space of one observation.
        shape: The shape that the array must have.
        name: Its name in an error.

    Raises:
        EnvValueError: If its shape or its kind of dtype differs from the space's (floats under a space of integers), or
            the dtype can't hold one of the values.
    """
    dtype = space.dtype
    if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape:
        return value.copy()
    array = as_array(value, name)
    if array.dtype == object and array.shape == ():  # None, for example
        raise EnvValueError(f"{name} is {short(value)}; it must be {dtype}{shape}, as its space says")
    if array.shape != shape:
        raise EnvValueError(f"{name}.shape is {array.shape}; it must be {shape}, as its space says")
    kind, own_kind = array.dtype.kind, np.dtype(dtype).kind
    if kind not in "biuf" or (kind == "f" and own_kind != "f"):
        raise EnvValueError(f"{name}.dtype is {array.dtype}; it must be {dtype}, as its space says")
    if own_kind != "f" and kind != "b" and array.dtype != dtype:
        _require_in_dtype(array, space, name)
    try:
        with np.errstate(over="raise"):  # a finite float that would become infinite
            return array.astype(dtype)
    except FloatingPointError:
        _require_in_dtype(array, space, name)
        raise


def _require_in_dtype(array: Array, space: Box, name: str) -> None:
    """Refuse an array with values that the dtype of its space can't hold."""
    lowest, highest = limits_of(space)
    low, high = np.maximum(space.low, lowest), np.minimum(space.high, highest)
    require_inside(array, (array >= lowest) & (array <= highest), low, high, name)


def as_reward(value: object) -> float:
    """Return a reward as a float.

    Raises:
        EnvValueError: If it isn't one number.
    """
    if type(value) is float:
        return value
    if isinstance(value, Real | Decimal):  # fractions and integers of any size, too
        try:
            return float(value)
        except OverflowError:
            return float("inf")  # which is refused as such
        except (TypeError, ValueError) as error:  # NumPy's durations count as integers
            raise EnvValueError(f"the reward is {short(value)}; it must be a number") from error
    array = as_array(value, "the reward")
    if array.size != 1 or array.dtype.kind not in "biufO":
        raise EnvValueError(f"the reward is {short(value)}; it must be a number")
    if array.dtype.kind == "O":
        if not isinstance(array.item(), Real | Decimal | np.ndarray):
            raise EnvValueError(f"the reward is {short(value)}; it must be a number")
        return as_reward(array.item())
    return float(array.reshape(()))


def as_flag(value: object, name: str) -> bool:
    """Return ``terminated`` or ``truncated`` as a bool.

    Raises:
        EnvValueError: If it isn't true or false, 1 or 0.
    """
    if type(value) is bool:
        return value
    array = as_array(value, name)
    if array.dtype.kind == "O" and array.size == 1 and isinstance(array.item(), np.ndarray):
        return as_flag(array.item(), name)  # one environment's flag, in an array of its own
    is_object = array.dtype.kind == "O" and array.size == 1 and isinstance(array.item(), Real | np.bool_)
    if array.size != 1 or not (is_object or array.dtype.kind in "biuf") or array.item() not in (0, 1):
        raise EnvValueError(f"{name} is {short(value)}; it must be True or False")
    return bool(array.item())
