"""The side of a program that another one started: it reports how far it is, and ends with the other."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ENDS_WITH_PARENT = "SEQRL_ENDS_WITH_PARENT"
"""The environment variable that makes a program call :func:`end_with_standard_input`."""

REPORT_TO = "SEQRL_REPORT_TO"
"""The environment variable with the file of :func:`report`."""

ERROR = "error: "
"""The beginning of a report on why the program ends."""


def finds_modules_in_the_current_folder(path: Sequence[str]) -> bool:
    """Whether Python looks for modules in the current folder: as ``python -m`` it does, as ``seqrl`` it doesn't.

    Args:
        path: The folders in which it looks, like ``sys.path``.
    """
    return not {"", os.getcwd()}.isdisjoint(path)


def end_with_standard_input() -> None:
    """Send this process SIGTERM when its standard input ends: whoever started it, and holds the other end, is gone."""

    def wait() -> None:
        while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def is_reporting() -> bool:
    """Whether another program reads this one's reports of progress."""
    return REPORT_TO in os.environ


def report(line: str) -> None:
    """Report progress to the program that started this one, if one did. A full disk doesn't end the run here."""
    if is_reporting():
        with suppress(OSError):
            Path(os.environ[REPORT_TO]).write_text(line, encoding="utf-8")
