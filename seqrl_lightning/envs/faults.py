"""Errors of environments: values that Gymnasium's API doesn't allow, and faults, which name the environment."""

import warnings
from typing import Protocol

from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import one_line


class EnvValueError(ValueError):
    """A value of an environment that Gymnasium's API doesn't allow. The message is one line.

    Args:
        message: The field, its value, and the values that are allowed.
        env: Number of the environment among several; None if it isn't known.
    """

    def __init__(self, message: str, env: int | None = None) -> None:
        super().__init__(message)
        self.env = env


class EnvFault(Exception):
    """A fault of an environment.

    Args:
        env: Number of the environment; None if it isn't known.
        reason: The cause, in one line.
    """

    def __init__(self, env: int | None, reason: str) -> None:
        super().__init__(reason)
        self.env = env
        self.reason = reason


def exit_refused(error: SystemExit) -> EnvValueError:
    """Return the error for an attempt to end the program: an environment's ``sys.exit()`` isn't the end of a run.

    Raises:
        EndedBySignal: If it isn't the environment's attempt, but a signal.
    """
    if isinstance(error, EndedBySignal):
        raise error
    return EnvValueError(f"it called sys.exit({error.code!r})")


class Closable(Protocol):
    """An environment, or several."""

    def close(self) -> None:
        """Close it."""


def close_quietly(envs: Closable) -> None:
    """Close environments, and turn their errors into warnings: nothing depends on the environments any more."""
    try:
        envs.close()
    except EndedBySignal:
        raise
    except (Exception, SystemExit) as error:
        warnings.warn(f"closing an environment failed: {error!r}", stacklevel=2)


def short(value: object) -> str:
    """Return a value as an error shows it."""
    text = one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
