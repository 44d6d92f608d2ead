"""Error messages of one line that name the setting."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from jsonargparse import ArgumentParser

from seqrl_lightning.types import ConfigurationError, RunError, shortened

_KEY = re.compile(r'Parser key "([\w.]+)":')
_NESTING = re.compile(  # jsonargparse's lines on the types that it tried, around the one line with the reason
    r"\s*(Does not validate against.*|Subtypes: .*|Errors:|Given value.*|- Expected a <class 'NoneType'>"
    r"|- Expected a path .*|-? ?Problem with given class_path '.*':)"
)
# Settings that every learner took before, and that some of them ignored.
_MUNCHAUSEN = " of this learner; leave it out (DQN, QRDQN and IQN have it)"
_OF_OTHER_LEARNERS = {
    "model.double": " of this learner; leave it out (DQN, QRDQN, IQN and C51 have it)",
    "model.huber_delta": " of C51, whose loss is a cross-entropy; leave it out",
    "model.munchausen_alpha": _MUNCHAUSEN,
    "model.munchausen_temperature": _MUNCHAUSEN,
    "model.munchausen_clip": _MUNCHAUSEN,
    "model.updates_per_step": " of PQN, whose updates follow from epochs and minibatches; leave it out",
}
_CALLABLE = re.compile(r"-? ?Type \S+Callable\[.*\] expects a function or a callable class: ")


def shorten_message(message: str) -> str:
    """Shorten a parser's message to the setting's name and the reason."""
    key = ".".join(_KEY.findall(message))
    lines = [line for line in _KEY.sub("", message).splitlines() if not _NESTING.fullmatch(line)]
    reason = " ".join(" ".join(lines).split()).removeprefix("- ")
    reason = _CALLABLE.sub("", reason).split(". Got value: Namespace(")[0]
    if unknown := re.fullmatch(r"Option '(\w+)' is not accepted", reason):
        setting = f"{key}.{unknown[1]}"
        return f"{setting} is not a setting{_OF_OTHER_LEARNERS.get(setting, '')}"
    return f"{key}: {reason}" if key else reason


def fail(message: str, status: int = 2) -> NoReturn:
    """Exit with an error message of one line."""
    sys.stderr.write(f"seqrl: error: {printable(shortened(message))}\n")
    sys.exit(status)


def printable(text: str) -> str:
    """Return a text that may quote a file without control characters, which a terminal would obey; lines stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


class OneLineErrors(ArgumentParser):
    """A parser whose error messages are one line, without the list of all options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the reason and exit with status 2."""
        if not self.exit_on_error:  # an inner parser of jsonargparse's: its message becomes part of an outer one
            super().error(message, ex)
        fail(shorten_message(message))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn any exception into an exit with one line; with ``SEQRL_TRACEBACK=1``, let it through with its traceback."""
    if os.environ.get("SEQRL_TRACEBACK", "0") != "0":
        yield
        return
    threading.excepthook = _leave_to_caller
    try:
        yield
    except Exception as error:  # of whatever kind
        if (refusal := refusal_in(error)) is not None:
            fail(" ".join(str(refusal).split()))
        message = " ".join(str(error).split())
        if isinstance(error, RunError):
            fail(message, status=1)
        fail(f"{type(error).__name__}: {message} (SEQRL_TRACEBACK=1 shows where)", status=1)


def refusal_in(error: Exception) -> ConfigurationError | None:
    """Return the refusal of a setting that an error stands for; jsonargparse wraps what the classes raise it builds."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigurationError):
            return cause
        cause = cause.__cause__
    if isinstance(error, ValueError) and "Does not validate against" in str(error):
        return ConfigurationError(shorten_message(str(error)))
    return None


@contextmanager
def refused_in_a_line(source: str) -> Iterator[None]:
    """Say in one line what settings from a file lead to.

    Raises:
        ConfigurationError: If they can't be used.
    """
    try:
        yield
    except ConfigurationError as error:
        if source in str(error):
            raise
        raise ConfigurationError(f"{source} can't be used: {error}") from error
    except Exception as error:  # whatever a class makes of settings that don't fit it
        raise ConfigurationError(
            f"{source} can't be used: {shorten_message(str(error)) or type(error).__name__}"
        ) from error


def _leave_to_caller(failure: threading.ExceptHookArgs) -> None:
    """Print nothing about a thread that couldn't write a file: whoever gave it something to write gets the error."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Guard imports of packages that only an extra installs.

    Args:
        extra: Name of the extra in pyproject.toml.

    Raises:
        ConfigurationError: If one of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        command = f'pip install -c constraints.txt -e ".[{extra}]"'
        raise ConfigurationError(f"this needs {error.name}, which the extra `{extra}` installs: {command}") from error
