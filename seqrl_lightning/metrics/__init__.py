"""torchmetrics of what the agent does."""

from seqrl_lightning.metrics.choices import (
    Completion,
    ErrorShares,
    PositionAccuracy,
    PositionConfusion,
    SwapInference,
    TrialsToCriterion,
)
from seqrl_lightning.metrics.episodes import EpisodeStatistics

__all__ = [
    "Completion",
    "EpisodeStatistics",
    "ErrorShares",
    "PositionAccuracy",
    "PositionConfusion",
    "SwapInference",
    "TrialsToCriterion",
]
