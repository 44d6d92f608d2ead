"""Which transitions make a batch. Samplers hold no data: they pick slots of the ring."""

from abc import ABC, abstractmethod

import numpy as np

from seqrl_lightning.replay.ring import RingBuffer
from seqrl_lightning.types import IntArray


class Sampler(ABC):
    """Picks the slots of a batch."""

    @abstractmethod
    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64: indices of slots that hold transitions of ``ring``, which isn't empty."""


class UniformSampler(Sampler):
    """Every stored transition is equally likely, with replacement (Mnih et al., arXiv:1312.5602, algorithm 1)."""

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64 indices of slots."""
        slots = _random_slots(ring, batch_size, rng)
        # Final observations are drawn like any slot, then drawn again: the cost does not grow with the ring.
        while (redraw := np.flatnonzero(~ring.is_transition(slots))).size:
            slots[redraw] = _random_slots(ring, redraw.size, rng)
        return slots


def _random_slots(ring: RingBuffer, size: int, rng: np.random.Generator) -> IntArray:
    age = rng.random(size)  # `integers` costs several times as much
    age *= ring.num_slots
    return ring.slots(age.astype(np.int64) + 1)


class LatestSampler(Sampler):
    """The newest transitions, the oldest of them first: learning online, without replay."""

    def __call__(self, ring: RingBuffer, batch_size: int, rng: np.random.Generator) -> IntArray:
        """Returns [batch_size] int64 indices of slots."""
        # A final observation is always followed by a transition: two rows for each one that is needed suffice.
        rows = 2 * (-(-batch_size // ring.num_envs)) + 1
        newest_first = ring.slots(np.arange(1, min(rows * ring.num_envs, ring.num_slots) + 1))
        return newest_first[ring.is_transition(newest_first)][:batch_size][::-1].copy()
