"""Jobs as tasks of Ray, on the nodes of its cluster."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from seqrl_lightning.errors import needs_extra
from seqrl_lightning.launch.cluster import Command
from seqrl_lightning.launch.job import Job
from seqrl_lightning.launch.side_by_side import Running, run_side_by_side
from seqrl_lightning.ray_cluster import ray_session
from seqrl_lightning.types import ConfigurationError, one_line, require

_ENDED_BY_SIGTERM = 143


class RayTasks:
    """Run jobs as tasks of Ray, which starts as many of them as it has CPUs and GPUs for.

    All nodes must see the current folder under the same path, and run in the same Python environment. The first Ctrl-C
    or SIGTERM makes jobs save and end, the second ends them at once. If this process is killed, they save and end.

    Args:
        at_once: The number of jobs that are handed to Ray at a time; None for all.
        parameters: ``address`` is ``local`` (the default) to start Ray on this machine, ``auto`` or ``host:port`` for a
            cluster that is running. The others are options of ``ray.remote``, such as ``num_cpus`` and ``num_gpus``.

    Raises:
        ConfigurationError: If Ray isn't installed, or a parameter can't work.
    """

    def __init__(self, at_once: int | None, parameters: Mapping[str, Any]) -> None:
        with needs_extra("ray"):
            import ray
        require(at_once is None or at_once > 0, "--jobs", at_once, "at least 1")
        self.at_once = at_once
        self._address = str(parameters.get("address", "local"))
        options = {name: parameters[name] for name in parameters if name != "address"}
        try:
            self._task = ray.remote(**{"num_cpus": 1, "max_retries": 0, **options})(_run)
        except (TypeError, ValueError) as error:
            must_be = "an address and options of ray.remote"
            raise ConfigurationError(f"--ray is {parameters}; it must be {must_be}: {one_line(error)}") from error

    def run(self, jobs: Sequence[Job]) -> int:
        """Run all jobs; see :class:`Launcher`."""
        with ray_session(self._address, "--ray's address"):
            return run_side_by_side(jobs, self.at_once or max(1, len(jobs)), partial(_Submitted, self._task))


def _run(command: Command) -> int:
    """Run a command on the node that Ray has chosen, unless it was stopped while it waited."""
    return _ENDED_BY_SIGTERM if command.is_stopped else command()


class _Submitted(Running):
    """A job that was handed to Ray."""

    def __init__(self, task: Any, job: Job) -> None:  # Ray has no type for a task
        super().__init__(job)
        job.begin()
        self._answer = task.remote(Command(job))

    def send(self, signum: int) -> None:
        import ray

        if self.is_interrupted:
            ray.cancel(self._answer, force=True)
        self.is_interrupted = True
        self.job.stop.touch()

    def has_ended(self) -> bool:
        import ray

        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        try:
            status = int(ray.get(self._answer))
        except ray.exceptions.RayError as error:
            status = 1
            if not self.job.log.exists():
                self.job.log.write_text(f"{one_line(error)}\n", encoding="utf-8")
        self.job.end(status)
        return True
