"""Datamodules: settings to a replay memory, the loaders over it, and environments to evaluate in."""

from seqrl_lightning.data.logged import LoggedTrials
from seqrl_lightning.data.replay import ReplayDataModule
from seqrl_lightning.data.shared import LearnerDataModule

__all__ = ["LearnerDataModule", "LoggedTrials", "ReplayDataModule"]
