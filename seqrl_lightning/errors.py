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


def essential(message: str) -> str:
    """What a parser's message comes down to: the setting's name and what is wrong with it."""
    key = ".".join(_KEY.findall(message))
    lines = [line for line in _KEY.sub("", message).splitlines() if not _NESTING.fullmatch(line)]
    reason = " ".join(" ".join(lines).split()).removeprefix("- ")
    reason = _CALLABLE.sub("", reason).split(". Got value: Namespace(")[0]
    if unknown := re.fullmatch(r"Option '(\w+)' is not accepted", reason):
        setting = f"{key}.{unknown[1]}"
        return f"{setting} is not a setting{_OF_OTHER_LEARNERS.get(setting, '')}"
    return f"{key}: {reason}" if key else reason


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the program with one line."""
    sys.stderr.write(f"seqrl: error: {message}\n")
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
