"""Check the state that a checkpoint restores, which a stranger may have written.

What is saved as a number could be read as a text or as a tensor of another size, and would end the run later, anywhere,
or take memory that only the file decides about. Whoever restores a state says here what it must be.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.types import one_line, shortened

T = TypeVar("T")

_INT64 = 2**63


class StateError(ValueError):
    """A saved state isn't one that this run can continue from. The message is one line."""


def saved(value: object, kind: type[T], name: str) -> T:
    """Return a part of a saved state if it is what was saved there.

    Args:
        value: The part, of numbers, texts and collections.
        kind: Its type: ``int`` (of 64 bits), ``float`` (finite), ``bool``, ``str``, ``dict``, a list of such types
            (``list[int]``), a named tuple, which is saved as a list, or a dataclass, which is saved as a mapping; the
            whole numbers in these two are counts.
        name: What it is, for the error.

    Raises:
        StateError: If it is anything else. A bool is no number.
    """
    if typing.get_origin(kind) is list:
        (item_kind,) = typing.get_args(kind)
        items = [saved(item, item_kind, f"{name}[{i}]") for i, item in enumerate(saved(value, list, name))]
        return typing.cast(T, items)
    if isinstance(kind, type) and issubclass(kind, tuple) and kind is not tuple:
        return kind(*_fields(kind, dict(enumerate(saved(value, list, name))), name, by_name=False))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind(*_fields(kind, saved(value, dict, name), name, by_name=True))
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        _refuse(name, repr(value), f"of type {kind.__name__}")
    if kind is float:
        require_saved(math.isfinite(typing.cast(float, value)), name, value, "finite")
    elif kind is int:
        require_saved(abs(typing.cast(int, value)) < _INT64, name, value, "a number of 64 bits")
    return typing.cast(T, value)


def saved_count(value: object, name: str) -> int:
    """Return a saved count: a whole number that isn't negative; see :func:`saved`."""
    count = saved(value, int, name)
    require_saved(count >= 0, name, count, "0 or more")
    return count


def _fields(kind: type, values: dict[Any, Any], name: str, by_name: bool) -> list[Any]:
    kinds = typing.get_type_hints(kind)
    keys = list(kinds) if by_name else list(range(len(kinds)))
    if set(values) != set(keys):
        _refuse(name, f"one of {sorted(map(str, values))}", f"one of {sorted(map(str, keys))}")
    parts = ((values[key], kinds[field], f"{name}.{field}") for key, field in zip(keys, kinds, strict=True))
    return [saved_count(value, what) if kind is int else saved(value, kind, what) for value, kind, what in parts]


def saved_tensor(value: object, shape: Sequence[int | None], dtype: torch.dtype, name: str) -> Tensor:
    """Return a saved tensor if it has the shape and dtype that were saved.

    Args:
        value: The tensor.
        shape: Its shape; None stands for any length.
        dtype: Its dtype.
        name: What it is, for the error.

    Raises:
        StateError: If it is anything else.
    """
    shown = ", ".join("any" if length is None else str(length) for length in shape)
    must_be = f"a tensor of {dtype} and shape ({shown})"
    if not isinstance(value, Tensor):
        _refuse(name, repr(value), must_be)
    fits = len(value.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, value.shape, strict=True)
    )
    if not (fits and value.dtype == dtype):
        _refuse(name, f"one of {value.dtype} and shape {tuple(value.shape)}", must_be)
    return value


def saved_settings(value: object, name: str) -> dict[str, Any]:
    """Return saved settings, if they are numbers, texts and collections of them, by their names.

    Raises:
        StateError: If there is a tensor among them, which compares with nothing.
    """
    settings: dict[str, Any] = saved(value, dict, name)
    waiting: list[tuple[str, object]] = [(name, settings)]
    while waiting:
        where, item = waiting.pop()
        require_saved(not isinstance(item, Tensor), where, item, "a number, a text or a collection of them")
        inner = item.items() if isinstance(item, dict) else enumerate(item) if isinstance(item, list | tuple) else ()
        waiting += [(f"{where}.{key}", part) for key, part in inner]
    return settings


