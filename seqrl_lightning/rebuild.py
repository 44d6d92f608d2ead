"""Rebuild objects from the settings in a file, which may come from a stranger.

No parser reads the settings. A text is a text, except where a function is asked for; a class is only named by a mapping
with a ``class_path``, it has to be one that files may name (:mod:`seqrl_lightning.trust`), and of the kind that the
setting's type asks for.
"""

import dataclasses
import functools
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import gymnasium as gym
import torch
import yaml
from jsonargparse.typing import get_registered_type

from seqrl_lightning.trust import Trust
from seqrl_lightning.trusted_names import is_dotted, is_known, is_listed, names_of
from seqrl_lightning.types import ConfigurationError, shortened

T = TypeVar("T")

_WORDS = re.compile(r"\w([\w .+=-]*[\w.+=-])?")  # of which no parser makes a collection or a path, whichever it is
_WRITTEN_AS_TEXTS = (timedelta, complex, Decimal, UUID, range, bytes, bytearray)  # by jsonargparse
_NAMELESS = (type(None), bool, int, float, str, Enum, os.PathLike, torch.dtype, *_WRITTEN_AS_TEXTS)
_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}


def rebuild(cls: Callable[..., T], settings: Mapping[str, Any], trust: Trust, where: str, is_parsed: bool = False) -> T:
    """Call a class with the settings that a file holds; the classes that these name are built first.

    Where a setting's type is a function that makes something (``Callable[..., Module]``), the class that is named is
    handed over with its ``init_args``, not called.

    Args:
        cls: The class, which the caller has chosen or :meth:`Trust.find` has found.
        settings: Its arguments: numbers, texts and collections, as a checkpoint holds them.
        trust: What the file may name.
        where: The file, for errors.
        is_parsed: Whether a parser reads the settings afterwards. It may see a name or a collection in a text whose
            type isn't known here, so that texts that read like one are refused there.

    Raises:
        ConfigurationError: If files may not name one of the classes, or one isn't of the kind that is asked for.
    """
    return cls(**_Builder(trust, where, is_parsed).arguments(cls, settings))


