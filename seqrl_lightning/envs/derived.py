"""The state of tasks that are derived from those of this package: their additional attributes."""

import contextlib
import functools
import inspect
import types
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch

from seqrl_lightning.envs.memoryless import (
    constants_in,
    is_constant,
    loaded_attributes,
    methods,
    remembers_elsewhere,
    written_attributes,
)
from seqrl_lightning.saved_state import require_saved
from seqrl_lightning.types import Array

_COLLECTIONS: dict[str, Callable[[Iterable[Any]], Any]] = {
    kind.__name__: kind for kind in (list, tuple, set, frozenset, dict)
}
_LIBRARIES = ("abc", "builtins", "gymnasium", "seqrl_lightning", "typing")  # of a task's classes, not its author's
_METHODS = (types.FunctionType, property, staticmethod, classmethod)
# Methods that aren't called while an environment is played, so that nothing depends on their memory.
_NOT_PLAYED = ("__init__", "board", "in_words", "shown_in_words", "picture", "render")


def is_ours(kind: type) -> bool:
    """Return whether a class is this package's."""
    return kind.__module__.startswith("seqrl_lightning.")


def own_attributes(task: object) -> dict[str, Any] | None:
    """Return the attributes of a task that is derived from one of this package, as a checkpoint may hold them.

    Args:
        task: A task; this package's own tasks have none, since they return their state themselves.

    Returns:
        The attributes by name, of this package's class, too, as far as they are numbers, texts, arrays or collections,
        and nothing else holds the same array or collection; without texts that only a setting can have given, since
        they don't change. None if an attribute of the derived class is of another kind, or if its methods may change
        any other attribute or a text that isn't a constant of theirs, or remember something elsewhere.
    """
    kind: type = type(task)
    derived, inherited = _split(kind)
    if not derived:
        return {}
    if _remembers_elsewhere(kind):
        return None
    own = _plain_attributes(task, inherited)
    left_out = vars(task).keys() - own.keys()
    if left_out - inherited or _may_change(task, inherited - own.keys(), _uses(kind)):
        return None
    fixed = {name for name in own if _holds_given_texts(task, name, vars(task)[name])}
    return None if any(_is_changing(task, name) for name in fixed) else {n: own[n] for n in own.keys() - fixed}


def set_own_attributes(task: object, own: dict[str, Any]) -> None:
    """Set a task's attributes to what :func:`own_attributes` returned; a stranger may have written them.

    No text of a file replaces one that isn't a constant of the task's own code: it may be a path, a command or a name.

    Raises:
        StateError: If the task can't have left this state.
    """
    state = f"the state of {type(task).__name__}"
    require_saved(isinstance(own, dict), f"the task's own attributes in {state}", own, "of type dict")
    if not own:
        return
    is_known = own_attributes(task) is not None
    require_saved(is_known, state, sorted(own), "left out: the task keeps some of its state elsewhere")
    settable = _settable(task)
    for name, value in own.items():
        require_saved(name in settable, state, name, "an attribute that the task sets")
        before = vars(task).get(name)
        if _holds_given_texts(task, name, before) and not _is_changing(task, name):
            continue  # earlier versions saved them, too
        try:
            found = _unplain(value)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            require_saved(False, f"{name} in {state}", value, "a number, a text, an array or a collection")
        fits = before is None or found is None or isinstance(found, str) == isinstance(before, str)
        require_saved(fits, f"{name} in {state}", found, f"of the kind of {before!r}")
        is_own = not _holds_given_texts(task, name, found)
        require_saved(is_own, f"{name} in {state}", found, "without texts that aren't constants of the task's methods")
        vars(task)[name] = found


def _settable(task: object) -> set[str]:
    """Return the names of all attributes that a task's methods, or its bases', may have set."""
    kind: type = type(task)
    derived, inherited = _split(kind)
    written = {name for cls in derived for value in vars(cls).values() for name in _writes(value)}
    of_libraries = {name for name in inherited if not name.startswith("__")}
    return {name for name in {*vars(task), *written, *of_libraries} if not _is_method(kind, name)}


