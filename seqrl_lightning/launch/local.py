"""Jobs in processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from seqrl_lightning.launch import job as jobs_of
from seqrl_lightning.launch.job import Job
from seqrl_lightning.launched import ENDS_WITH_PARENT, REPORT_TO
from seqrl_lightning.types import require

_SECONDS_BETWEEN_LOOKS = 0.2
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _num_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class LocalProcesses:
    """Run jobs in processes of this machine, some at a time.

    The first Ctrl-C or SIGTERM is passed on, so that running jobs save and end, and no other begins. If this process is
    killed, they save and end as well.

    Args:
        at_once: The number of processes at a time; None for one for each CPU.

    Raises:
        ConfigurationError: If it isn't positive.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self.at_once = _num_cpus() if at_once is None else at_once
        require(self.at_once > 0, "--jobs", self.at_once, "at least 1")

    def run(self, jobs: Sequence[Job]) -> int:
        """Run all jobs; see :class:`Launcher`."""
        waiting, running = list(jobs), list[_Running]()
        with _Screen(len(jobs), self.at_once) as screen, _forwarding_signals(running) as received:
            while running or (waiting and not received):
                while waiting and len(running) < self.at_once and not received:
                    running.append(_Running(waiting.pop(0), screen.take_line()))
                    if received:  # a signal that came before the process was known
                        running[-1].send(received[-1])
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for process in list(running):
                    if process.has_ended():
                        running.remove(process)
                        screen.give_back(process.line, process.outcome())
                    else:
                        screen.show(process.line, f"{process.job.name}: {process.job.progress}")
        return received[0] if received else 0


class _Running:
    """A job's process, out of reach of a Ctrl-C at the terminal."""

    def __init__(self, job: Job, line: int) -> None:
        self.job = job
        self.line = line  # of the screen
        self._is_interrupted = False
        job.begin()
        with job.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*jobs_of.SEQRL, *job.arguments],
                stdin=subprocess.PIPE,  # never written to: it ends with this process, however that ends
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {ENDS_WITH_PARENT: "1", REPORT_TO: str(job.report.absolute())},
            )

    def send(self, signum: int) -> None:
        """Send it a signal, if it is still at work."""
        if self._process.poll() is None:
            self._is_interrupted = True
            self._process.send_signal(signum)

    def has_ended(self) -> bool:
        """Whether the process has ended; the job is told its status."""
        status = self._process.poll()
        if status is not None:
            self.job.end(status)
        return status is not None

    def outcome(self) -> str:
        """Describe in a line how the job ended."""
        status, job = self.job.status, self.job
        if not status:
            return f"{job.name}: {job.progress}"
        if self._is_interrupted:
            return f"{job.name}: interrupted: {job.progress}"
        return f"{job.name}: failed: {f'killed by {signal.Signals(-status).name}' if status < 0 else job.reason}"


class _Screen:
    """A line for each process on a terminal, which is rewritten, below those of the jobs that have ended."""

    def __init__(self, num_jobs: int, num_lines: int) -> None:
        self._num_jobs, self._num_ended = num_jobs, 0
        num_lines = min(num_jobs, num_lines)
        self._lines: list[tqdm[None]] = [
            tqdm(bar_format="{desc}", position=line, leave=False, file=sys.stdout, disable=None)
            for line in range(num_lines)
        ]
        self._free = list(range(num_lines))

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *exception: object) -> None:
        for line in self._lines:
            line.close()

    def take_line(self) -> int:
        """Return a line that no job has."""
        return self._free.pop(0)

    def give_back(self, line: int, outcome: str) -> None:
        """Print a job's outcome, and free its line."""
        self._num_ended += 1
        self.show(line, "")
        tqdm.write(f"[{self._num_ended}/{self._num_jobs}] {outcome}", sys.stdout)
        sys.stdout.flush()
        self._free.append(line)

    def show(self, line: int, text: str) -> None:
        """Rewrite a line."""
        self._lines[line].set_description_str(text)


@contextmanager
def _forwarding_signals(running: Sequence[_Running]) -> Iterator[list[int]]:
    """Forward signals to all processes: the first Ctrl-C lets them save, the second ends them at once.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for process in list(running):
            process.send(signal.SIGTERM if signum == signal.SIGHUP else signum)

    before = {signum: signal.signal(signum, forward) for signum in _ENDING_SIGNALS}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
