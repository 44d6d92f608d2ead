"""The dataset between the replay memory and the DataLoader."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset

from seqrl_lightning.batches import Batch, Transitions
from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.replay.samplers import Sampler
from seqrl_lightning.types import ConfigurationError, Progress


class ReplayDataset(IterableDataset[Batch]):
    """An iterable of batches, each drawn from the replay memory when the loader asks for it.

    The dataset has a length: without one, Lightning would prefetch each batch, drawing it before the training step
    that precedes it.

    Args:
        ring: The replay memory; not empty when the first batch is drawn.
        sampler: Draws the batches.
        batch_size: Number of transitions, or of windows, in a batch.
        batches_per_epoch: Number of batches in an epoch.
        rng: The sampler's own random stream.
        progress: How far training is, as the agent writes it.
        next_actions: Whether batches hold the actions taken in the next states.
        epsilon: Whether batches hold the behavior policy's current epsilon.
        before_batch: Called before each batch is drawn.
    """

    def __init__(
        self,
        ring: RingBuffer,
        sampler: Sampler,
        batch_size: int,
        batches_per_epoch: int,
        rng: np.random.Generator,
        progress: Progress,
        next_actions: bool = False,
        epsilon: bool = False,
        before_batch: Callable[[], object] = lambda: None,
    ) -> None:
        self.ring = ring
        self.sampler = sampler
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.rng = rng
        self.progress = progress
        self.next_actions = next_actions
        self.epsilon = epsilon
        self.before_batch = before_batch

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        """Draw the batches of an epoch.

        Raises:
            ConfigurationError: If the replay memory doesn't hold enough transitions for a batch.
        """
        if not self.ring.num_slots:
            raise ConfigurationError(
                "trainer.callbacks has no AgentCallback; it must have one, to fill the replay memory"
            )
        if self.next_actions and self.ring.num_full_rows < 2:
            must_be = f"more than data.num_envs = {self.ring.num_envs}"
            raise ConfigurationError(f"agent.warmup_env_steps ends before a next action is known; it must be {must_be}")
        for _ in range(self.batches_per_epoch):
            self.before_batch()
            batch = self.sampler(
                self.ring,
                self.batch_size,
                self.rng,
                env_steps=self.progress.env_steps,
                next_actions=self.next_actions,
            )
            if isinstance(batch, Transitions) and (size := batch.action_batch.shape[1]) < self.batch_size:
                raise ConfigurationError(
                    f"agent.warmup_env_steps ends with {size} transitions to learn from; it must leave "
                    f"data.batch_size * model.updates_per_step = {self.batch_size} for {type(self.sampler).__name__}"
                )
            if self.epsilon:
                epsilon_batch = torch.full_like(batch.action_batch, self.progress.epsilon, dtype=torch.float32)
                batch = batch._replace(epsilon_batch=epsilon_batch)
            yield batch