def _is_method(kind: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(kind, name, None), _METHODS)


def _writes(code: object) -> set[str]:
    return written_attributes(code) if isinstance(code, _METHODS) else set()


@functools.cache
def _split(kind: type) -> tuple[tuple[type, ...], frozenset[str]]:
    """Return the classes of a task that its author wrote, mixins included, and the attributes' names of all others."""
    derived = tuple(cls for cls in kind.__mro__ if cls.__module__.partition(".")[0] not in _LIBRARIES)
    others = [cls for cls in kind.__mro__ if cls not in derived]
    written = (name for cls in others for function in vars(cls).values() for name in written_attributes(function))
    return derived, frozenset(written).union(*map(dir, others))


@functools.cache
def _remembers_elsewhere(kind: type) -> bool:
    derived, base = _split(kind)
    return any(remembers_elsewhere(cls, base, _NOT_PLAYED) for cls in derived)


def _plain_attributes(task: object, inherited: frozenset[str]) -> dict[str, Any]:
    """Return those attributes that are plain values and hold nothing that another attribute holds as well."""
    names = vars(task).keys() | {name for name in inherited if not name.startswith("__")}
    names -= {"spec"}  # a record of the task's arguments, which is never read
    seen: set[int] = set()
    held = {name: _identities(inspect.getattr_static(task, name, None), seen) for name in names}
    times = Counter(identity for identities in held.values() for identity in identities)
    plain = {}
    for name in vars(task).keys() & names:
        if all(times[identity] == 1 for identity in held[name]):
            with contextlib.suppress(TypeError):
                plain[name] = _plain(vars(task)[name])
    return plain


def _identities(value: object, seen: set[int]) -> list[int]:
    """Return the identity of each array, collection and object within a value, once for each way that leads to it.

    Args:
        value: Any value.
        seen: Identities within which it has been searched before; new ones are added.
    """
    found, rest = [], [value]
    while rest:
        part = rest.pop()
        if isinstance(part, np.ndarray):
            found.append(id(_owner(part)))
        elif isinstance(part, tuple | frozenset):
            rest += part
        elif isinstance(part, list | set | dict | deque) or _is_of_library(part):
            found.append(id(part))
            if id(part) not in seen:
                seen.add(id(part))
                rest += _parts(part)
    return found


def _parts(holder: object) -> list[Any]:
    """Return the values in a collection, or in the attributes of an object."""
    if isinstance(holder, list | set | deque):
        return list(holder)
    return list((holder if isinstance(holder, dict) else vars(holder)).values())


def _is_of_library(value: object) -> bool:
    """Return whether a value is a space, or an object of another class of this package."""
    return isinstance(value, gym.Space) or (is_ours(type(value)) and not isinstance(value, type))


def _owner(array: Array) -> Array:
    """Return the array whose memory an array is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class _Uses(NamedTuple):
    """The attributes that occur in the derived classes of a task."""

    read: frozenset[tuple[str, ...]]  # while it is played; see :func:`loaded_attributes`
    written: frozenset[str]  # while it is played
    set_up: frozenset[str]  # written at any time


@functools.cache
def _uses(kind: type) -> _Uses:
    played = _played(kind)
    return _Uses(
        frozenset(chain for function in played for chain in loaded_attributes(function)),
        frozenset().union(*map(written_attributes, played)),
        frozenset().union(*map(written_attributes, _functions(kind, ()))),
    )


@functools.cache
def _played(kind: type) -> frozenset[types.FunctionType]:
    """Return the functions of the derived classes that are called while it is played, not only by ``__init__``."""
    derived, inherited = _split(kind)
    mentioned: dict[str, set[str]] = {}
    for cls in derived:
        for name in vars(cls):
            mentioned.setdefault(name, set()).update(*map(_mentioned, methods(cls, vars(cls).keys() - {name})))
    by_init = _reached({"__init__"}, mentioned)
    by_others = _reached((mentioned.keys() - by_init) | (inherited - {"__init__"}), mentioned)
    return _functions(kind, {*_NOT_PLAYED, *(by_init - by_others)})


def _functions(kind: type, left_out: Container[str]) -> frozenset[types.FunctionType]:
    return frozenset(function for cls in _split(kind)[0] for function in methods(cls, left_out))


def _mentioned(function: types.FunctionType) -> set[str]:
    """Return the names of the attributes that a function reads or writes."""
    return {name for chain in loaded_attributes(function) for name in chain} | written_attributes(function)


def _reached(names: Iterable[str], mentioned: Mapping[str, set[str]]) -> set[str]:
    """Return the names of the methods that some methods call, directly or by others, and their own."""
    found: set[str] = set()
    rest = set(names)
    while rest:
        name = rest.pop()
        found.add(name)
        rest |= mentioned.get(name, set()) - found
    return found & mentioned.keys()


def _is_changing(task: object, name: str) -> bool:
    """Return whether a task's derived classes may change an attribute while it is played."""
    kind: type = type(task)
    uses = _uses(kind)
    is_fixed = is_constant(vars(task).get(name)) or all(name not in chain for chain in uses.read)
    return name in uses.written or not is_fixed


