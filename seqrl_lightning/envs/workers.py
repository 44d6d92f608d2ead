"""Environments in processes of their own, which outlive a signal to all processes of a run: it saves their state."""

import atexit
import multiprocessing
import multiprocessing.util  # its own function at exit, which waits for all workers, is registered by now
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.async_vector_env import _async_worker

from seqrl_lightning.signals import ENDING_SIGNALS


def worker(*args: Any) -> None:  # those of Gymnasium's
    """Run an environment as Gymnasium's own worker does, but leave it to the run when it ends.

    A Ctrl-C at the terminal, or a SIGTERM from a cluster, reaches the run and all of its workers.
    """
    for signum in ENDING_SIGNALS:
        signal.signal(signum, _ignore)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the run has ended
        _async_worker(*args)


def _ignore(signum: int, frame: object) -> None:
    """Do nothing. A handler, unlike ``SIG_IGN``, isn't inherited by programs that an environment starts."""


@contextmanager
def killed_on_error() -> Iterator[None]:
    """Kill all workers if making some of them fails: Gymnasium would ask them to end, and wait."""
    try:
        yield
    except BaseException:
        end_workers()
        raise


def kill_when_closed(envs: AsyncVectorEnv) -> None:
    """Let Gymnasium end the workers of discarded environments by SIGKILL, as they ignore SIGTERM."""
    for process in envs.processes:
        vars(process)["terminate"] = process.kill


@atexit.register  # otherwise Python would ask them to end, too
def end_workers() -> None:
    """Kill the workers of all environments."""
    for process in multiprocessing.active_children():
        if process.name.startswith("Worker<"):  # Gymnasium's name for them
            process.kill()
            process.join()