class _Builder:
    def __init__(self, trust: Trust, where: str, is_parsed: bool) -> None:
        self.trust = trust
        self.where = where
        self.is_parsed = is_parsed

    def arguments(self, cls: Callable[..., Any], settings: object) -> dict[str, object]:
        are_named = isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
        if not (isinstance(settings, Mapping) and are_named and all(name.isidentifier() for name in settings)):
            raise ConfigurationError(
                f"the settings of {_name(cls)} in {self.where} are {_shown(settings)}; they must have names"
            )
        if unknown := sorted(set(settings) - _names_of_arguments(cls, settings)):
            raise ConfigurationError(
                f"{self.where} gives {_name(cls)} {_shown(unknown)}; it must give it settings that it has"
            )
        takes_any = not is_known(cls)
        defaults = _functions_by_default(cls)
        found = {
            name: defaults[name][value]
            if isinstance(value, str) and value in defaults.get(name, ())
            else self._value(value, _annotation(cls, name), takes_any)
            for name, value in settings.items()
        }
        if is_listed(cls):  # whoever loads a file decides where it is computed
            found.pop("device", None)
        return found

    def _value(self, value: object, annotation: object, takes_any: bool) -> object:
        """Return a setting's value; ``takes_any`` is whether one whose type isn't known may be an object."""
        if isinstance(value, Mapping) and "class_path" in value:
            return self._built(value, annotation, takes_any)
        alternatives = _alternatives(annotation)
        if isinstance(value, Mapping):
            for alternative in alternatives:
                if isinstance(alternative, type) and dataclasses.is_dataclass(alternative):
                    return alternative(**self.arguments(alternative, value))
            keys, items = _items_annotations(annotation, Mapping, (Any, Any))
            mapping = {self._key(key, keys): self._value(item, items, takes_any) for key, item in value.items()}
            return self._fitting(mapping, annotation)
        if isinstance(value, list | tuple):
            kind = tuple if isinstance(value, tuple) else _collection(annotation)
            types_of_items = _types_of_items(annotation, len(value))
            found = kind(self._value(*each, takes_any) for each in zip(value, types_of_items, strict=True))
            return self._fitting(found, annotation)
        if isinstance(value, str) and str not in alternatives and any(_is_callable(a) for a in alternatives):
            return self._named(value, alternatives)
        if isinstance(value, str) and self.is_parsed and not _takes_no_class(annotation) and _reads_as_more(value):
            self.trust.require_name(value, self.where)
        try:
            return _plain(value, annotation)
        except (ValueError, ArithmeticError):
            raise self._unfit(value, annotation) from None

    def _key(self, key: object, annotation: object) -> object:
        """Return a mapping's key, which is a text in a checkpoint, as the setting's type has it."""
        alternatives = _alternatives(annotation)
        if isinstance(key, str) and int in alternatives and str not in alternatives:
            try:
                return int(key)
            except ValueError:
                raise self._unfit(key, annotation) from None
        return key

    def _fitting(self, collection: T, annotation: object) -> T:
        """Return a collection if it is one that the setting's type asks for: another one would be another value."""
        kinds = [_kind(alternative) for alternative in _alternatives(annotation) if not _is_callable(alternative)]
        if kinds and not any(kind is None or _is_kind(type(collection), kind) for kind in kinds):
            raise self._unfit(collection, annotation)
        return collection

    def _unfit(self, value: object, annotation: object) -> ConfigurationError:
        kinds = " or ".join(getattr(kind, "__name__", str(kind)) for kind in _alternatives(annotation))
        return ConfigurationError(f"{self.where} holds {_shown(value)} where a setting must be a kind of {kinds}")

    def _named(self, name: str, alternatives: Sequence[Any]) -> Callable[..., Any]:
        """Return the class or function of a name; a class has to be of the kind that is asked for."""
        found = self.trust.find(name, self.where)
        kinds = [kind for alternative in alternatives if _is_callable(alternative) for kind in _returned(alternative)]
        if kinds and isinstance(found, type) and not any(kind is None or _is_kind(found, kind) for kind in kinds):
            raise self._misfit(name, kinds)
        return found

    def _misfit(self, name: str, kinds: Sequence[type | None]) -> ConfigurationError:
        named = " or ".join(kind.__name__ for kind in kinds if kind not in (None, type(None)))
        must_be = f"a kind of {named}" if named else "a number, a text or a collection of them"
        return ConfigurationError(f"{self.where} names {_shown(name)}; it must be {must_be} there")

    def _built(self, spec: Mapping[str, Any], annotation: object, takes_any: bool) -> object:
        """Build what a mapping with a ``class_path`` stands for: an object, or a function that makes it."""
        if not set(spec) <= {"class_path", "init_args", "dict_kwargs"}:
            given = _shown(sorted(map(str, spec)))
            raise ConfigurationError(f"{self.where} names a class by {given}; it must be by class_path and init_args")
        cls = self.trust.find(spec["class_path"], self.where)
        init_args, dict_kwargs = (spec.get(name) or {} for name in ("init_args", "dict_kwargs"))
        if set(init_args) & set(dict_kwargs):
            raise ConfigurationError(f"{self.where} gives settings of {spec['class_path']!r} twice")
        settings = {**init_args, **dict_kwargs}
        alternatives = _alternatives(annotation)
        makers = [kind for maker in alternatives if _is_callable(maker) for kind in _returned(maker)]
        if any(base is None or _is_kind(cls, base) for base in makers):
            return functools.partial(cls, **self.arguments(cls, settings))
        bases = [_kind(alternative) for alternative in alternatives if not _is_callable(alternative)]
        if None in bases:  # any object, but a task is none that something is built of
            fits = takes_any and not any(_is_kind(cls, base) for base in (gym.Env, gym.vector.VectorEnv))
        else:
            fits = any(_is_kind(cls, base) for base in bases if base is not None)
        if not (fits or _is_callable_class(cls, annotation)):
            raise self._misfit(spec["class_path"], (*makers, *bases))
        return cls(**self.arguments(cls, settings))


def _names_of_arguments(cls: Callable[..., Any], settings: Mapping[str, Any]) -> set[str]:
    """Return the names of the arguments that a class or function takes; all that are given, if it takes any."""
    parameters = _parameters(cls)
    takes_any = parameters is None or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    return set(settings) if parameters is None or takes_any else set(parameters)


