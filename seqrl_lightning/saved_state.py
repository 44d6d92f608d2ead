"""Check the state that a checkpoint restores, which a stranger may have written.

What is saved as a number could be read as a text or as a tensor of another size, and would end the run later, anywhere,
or take memory that only the file decides about. Whoever restores a state says here what it must be.
"""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from seqrl_lightning.types import one_line, shortened

T = TypeVar("T")


class StateError(ValueError):
    """A saved state isn't one that this run can go on from. The message is one line."""


def saved(value: object, kind: type[T], name: str) -> T:
    """Return a part of a saved state if it is what was saved there.

    Args:
        value: The part, of numbers, texts and collections.
        kind: Its type: ``int``, ``float``, ``bool``, ``str``, ``dict``, a list of such types (``list[int]``), a named
            tuple, which is saved as a list, or a dataclass, which is saved as a mapping.
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
    return typing.cast(T, value)


def _fields(kind: type, values: dict[Any, Any], name: str, by_name: bool) -> list[Any]:
    kinds = typing.get_type_hints(kind)
    keys = list(kinds) if by_name else list(range(len(kinds)))
    if set(values) != set(keys):
        _refuse(name, f"one of {sorted(map(str, values))}", f"one of {sorted(map(str, keys))}")
    return [saved(values[key], kinds[field], f"{name}.{field}") for key, field in zip(keys, kinds, strict=True)]


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


def form_of(weight: Tensor) -> str:
    """Return a weight's shape and, unless they are floats, its dtype: a weight only takes the values of its like.

    Floats of any size are alike. ``load_state_dict`` would also take integers, or the real part of complex numbers.
    """
    shape = f"the shape {tuple(weight.shape)}"
    return shape if weight.is_floating_point() else f"{shape} and {weight.dtype}"


def require_saved(is_so: bool, name: str, value: object, must_be: str) -> None:
    """Refuse a part of a saved state that this run can't have left.

    Raises:
        StateError: If it is one.
    """
    if not is_so:
        _refuse(name, repr(value), must_be)


def require_fitting_state(optimizer: Optimizer) -> None:
    """Refuse a state that a fused optimizer would read and write beyond its end.

    ``Optimizer.load_state_dict`` takes tensors of any shape, and whether the step is fused is in the state, too. Other
    implementations compare the shapes, a fused kernel doesn't: one from a stranger would write into any memory.

    Args:
        optimizer: Its ``step`` counts are tensors of one number; all else has its parameter's shape.

    Raises:
        StateError: If it doesn't fit the parameters.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            for name, value in optimizer.state.get(parameter, {}).items():
                what = f"the optimizer's {name}"
                shape, dtype = ((), torch.float32) if name == "step" else (parameter.shape, parameter.dtype)
                tensor = saved_tensor(value, shape, dtype, what)
                if not (tensor.is_contiguous() or tensor.stride() == parameter.stride()):
                    raise StateError(f"{what} in the checkpoint has the strides {tensor.stride()}; it must be dense")


def _refuse(name: str, value: str, must_be: str) -> NoReturn:
    raise StateError(f"{name} in the checkpoint is {shortened(one_line(value), 200)}; it must be {must_be}")
