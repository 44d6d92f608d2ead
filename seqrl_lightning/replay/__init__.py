"""Replay: one ring of whole columns, samplers that are index arithmetic over it, and a dataset that yields batches."""

from seqrl_lightning.replay.dataset import ReplayDataset
from seqrl_lightning.replay.priorities import write_priorities
from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.rollouts import RolloutSampler
from seqrl_lightning.replay.samplers import LatestSampler, PrioritizedSampler, Sampler, UniformSampler
from seqrl_lightning.replay.sequences import SequenceSampler

__all__ = [
    "LatestSampler",
    "PrioritizedSampler",
    "ReplayDataset",
    "RingBuffer",
    "RolloutSampler",
    "Sampler",
    "SequenceSampler",
    "UniformSampler",
    "write_priorities",
]
