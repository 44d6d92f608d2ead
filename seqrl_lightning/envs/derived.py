"""The state of tasks that are derived from those of this package: what they keep in attributes of their own."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from seqrl_lightning.envs.memoryless import remembers_elsewhere, written_attributes

_COLLECTIONS: dict[str, Callable[[Iterable[Any]], Any]] = {
    kind.__name__: kind for kind in (list, tuple, set, frozenset, dict)
}
_LIBRARIES = ("abc", "builtins", "gymnasium", "seqrl_lightning", "typing")  # of a task's classes that aren't one's own
# Methods that aren't called while an environment is played, so that nothing depends on what they remember.
_NOT_PLAYED = ("__init__", "board", "in_words", "shown_in_words", "picture", "render")


def is_ours(kind: type) -> bool:
    """Return whether a class is this package's."""
    return kind.__module__.startswith("seqrl_lightning.")


def own_attributes(task: Any) -> dict[str, Any] | None:
    """Return the attributes of a task that is derived from one of this package, as a checkpoint may hold them.

    Args:
        task: A task; one of this package, which tells its state by itself, has none of its own.

    Returns:
        The attributes by name, of this package's class, too, as far as they are numbers, texts, arrays or collections;
        None if one of the derived class is something else, or its methods may remember something elsewhere.
    """
    kind: type = type(task)
    derived, base = _split(kind)
    if not derived:
        return {}
    if _remembers_elsewhere(kind):
        return None
    own = {}
    for name, value in vars(task).items():
        is_inherited = name in base
        if is_inherited and isinstance(value, np.ndarray) and value.base is not None:
            continue  # a part of another array, which is looked up again
        try:
            own[name] = _plain(value)
        except TypeError:
            if not is_inherited:
                return None
    return own


def set_own_attributes(task: Any, own: dict[str, Any]) -> None:
    """Set a task's attributes to what :func:`own_attributes` returned."""
    vars(task).update({name: _unplain(value) for name, value in own.items()})


@functools.cache
def _split(kind: type) -> tuple[tuple[type, ...], frozenset[str]]:
    """Return a task's classes of one's own, mixins included, and the names of the attributes of all others."""
    derived = tuple(cls for cls in kind.__mro__ if cls.__module__.partition(".")[0] not in _LIBRARIES)
    others = [cls for cls in kind.__mro__ if cls not in derived]
    written = (name for cls in others for function in vars(cls).values() for name in written_attributes(function))
    return derived, frozenset(written).union(*map(dir, others))


@functools.cache
def _remembers_elsewhere(kind: type) -> bool:
    derived, base = _split(kind)
    return any(remembers_elsewhere(cls, base, _NOT_PLAYED) for cls in derived)


def _plain(value: Any) -> Any:
    """Return a value as a tensor, a number, a text, or ``{name of its type: list}``.

    Raises:
        TypeError: If it is something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray:
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return {"number": torch.from_numpy(np.array(value))}
    if kind is deque:
        return {"deque": [value.maxlen, *map(_plain, value)]}
    if kind in _COLLECTIONS.values():
        return {kind.__name__: [_plain(item) for item in (value.items() if kind is dict else value)]}
    raise TypeError(f"{kind.__name__} is no plain value")


def _unplain(value: Any) -> Any:
    """Return the value of which :func:`_plain` returned ``value``."""
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if not isinstance(value, dict):
        return value
    ((kind, items),) = value.items()
    if kind == "number":
        return items.numpy()[()]
    own: Iterator[Any] = map(_unplain, items)
    return deque(maxlen=next(own), iterable=own) if kind == "deque" else _COLLECTIONS[kind](own)
