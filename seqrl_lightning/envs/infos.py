"""Infos of environments, single and vectorized: the keys that the package uses, and their values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from seqrl_lightning.envs.faults import EnvValueError, short
from seqrl_lightning.envs.values import as_array, is_masked
from seqrl_lightning.types import Array, BoolArray

ACTION_MASK, BLOCK, CORRECT_ACTION, TASK_REWARD = "action_mask", "block", "correct_action", "task_reward"


def own_infos(infos: object) -> dict[str, Any]:
    """Return the infos of a vector environment.

    Raises:
        EnvValueError: If they aren't a dict.
    """
    if isinstance(infos, dict):
        return infos
    raise EnvValueError(f"the infos are {short(infos)}; they must be a dict")


def as_mask(value: ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """Return a copy of an action mask, [..., A].

    Raises:
        EnvValueError: If it doesn't have a 0 or 1 for each action. (A bias of 0 or -inf means the opposite.)
    """
    array = as_array(value, "info['action_mask']")
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise EnvValueError(
            f"info['action_mask'] is {short(value)}; it must be {shape[-1]} numbers, one for each action"
        )
    mask: BoolArray = array != 0
    if array.dtype.kind != "b" and np.count_nonzero(array == mask) < mask.size:
        raise EnvValueError(f"info['action_mask'] is {short(value)}; each number must be 0 or 1")
    return mask


def as_int(value: object, first: int, end: int) -> int | None:
    """Return a label of the package, a whole number in [first, end); None for any other value."""
    if type(value) is not int:
        if isinstance(value, list | tuple) or is_masked(value):
            return None
        try:
            array = as_array(value, "a label")  # of a tensor, too
        except EnvValueError:
            return None
        if array.size == 1 and array.dtype == object and array.item() is not value:
            return as_int(array.item(), first, end)
        if array.size != 1 or array.dtype.kind not in "iu":
            return None
        value = int(array.item())
    return value if first <= value < end else None


def values_per_env(infos: dict[str, Any], key: str, num_envs: int) -> tuple[Sequence[Any] | Array, BoolArray] | None:
    """Return the values of several environments under a key of their infos, and which of them have one.

    Args:
        infos: The infos of a vector environment: a list, tuple, array or tensor of one value for each environment under
            a key, and which of them have one under ``_key``. An environment whose value is None or masked has none
            either.
        key: The key.
        num_envs: Number of environments, N.

    Returns:
        The N values, and ``[N] bool``; None if there is no value for each environment under the key.
    """
    if key not in infos:
        return None
    values, has_value = infos[key], infos.get(f"_{key}", True)
    if is_masked(values):  # a label that is masked is missing; a row of masks is looked at on its own
        values = [None if value is np.ma.masked else value for value in values]
    if not isinstance(values, list | tuple):
        try:
            values = as_array(values, f"info[{key!r}]")
        except EnvValueError:
            return None
    if (values.shape[:1] if isinstance(values, np.ndarray) else (len(values),)) != (num_envs,):
        return None
    if not (type(has_value) is np.ndarray and has_value.dtype == np.bool_):  # as Gymnasium's have
        flags = as_array(has_value, f"info['_{key}']")
        means_ours = flags.dtype.kind in "biuf" and flags.shape in ((), (num_envs,))
        has_value = np.broadcast_to(flags.astype(np.bool_) if means_ours else np.True_, (num_envs,))
    if not isinstance(values, np.ndarray) or values.dtype == object:
        has_value = has_value & np.array([value is not None for value in values])
    return values, has_value


def masks_per_env(infos: dict[str, Any], num_envs: int) -> tuple[Sequence[Any] | Array, BoolArray] | None:
    """Return the action masks of several environments as :func:`values_per_env` does; None if there are none.

    Raises:
        EnvValueError: If there isn't one for each environment.
    """
    if infos.get(ACTION_MASK) is None:
        return None
    masks = values_per_env(infos, ACTION_MASK, num_envs)
    if masks is None:
        must_be = f"have {num_envs} rows, one for each environment"
        raise EnvValueError(f"info['action_mask'] is {short(infos[ACTION_MASK])}; it must {must_be}")
    return masks
