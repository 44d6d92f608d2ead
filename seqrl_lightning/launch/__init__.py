"""Launching: commands of ``seqrl`` in processes of their own, side by side, here or on a cluster."""

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.launch.cluster import Submitit
from seqrl_lightning.launch.fit_run import FitRun
from seqrl_lightning.launch.job import Job, Launcher
from seqrl_lightning.launch.local import LocalProcesses
from seqrl_lightning.types import require

__all__ = ["FitRun", "Job", "Launcher", "LocalProcesses", "Submitit", "add_launcher", "launcher_of"]


def add_launcher(parser: ArgumentParser) -> None:
    """Add the options that choose where jobs run."""
    where = "`local` for processes of this machine, `submitit` for jobs of a SLURM cluster"
    parser.add_argument("--launcher", choices=("local", "submitit"), default="local", help=where)
    parser.add_argument("--submitit", type=dict, metavar="PARAMETERS", help='like \'{"slurm_partition": "gpu"}\'')


def launcher_of(arguments: Namespace) -> Launcher:
    """Return the launcher that a command's options choose.

    Raises:
        ConfigurationError: If it can't work.
    """
    if arguments.launcher == "submitit":
        return Submitit(arguments.jobs, arguments.submitit or {})
    require(arguments.submitit is None, "--submitit", arguments.submitit, "left out without --launcher submitit")
    return LocalProcesses(arguments.jobs)