def _functions_by_default(cls: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments that are a class or function by default, and that one by its names: no file chose it."""
    parameters = _parameters(cls) or {}
    return {name: dict.fromkeys(names_of(each.default), each.default) for name, each in parameters.items()}


def _parameters(cls: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of a class or function; None if it has no signature, like some that are written in C."""
    try:
        return inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return None


def _annotation(cls: Callable[..., Any], name: str) -> object:
    """Return the type of a class's argument, also where ``**kwargs`` hand it on to a parent; else ``Any``."""
    owners = cls.__mro__ if isinstance(cls, type) else (cls,)
    for owner in owners:
        function = vars(owner).get("__init__") if isinstance(owner, type) else owner
        if function is None or name not in getattr(function, "__annotations__", ()):
            continue
        try:
            return typing.get_type_hints(function).get(name, Any)
        except (NameError, TypeError):  # a type that is only imported for type checkers
            return Any
    return Any


def _alternatives(annotation: object) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _is_callable(annotation: object) -> bool:
    return (typing.get_origin(annotation) or annotation) in (Callable, type)


def _kind(annotation: object) -> type | None:
    """Return the class of the objects of a type; None if it may be any."""
    if typing.get_origin(annotation) is typing.Literal:
        return str
    found = typing.get_origin(annotation) or annotation
    return found if isinstance(found, type) and found not in (Any, object) else None


def _takes_no_class(annotation: object) -> bool:
    """Return whether nothing that a setting of this type can be is named by a text: neither a class nor a function."""
    kinds = [_kind(alternative) for alternative in _alternatives(annotation)]
    return all(kind is not None and issubclass(kind, _NAMELESS) for kind in kinds)


def _reads_as_more(text: str) -> bool:
    """Return whether a parser may see more than a text in it: a collection, a number, a file, or a name to import.

    Parsers differ in what they accept, so all that isn't a few plain words counts as more.
    """
    if not _WORDS.fullmatch(text) or ("." in text and is_dotted(text)) or os.path.exists(text):
        return True
    with suppress(ValueError):
        float(text)  # also 1e3, which is a number to some parsers only
        return True
    try:
        return bool(yaml.safe_load(text) != text)
    except (yaml.YAMLError, ValueError):
        return True


def _returned(annotation: object) -> list[type | None]:
    """Return the classes that a function of this type makes; None among them if it may be any."""
    arguments = typing.get_args(annotation)
    return [_kind(alternative) for alternative in _alternatives(arguments[-1])] if arguments else []


def _is_kind(cls: Callable[..., Any], base: type) -> bool:
    returned = cls if isinstance(cls, type) else typing.get_type_hints(cls).get("return")
    if not isinstance(returned, type) or base is type(None):
        return False
    try:
        return issubclass(returned, base)
    except TypeError:  # a protocol with attributes or a TypedDict, which only type checkers can tell
        return True


def _is_callable_class(cls: Callable[..., Any], annotation: object) -> bool:
    """Return whether instances of a class are themselves functions, where one is asked for."""
    asks = any(_is_callable(alternative) for alternative in _alternatives(annotation))
    return asks and isinstance(cls, type) and any("__call__" in vars(owner) for owner in cls.__mro__)


def _items_annotations(annotation: object, kind: type, otherwise: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the types that stand in the brackets of a collection's type; ``otherwise`` where none do."""
    for alternative in _alternatives(annotation):
        origin, arguments = typing.get_origin(alternative), typing.get_args(alternative)
        if isinstance(origin, type) and issubclass(origin, kind) and len(arguments) >= len(otherwise):
            return arguments
    return otherwise


def _types_of_items(annotation: object, count: int) -> Sequence[Any]:
    """Return the type of each of a list's items: those of a tuple have their own."""
    found = _items_annotations(annotation, Iterable, (Any,))
    is_tuple = _collection(annotation) is tuple and found[-1] is not Ellipsis
    return found if is_tuple and len(found) == count else found[:1] * count


def _collection(annotation: object) -> Callable[[Iterable[Any]], Any]:
    """Return which collection a list in a file stands for."""
    for alternative in _alternatives(annotation):
        origin = typing.get_origin(alternative) or alternative
        if origin in (tuple, frozenset):
            return typing.cast(Callable[[Iterable[Any]], Any], origin)
        if isinstance(origin, type) and issubclass(origin, Set):
            return set
    return list


def _plain(value: object, annotation: object) -> object:
    """Return a number or text as a class's argument: a text may stand for a path, a dtype, an Enum's member, and so on.

    Raises:
        ValueError: If it is a text, and only objects are asked for.
        ArithmeticError: If it is no such number.
    """
    kinds = [kind for kind in _alternatives(annotation) if isinstance(kind, type)]
    if not isinstance(value, str) or str in kinds:
        return value
    for kind in kinds:
        if issubclass(kind, Enum) and value in kind.__members__:
            return kind[value]
        if kind is torch.dtype and value in _DTYPES:
            return _DTYPES[value]
        if issubclass(kind, os.PathLike):
            return Path(value)
        if kind in _WRITTEN_AS_TEXTS:
            written = get_registered_type(kind)
            assert written is not None
            read: Callable[[str], object] = written.deserializer
            return read(value)
    if kinds and len(kinds) == len(_alternatives(annotation)) and Any not in kinds and object not in kinds:
        raise ValueError(value)
    return value


def _name(cls: Callable[..., Any]) -> str:
    return getattr(cls, "__name__", repr(cls))


def _shown(value: object) -> str:
    return shortened(repr(value), 300)
