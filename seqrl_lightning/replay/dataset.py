"""The dataset between the replay memory and the DataLoader."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset

from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.samplers import Sampler
from seqrl_lightning.types import TransitionBatch


class ReplayDataset(IterableDataset[TransitionBatch]):
    """Yields ``batches_per_epoch`` whole batches an epoch, each drawn from the ring at the moment it is asked for.

    It has a length: without one Lightning would fetch a batch ahead, and sample it before the step it comes after.

    Args:
        ring: The replay memory; not empty when the first batch is asked for.
        sampler: Picks the transitions of a batch.
        batch_size: Transitions in a batch.
        batches_per_epoch: Batches in an epoch.
        rng: The sampler's own random stream.
        epsilon: Tells the behaviour policy's epsilon, for algorithms that learn about it; None leaves it out.
    """

    def __init__(
        self,
        ring: RingBuffer,
        sampler: Sampler,
        batch_size: int,
        batches_per_epoch: int,
        rng: np.random.Generator,
        epsilon: Callable[[], float] | None = None,
    ) -> None:
        self.ring = ring
        self.sampler = sampler
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.rng = rng
        self.epsilon = epsilon

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[TransitionBatch]:
        for _ in range(self.batches_per_epoch):
            batch = self.sampler(self.ring, self.batch_size, self.rng)
            if self.epsilon is not None:
                epsilon_batch = torch.full_like(batch.action_batch, self.epsilon(), dtype=torch.float32)
                batch = batch._replace(epsilon_batch=epsilon_batch)
            yield batch
