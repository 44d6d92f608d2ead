"""Docstrings and signatures of classes, as plain text for a terminal."""

import inspect
import re
from typing import Any

from docstring_parser import Docstring, DocstringStyle, ParseError, parse

_ROLE = re.compile(r":\w+:`([^`]+)`")
_PACKAGES = re.compile(r"\b(?:\w+\.)+(?=\w)")


def parse_docstring(cls: type[Any]) -> Docstring:
    """Parse a class's docstring (Google style) into its description, parameters and errors.

    A task's or a library's docstring may be in any style. If it can't be parsed, the whole text is the description.
    """
    text = inspect.getdoc(cls) or ""
    try:
        return parse(text, DocstringStyle.GOOGLE)
    except ParseError:
        found = Docstring(DocstringStyle.GOOGLE)
        found.short_description, _, found.long_description = text.partition("\n")
        return found


def full_text(cls: type[Any]) -> str:
    """Return a class's whole docstring without markup."""
    return plain(inspect.getdoc(cls) or "")


def summary(cls: type[Any]) -> str:
    """Return the first line of a class's docstring."""
    return plain(parse_docstring(cls).short_description or "")


def description(cls: type[Any]) -> str:
    """Return a class's docstring up to its list of arguments."""
    return plain(parse_docstring(cls).description or "").rstrip()


def plain(text: str) -> str:
    """Remove a docstring's markup: roles like ``:class:`` and double backticks."""
    return _ROLE.sub(r"\1", text).replace("``", "")


def settings(cls: type[Any]) -> list[str]:
    """List the arguments that a class takes, with types and defaults: ``gamma: float = 0.99``.

    The class's own arguments come first; where it passes ``**kwargs`` on, those of its parent follow. Arguments without
    a default are left out, since they are not settings: they come from the task or from other parts.
    """
    found: dict[str, str] = {}
    for initialize in (vars(c)["__init__"] for c in cls.__mro__ if "__init__" in vars(c)):
        parameters = inspect.signature(initialize).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                kind = _PACKAGES.sub("", inspect.formatannotation(parameter.annotation))
                found.setdefault(parameter.name, f"{parameter.name}: {kind} = {_source_of(parameter.default)}")
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(found.values())


def setting_names(cls: type[Any]) -> set[str]:
    """Return the names of the arguments that a class takes, those included that it passes on to its parents."""
    parameters = (each for owner in cls.__mro__ for each in inspect.signature(owner).parameters.values())
    return {each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}


def _source_of(default: object) -> str:
    """A default value as it would be written in code."""
    if isinstance(default, type):
        return default.__name__
    if inspect.isfunction(default):
        return inspect.getsource(default).partition("= ")[2].strip().rstrip(",")
    return repr(default)
