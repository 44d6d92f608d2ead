"""Jobs on a cluster's nodes, submitted to SLURM by submitit."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from seqrl_lightning.errors import needs_extra
from seqrl_lightning.launch import job as jobs_of
from seqrl_lightning.launch.job import STARTING, Job
from seqrl_lightning.launch.local import start_process
from seqrl_lightning.launch.side_by_side import Running, run_side_by_side
from seqrl_lightning.types import ConfigurationError, one_line, require

if TYPE_CHECKING:
    import submitit

_FOLDER = Path("runs/submitit")  # of submitted commands, and of output from nodes before a job's log begins
_SECONDS_BETWEEN_LOOKS = 0.5


class Submitit:
    """Run jobs on the nodes of a cluster, each as a SLURM job of its own.

    All nodes must see the current folder under the same path, and run in the same Python environment. A job that SLURM
    preempts, or that reaches its time limit, saves, is submitted again, and resumes. The first Ctrl-C or SIGTERM makes
    jobs save and end, the second cancels them. If this process is killed, they continue.

    Args:
        at_once: The number of jobs that are submitted at a time; None for all.
        parameters: Parameters of ``submitit.AutoExecutor``, such as ``timeout_min``, ``cpus_per_task`` and
            ``slurm_partition``; ``cluster`` is ``slurm``, or ``local`` for processes of this machine.

    Raises:
        ConfigurationError: If submitit is not installed, a parameter can't work, or there is no SLURM.
    """

    def __init__(self, at_once: int | None, parameters: Mapping[str, Any]) -> None:
        with needs_extra("slurm"):
            import submitit
        require(at_once is None or at_once > 0, "--jobs", at_once, "at least 1")
        self.at_once = at_once
        cluster = parameters.get("cluster", "slurm")
        has_slurm = shutil.which("sbatch") is not None
        if cluster == "slurm" and not has_slurm:
            raise ConfigurationError("--launcher is 'submitit'; it must be used where SLURM's `sbatch` is installed")
        try:
            # Results are pickles: a new folder with a random name can't hold anyone else's.
            _FOLDER.mkdir(parents=True, exist_ok=True)
            self._executor = submitit.AutoExecutor(mkdtemp(dir=_FOLDER), cluster=cluster)
            self._executor.update_parameters(**{name: parameters[name] for name in parameters if name != "cluster"})
        except (NameError, TypeError, ValueError, AssertionError) as error:
            must_be = "parameters of submitit.AutoExecutor"
            raise ConfigurationError(f"--submitit is {parameters}; it must be {must_be}: {one_line(error)}") from error

    def run(self, jobs: Sequence[Job]) -> int:
        """Run all jobs; see :class:`Launcher`."""
        return run_side_by_side(jobs, self.at_once or max(1, len(jobs)), partial(_Submitted, self._executor))


class Command:
    """A job's command, as a node runs it; submitit or Ray sends it there.

    Args:
        job: The job, which has begun.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.command = tuple(jobs_of.SEQRL)  # of the submitting process; on the node, it is submitit's
        self.folder = Path.cwd()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the job was told to stop."""
        return (self.folder / self.job.stop).exists()

    def __call__(self) -> int:
        """Run the command.

        Returns:
            Its exit status.
        """
        os.chdir(self.folder)
        self._process = start_process(self.job, self.command, start_new_session=False)
        while (status := self._process.poll()) is None:
            if self.is_stopped:
                self._process.send_signal(signal.SIGTERM)
                return self._process.wait()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return status

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Save before the node is taken away. Returns the command that resumes; submitit submits it."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None
        was_stopped = self.is_stopped
        self.job.resume()
        self.job.begin()
        if was_stopped:  # by the user: a job that is submitted again ends at once
            self.job.stop.touch()
        return DelayedSubmission(self)


class _Submitted(Running):
    """A job that was submitted."""

    def __init__(self, executor: "submitit.AutoExecutor", job: Job) -> None:
        super().__init__(job)
        job.begin()
        self._submitted = executor.submit(Command(job))

    def send(self, signum: int) -> None:
        is_waiting = self._submitted.state == "PENDING"  # perhaps for hours, with nothing to save
        if self.is_interrupted or is_waiting:
            self._submitted.cancel(check=False)
        self.is_interrupted = True
        self.job.stop.touch()

    def has_ended(self) -> bool:
        if not self._submitted.done():
            return False
        try:
            status = int(self._submitted.result())
        except Exception as error:  # of submitit or of the node, in its words
            status = 1
            if not self.job.log.exists():
                self.job.log.write_text(f"{one_line(error)}\n", encoding="utf-8")
        self.job.end(status)
        return True

    @property
    def progress(self) -> str:
        """The progress of the job or, before it begins, its state in the queue."""
        progress = self.job.progress
        return str(self._submitted.state).lower() if progress == STARTING else progress
