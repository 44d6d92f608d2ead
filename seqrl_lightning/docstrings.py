"""Docstrings and signatures as a person reads them in a terminal."""

import inspect
import re
from typing import Any

_ROLE = re.compile(r":\w+:`([^`]+)`")
_PACKAGES = re.compile(r"\b(?:\w+\.)+(?=\w)")


def docstring(cls: type[Any]) -> str:
    """A class's docstring, without markup."""
    return _ROLE.sub(r"\1", inspect.getdoc(cls) or "").replace("``", "")


def summary(cls: type[Any]) -> str:
    """The docstring's first line."""
    return docstring(cls).partition("\n")[0]


def without_settings(cls: type[Any]) -> str:
    """The docstring up to its list of arguments."""
    return docstring(cls).partition("\n\nArgs:\n")[0]


def settings(cls: type[Any]) -> list[str]:
    """What a class can be given, its own arguments first: ``gamma: float = 0.99``.

    Arguments without a default are left out: they come from elsewhere. Where a class hands ``**kwargs`` on, those of
    its parent follow.
    """
    found: dict[str, str] = {}
    for initialize in (vars(c)["__init__"] for c in cls.__mro__ if "__init__" in vars(c)):
        parameters = inspect.signature(initialize).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                kind = _PACKAGES.sub("", inspect.formatannotation(parameter.annotation))
                found.setdefault(parameter.name, f"{parameter.name}: {kind} = {_in_words(parameter.default)}")
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(found.values())


def _in_words(default: object) -> str:
    """A default as one would write it."""
    if isinstance(default, type):
        return default.__name__
    if inspect.isfunction(default):
        return inspect.getsource(default).partition("= ")[2].strip().rstrip(",")
    return repr(default)
