"""Jobs in processes of this machine."""

import os
import subprocess
import sys
from collections.abc import Sequence

from seqrl_lightning.launch import job as jobs_of
from seqrl_lightning.launch.job import Job
from seqrl_lightning.launch.side_by_side import Running, run_side_by_side
from seqrl_lightning.launched import ENDS_WITH_PARENT, REPORT_TO
from seqrl_lightning.types import require


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
        return run_side_by_side(jobs, self.at_once, _Process)


class _Process(Running):
    """A job's process, out of reach of a Ctrl-C at the terminal."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        job.begin()
        self._process = start_process(job, jobs_of.SEQRL, start_new_session=True)

    def send(self, signum: int) -> None:
        if self._process.poll() is None:
            self.is_interrupted = True
            self._process.send_signal(signum)

    def has_ended(self) -> bool:
        status = self._process.poll()
        if status is not None:
            self.job.end(status)
        return status is not None


def start_process(job: Job, command: Sequence[str], start_new_session: bool) -> "subprocess.Popen[bytes]":
    """Start the process of a job that has begun; it ends with this one, however that ends.

    Args:
        job: The job.
        command: The command that its arguments are given to.
        start_new_session: Whether the terminal's signals don't reach it.
    """
    with job.log.open("wb") as log:
        return subprocess.Popen(
            [*command, *job.arguments],
            stdin=subprocess.PIPE,  # never written to: it is closed when this process ends
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=start_new_session,
            env=os.environ | {ENDS_WITH_PARENT: "1", REPORT_TO: str(job.report.absolute())},
        )
