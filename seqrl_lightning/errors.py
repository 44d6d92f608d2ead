"""Errors as a person reads them: one line, by the name of the setting."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from jsonargparse import ArgumentParser

from seqrl_lightning.types import ConfigurationError, RunError

_KEY = re.compile(r'Parser key "([\w.]+)":')
_NESTING = re.compile(  # what jsonargparse says of the types it tried, around the one line that tells what is wrong
    r"\s*(Does not validate against.*|Subtypes: .*|Errors:|Given value.*|- Expected a <class 'NoneType'>"
    r"|- Expected a path .*|-? ?Problem with given class_path '.*':)"
)
_CALLABLE = re.compile(r"-? ?Type \S+Callable\[.*\] expects a function or a callable class: ")


def essential(message: str) -> str:
    """What a parser's message comes down to: the setting's name and what is wrong with it."""
    key = ".".join(_KEY.findall(message))
    lines = [line for line in _KEY.sub("", message).splitlines() if not _NESTING.fullmatch(line)]
    reason = " ".join(" ".join(lines).split()).removeprefix("- ")
    reason = _CALLABLE.sub("", reason).split(". Got value: Namespace(")[0]
    if unknown := re.fullmatch(r"Option '(\w+)' is not accepted", reason):
        return f"{key}.{unknown[1]} is not a setting"
    return f"{key}: {reason}" if key else reason


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the program with one line."""
    # What a file holds may be in it: no terminal is to take that for commands of its own.
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)
    sys.stderr.write(f"seqrl: error: {shown}\n")
    sys.exit(status)


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line: what is wrong, without the list of everything there is."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what is wrong and exits with status 2."""
        if not self.exit_on_error:  # one of jsonargparse's inner parsers, whose message goes into an outer one's
            super().error(message, ex)
        fail(essential(message))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Ends the program with one line if an error comes; ``SEQRL_TRACEBACK=1`` shows where it came from."""
    try:
        yield
    except Exception as error:  # whatever it is, one line comes first
        if os.environ.get("SEQRL_TRACEBACK", "0") != "0":
            raise
        message = " ".join(str(error).split())
        if isinstance(error, ConfigurationError):
            fail(message)
        if isinstance(error, RunError):
            fail(message, status=1)
        if isinstance(error, ValueError) and "Does not validate against" in message:
            fail(essential(str(error)))  # a ConfigurationError of the model's, as jsonargparse hands it on
        fail(f"{type(error).__name__}: {message} (SEQRL_TRACEBACK=1 shows where)", status=1)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports that an extra of the package brings.

    Raises:
        ConfigurationError: If they aren't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        would_do = f'pip install -c constraints.txt -e ".[{extra}]"'
        raise ConfigurationError(f"this needs {error.name}, which the extra `{extra}` brings: {would_do}") from error
