"""Launching: commands of ``seqrl`` in processes of their own, side by side."""

from seqrl_lightning.launch.fit_run import FitRun
from seqrl_lightning.launch.job import SEQRL, Job, Launcher
from seqrl_lightning.launch.local import LocalProcesses, num_cpus

__all__ = ["SEQRL", "FitRun", "Job", "Launcher", "LocalProcesses", "num_cpus"]
