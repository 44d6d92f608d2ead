"""Measures of the agent's behavior, as torchmetrics: each is defined here or in ``functional``, and nowhere else."""

from seqrl_lightning.metrics.choices import (
    Completion,
    ErrorShares,
    PositionAccuracy,
    PositionConfusion,
    SwitchErrors,
)
from seqrl_lightning.metrics.criterion import EpisodesToCriterion
from seqrl_lightning.metrics.episodes import EpisodeStatistics
from seqrl_lightning.metrics.task_facts import TaskFacts

__all__ = [
    "Completion",
    "EpisodeStatistics",
    "EpisodesToCriterion",
    "ErrorShares",
    "PositionAccuracy",
    "PositionConfusion",
    "SwitchErrors",
    "TaskFacts",
]
