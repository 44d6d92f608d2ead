"""A command of ``seqrl`` that runs on its own, and the interface for running it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from seqrl_lightning.launched import ERROR, finds_modules_in_the_current_folder

SEQRL = (sys.executable, *(() if finds_modules_in_the_current_folder(sys.path) else ("-P",)), "-m", "seqrl_lightning")
"""The command that starts a job's process, which finds the same modules as this one."""

STARTING = "starting"
"""The progress of a job that hasn't reported any."""

_TAIL_BYTES = 4096


class Job:
    """A command of ``seqrl``.

    Args:
        name: Its name in progress reports, like ``seed 3``.
        arguments: The arguments of ``seqrl``.
        log: The file for its output. While it runs, a file beside it holds its progress. Another file there stops it
            where signals can't reach it.

    Attributes:
        status: The exit status, negative after a signal; None before the job has ended.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.arguments = list(arguments)
        self.log = log
        self.report = log.with_name(f"{log.stem}.progress")
        self.stop = log.with_name(f"{log.stem}.stop")
        self.status: int | None = None
        self._last_report = ""

    def begin(self) -> None:
        """Prepare the folder for the job's files, before it runs."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.report.unlink(missing_ok=True)
        self.stop.unlink(missing_ok=True)

    def resume(self) -> None:
        """Change the arguments, if need be, so that it continues where it was interrupted."""

    def end(self, status: int) -> None:
        """Record the exit status, and keep the last report, after it has run."""
        self.status = status
        _ = self.progress
        self.report.unlink(missing_ok=True)
        self.stop.unlink(missing_ok=True)

    @property
    def progress(self) -> str:
        """Its last report: its progress, or the reason for its end."""
        if self.report.exists():
            written = self.report.read_text(encoding="utf-8", errors="replace")
            self._last_report = written or self._last_report  # it may just be written
        return self._last_report or STARTING

    @property
    def reason(self) -> str:
        """The reason for its failure: its own message, or the last lines that it printed."""
        if self.progress.startswith(ERROR):
            return self.progress.removeprefix(ERROR)
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").replace("\r", "\n").splitlines()
        return " | ".join([line.strip() for line in lines if line.strip()][-3:])


class Launcher(Protocol):
    """The interface for running jobs in processes of this machine or on a cluster."""

    def run(self, jobs: Sequence[Job]) -> int:
        """Run all jobs to their ends, and show their progress.

        Returns:
            The signal that ended them early, or 0.
        """
