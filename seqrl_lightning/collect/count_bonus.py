"""A bonus that falls with the number of times that an observation was seen."""

from typing import Any

import numpy as np
import torch

from seqrl_lightning.collect.bonus import ExplorationBonus
from seqrl_lightning.envs.state import plain
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.saved_state import require_saved, saved_tensor
from seqrl_lightning.types import Array, FloatArray, IntArray, require


class CountBonus(ExplorationBonus):
    """``scale / sqrt(N)`` for reaching an observation for the Nth time (Strehl and Littman, 2008; arXiv:1606.01868).

    For discrete states: one-hot vectors, gridworlds, small pictures. Each different observation is counted, in a table
    of 2^20 places that it is hashed to. Continuous observations are refused, since no two of them are alike.

    Args:
        scale: Size of the bonus at the first visit, in units of the reward.

    Attributes:
        counts: [2^20] int64, visits of each place.

    Raises:
        ConfigurationError: If ``scale`` isn't positive.
    """

    counts: IntArray

    _NUM_BITS = 20

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__(scale)

    def begin(self, obs_shape: tuple[int, ...], obs_dtype: str, rng: np.random.Generator) -> None:
        """Begin with empty counts."""
        self.counts = np.zeros(2**self._NUM_BITS, np.int64)
        self._layout = obs_shape if isinstance(obs_shape, PackedShape) else None
        num_bytes = int(np.prod(obs_shape)) * np.dtype(obs_dtype).itemsize
        # Odd factors, the same in each run: which observations share a place isn't a matter of the seed.
        self._factors = np.random.default_rng(0).integers(2**63, size=num_bytes, dtype=np.uint64) * 2 + 1

    def novelty(self, observation: Array) -> FloatArray:
        """Count ``[N, *obs]`` observations. Return ``1 / sqrt(count)``, [N] float64.

        Raises:
            ConfigurationError: If an observation isn't made of whole numbers.
        """
        self._require_whole_numbers(observation)
        places = self._places(observation)
        np.add.at(self.counts, places, 1)
        novelty: FloatArray = 1.0 / np.sqrt(self.counts[places])
        return novelty

    def _require_whole_numbers(self, observation: Array) -> None:
        parts = [observation] if self._layout is None else list(self._layout.unpack(observation).values())
        is_whole = all(part.dtype.kind in "iub" or bool((part == np.floor(part)).all()) for part in parts)
        must_be = "RND: the observations aren't made of whole numbers, so that hardly any two are alike"
        require(is_whole, "agent.exploration_bonus", type(self).__name__, must_be)

    def _places(self, observation: Array) -> IntArray:
        """Return the place of each observation in the table: multiply-shift hashing of its bytes, [N] int64."""
        numbers = np.ascontiguousarray(observation) + 0  # -0.0 and 0.0 are the same number of different bytes
        row_bytes = numbers.reshape(len(numbers), -1).view(np.uint8)
        return ((row_bytes @ self._factors) >> np.uint64(64 - self._NUM_BITS)).astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        """Return the places that were visited, and their counts."""
        places = np.flatnonzero(self.counts)
        return {"places": plain(places), "counts": plain(self.counts[places])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned.

        Raises:
            StateError: If it isn't that of such a table.
        """
        places = saved_tensor(state_dict.get("places"), (None,), torch.int64, "the places that the bonus counts")
        counts = saved_tensor(state_dict.get("counts"), (len(places),), torch.int64, "the bonus's counts")
        in_table = bool(((places >= 0) & (places < len(self.counts))).all())
        require_saved(in_table, "a place that the bonus counts", places, f"below {len(self.counts)}")
        self.counts[:] = 0
        self.counts[places.numpy()] = counts.numpy()
