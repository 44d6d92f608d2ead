"""Jobs side by side, some at a time: their lines on the screen, and the signals that end them."""

import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from tqdm import tqdm

from seqrl_lightning.launch.job import Job

_SECONDS_BETWEEN_LOOKS = 0.2
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Running(ABC):
    """A job that was started somewhere.

    Args:
        job: The job.

    Attributes:
        is_interrupted: Whether it was told to end early.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_interrupted = False

    @abstractmethod
    def send(self, signum: int) -> None:
        """Ask the job to save and end; at the second call, end it at once."""

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether the job is over; if so, set its status."""

    @property
    def progress(self) -> str:
        """The progress of the job."""
        return self.job.progress

    def outcome(self) -> str:
        """Describe in one line how the job ended."""
        status, job = self.job.status, self.job
        if not status:
            return f"{job.name}: {job.progress}"
        if self.is_interrupted:
            return f"{job.name}: interrupted: {job.progress}"
        return f"{job.name}: failed: {f'killed by {signal.Signals(-status).name}' if status < 0 else job.reason}"


def run_side_by_side(jobs: Sequence[Job], at_once: int, start: Callable[[Job], Running]) -> int:
    """Run all jobs, in their order, and show their progress.

    Args:
        jobs: The jobs.
        at_once: The number that runs at a time.
        start: Starts a job.

    Returns:
        The signal that ended them early, or 0.
    """
    waiting, running = list(jobs), dict[Running, int]()  # with their lines
    with _Screen(len(jobs), at_once) as screen, _forwarding_signals(running) as received:
        while running or (waiting and not received):
            while waiting and len(running) < at_once and not received:
                started = start(waiting.pop(0))
                running[started] = screen.take_line()
                if received:  # a signal that came before it was known
                    started.send(received[-1])
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for one, line in list(running.items()):
                if one.has_ended():
                    del running[one]
                    screen.give_back(line, one.outcome())
                else:
                    screen.show(line, f"{one.job.name}: {one.progress}")
    return received[0] if received else 0


class _Screen:
    """Lines on a terminal: one for each running job, which is updated in place, below those of finished jobs."""

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
        """Return a line that no job uses."""
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
def _forwarding_signals(running: Iterable[Running]) -> Iterator[list[int]]:
    """Forward signals to all jobs: the first Ctrl-C lets them save, the second ends them at once.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for one in list(running):
            one.send(signal.SIGTERM if signum == signal.SIGHUP else signum)

    before = {signum: signal.signal(signum, forward) for signum in _ENDING_SIGNALS}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
