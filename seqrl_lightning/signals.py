"""Signals that end the program: at any moment, with one line and the exit status that shells expect."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class EndedBySignal(SystemExit):
    """A signal ends the program, and it was told. It passes through everything that handles only errors."""


class Terminated(EndedBySignal):
    """SIGTERM has come, of which the program's last line is still to tell."""


def end_program_at_once() -> None:
    """Let the first signal end the program, which has only begun: nothing has to be put in order yet."""
    for signum in ENDING_SIGNALS:
        signal.signal(signum, _exit)


def _exit(signum: int, frame: FrameType | None) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _line(signum).encode())
    os._exit(128 + signum)


@contextmanager
def signals_end_in_a_line() -> Iterator[None]:
    """Leave the context with an exception and the program with one line when a signal comes, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(_line(signal.SIGINT))
        sys.exit(128 + signal.SIGINT)
    except Terminated:
        sys.stderr.write(_line(signal.SIGTERM))
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated(128 + signum)


def _line(signum: int) -> str:
    return f"seqrl: ended by {_NAMES[signal.Signals(signum)]}\n"
