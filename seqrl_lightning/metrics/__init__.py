"""torchmetrics of what the agent does."""

from seqrl_lightning.metrics.episodes import EpisodeStatistics

__all__ = ["EpisodeStatistics"]