def require_alike(value: object, own: object, name: str) -> None:
    """Refuse a part of a saved state that isn't of the form of this run's own, before anything has happened.

    Args:
        value: The part.
        own: What this run would save there now. It decides on keys, lengths, types, shapes and dtypes. Whole numbers
            are counts, unless this run's own is negative; where it has None, any number will do.
        name: What it is, for the error; keys are added to it.

    Raises:
        StateError: If it differs in form, a number isn't finite, or a random stream has no such state.
    """
    if isinstance(own, Mapping):
        found = saved(value, dict, name)
        if found.keys() != own.keys():
            _refuse(name, f"one of {sorted(map(str, found))}", f"one of {sorted(map(str, own))}")
        if "bit_generator" in own:
            _require_stream(found, own, name)
        else:
            for key in own:
                require_alike(found[key], own[key], f"{name}.{key}")
    elif isinstance(own, list | tuple):
        items = saved(list(value) if isinstance(value, tuple) else value, list, name)
        require_saved(len(items) == len(own), name, f"a list of {len(items)}", f"a list of {len(own)}")
        for i, (item, own_item) in enumerate(zip(items, own, strict=True)):
            require_alike(item, own_item, f"{name}[{i}]")
    elif isinstance(own, Tensor):
        saved_tensor(value, own.shape, own.dtype, name)
    elif own is None:
        if value is not None:
            saved(value, float, name)
    elif type(own) is int and own >= 0:
        saved_count(value, name)
    else:
        saved(value, type(own), name)


def restore_stream(rng: np.random.Generator, state: object, name: str) -> None:
    """Set a random stream back to a saved state.

    Args:
        rng: The stream.
        state: What its ``bit_generator.state`` was.
        name: What it is, for the error.

    Raises:
        StateError: If a stream of its kind has no such state.
    """
    require_alike(state, rng.bit_generator.state, name)
    rng.bit_generator.state = typing.cast(dict[str, Any], state)


def _require_stream(value: Mapping[str, Any], own: Mapping[str, Any], name: str) -> None:
    """Refuse what is no state of a PCG64 generator: two numbers of 128 bits, and half a draw that is left over."""
    kind = own["bit_generator"]
    require_saved(value["bit_generator"] == kind, f"{name}.bit_generator", value["bit_generator"], repr(kind))
    inner = saved(value["state"], dict, f"{name}.state")
    numbers = {
        "state.state": (inner.get("state"), 2**128),
        "state.inc": (inner.get("inc"), 2**128),
        "has_uint32": (value["has_uint32"], 2),
        "uinteger": (value["uinteger"], 2**32),
    }
    for key, (number, end) in numbers.items():
        is_one = type(number) is int and 0 <= number < end and (key != "state.inc" or number % 2 == 1)
        require_saved(is_one, f"{name}.{key}", number, f"a whole number in [0, {end}), and an increment odd")


def form_of(weight: Tensor) -> str:
    """Return a weight's shape and, unless they are floats, its dtype: a weight only takes the values of its like.

    Floats of any size are alike. ``load_state_dict`` would also take integers, or the real part of complex numbers.
    """
    shape = f"the shape {tuple(weight.shape)}"
    return shape if weight.is_floating_point() else f"{shape} and {weight.dtype}"


def require_saved(is_so: bool, name: str, value: object, must_be: str) -> None:
    """Refuse a part of a saved state that this run can't have left.

    Raises:
        StateError: If this run can't have left it.
    """
    if not is_so:
        _refuse(name, repr(value), must_be)


def _refuse(name: str, value: str, must_be: str) -> NoReturn:
    raise StateError(f"{name} in the checkpoint is {shortened(one_line(value), 200)}; it must be {must_be}")