def _holds_given_texts(task: object, name: str, value: object) -> bool:
    """Return whether a value of an attribute holds a text that isn't a constant of the methods that may set it."""
    texts = set(_texts(value))
    if not texts:
        return False
    kind: type = type(task)
    setting = written_attributes if isinstance(value, str) else _mentioned
    if not any(name in setting(function) for function in _played(kind)):
        return True
    own = {
        text for function in _functions(kind, ()) if name in setting(function) for text in _constants(function, kind)
    }
    return not texts <= own


def _constants(function: types.FunctionType, kind: type) -> set[str]:
    """Return the texts in a function, and in the constants of its module and class that it names."""
    of_class = [inspect.getattr_static(kind, name, None) for name in _mentioned(function)]
    return {*_texts([*constants_in(function), *(value for value in of_class if is_constant(value))])}


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for item in value:
            yield from _texts(item)


def _may_change(task: object, left_out: frozenset[str], uses: _Uses) -> bool:
    """Return whether a task's derived classes may change inherited attributes that aren't saved with its own.

    They may define other spaces, which don't change, and read constants from these attributes.
    """
    objects = left_out & vars(task).keys()
    spaces = {name for name in objects if isinstance(vars(task)[name], gym.Space)}
    if objects & (uses.written | (uses.set_up - spaces)):
        return True
    return any(chain[0] in left_out and not _is_fixed(task, chain) for chain in uses.read)


def _is_fixed(task: object, chain: tuple[str, ...]) -> bool:
    """Return whether an attribute of an attribute of ... a task can't change, or is a method."""
    value = inspect.getattr_static(task, chain[0], None)
    if isinstance(value, _METHODS):
        return True
    for name in chain[1:]:
        if is_constant(value):
            return True
        value = getattr(value, name, task)  # the task, which isn't fixed, if there is none
    return is_constant(value)


def _plain(value: object) -> object:
    """Return a value as a tensor, a number, a text, or ``{name of its type: list}``.

    Raises:
        TypeError: If it is something else.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and kind is np.ndarray and value.dtype.isnative and _owner(value).base is None:
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return {"number": torch.from_numpy(np.array(value))}
    if isinstance(value, deque) and kind is deque:
        return {"deque": [value.maxlen, *map(_plain, value)]}
    if kind in _COLLECTIONS.values():
        items = value.items() if isinstance(value, dict) else cast(Iterable[object], value)
        return {kind.__name__: [_plain(item) for item in items]}
    raise TypeError(f"{kind.__name__} is no plain value")


def _unplain(value: object) -> object:
    """Return the value that :func:`_plain` converted to ``value``: its inverse."""
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if not isinstance(value, dict):
        return value
    ((kind, items),) = value.items()
    if kind == "number":
        return items.numpy()[()]
    own: Iterator[Any] = map(_unplain, items)
    return deque(maxlen=next(own), iterable=own) if kind == "deque" else _COLLECTIONS[kind](own)
