"""Launching: commands of ``seqrl`` in processes of their own, side by side, here or on a cluster."""

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.launch.cluster import Submitit
from seqrl_lightning.launch.fit_run import FitRun
from seqrl_lightning.launch.job import Job, Launcher
from seqrl_lightning.launch.local import LocalProcesses
from seqrl_lightning.launch.ray_tasks import RayTasks
from seqrl_lightning.types import require

__all__ = ["FitRun", "Job", "Launcher", "LocalProcesses", "RayTasks", "Submitit", "add_launcher", "launcher_of"]


def add_launcher(parser: ArgumentParser) -> None:
    """Add the options that choose where jobs run."""
    where = "`local` for processes of this machine, `submitit` for jobs of a SLURM cluster, `ray` for Ray's"
    parser.add_argument("--launcher", choices=("local", "submitit", "ray"), default="local", help=where)
    parser.add_argument("--submitit", type=dict, metavar="PARAMETERS", help='like \'{"slurm_partition": "gpu"}\'')
    parser.add_argument("--ray", type=dict, metavar="PARAMETERS", help='like \'{"address": "auto", "num_gpus": 1}\'')


def launcher_of(arguments: Namespace) -> Launcher:
    """Return the launcher that a command's options choose.

    Raises:
        ConfigurationError: If it can't work.
    """
    for name in ("submitit", "ray"):
        given = arguments[name]
        fits = given is None or arguments.launcher == name
        require(fits, f"--{name}", given, f"left out without --launcher {name}")
    if arguments.launcher == "submitit":
        return Submitit(arguments.jobs, arguments.submitit or {})
    if arguments.launcher == "ray":
        return RayTasks(arguments.jobs, arguments.ray or {})
    return LocalProcesses(arguments.jobs)
