"""Launching: commands of ``seqrl`` in processes of their own, side by side."""

from seqrl_lightning.launch.fit_run import FitRun
from seqrl_lightning.launch.job import Job, Launcher
from seqrl_lightning.launch.local import LocalProcesses

__all__ = ["FitRun", "Job", "Launcher", "LocalProcesses"]
