"""Random streams of the package's own: seeded from the run's seed, never drawn from the global ones."""

import os
import zlib

import numpy as np

SEED = "PL_GLOBAL_SEED"
"""The environment variable in which Lightning's ``seed_everything`` leaves the run's seed."""


def random_stream(role: str, rank: int = 0) -> np.random.Generator:
    """Return a random stream of its own for a role and a process.

    Args:
        role: Who draws from it, like ``agent``.
        rank: The process.

    Returns:
        A generator seeded with the run's seed (``--seed_everything``), or afresh if there is none.
    """
    seed = os.environ.get(SEED)
    entropy = [int(seed), rank, zlib.crc32(role.encode())] if seed else None
    return np.random.default_rng(np.random.SeedSequence(entropy))
