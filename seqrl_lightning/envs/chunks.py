"""seqrl/Chunks-v0: short fixed sequences, cued only at their starts."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray, require


class ChunksEnv(SymbolEnv):
    """Produce fixed chunks of symbols, each once, in random order; a cue names each chunk at its first step only.

    - Observation at a chunk's first step: the chunk, one-hot ``[chunks]``. At its other steps: zeros. Then, by default,
      the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - Actions: one for each symbol. Action k produces symbol k.
    - Rewards: 1 for the next symbol of the chunk, 0 for any other. An error doesn't stop the chunk.
    - Starting state: the order of the chunks is drawn uniformly.
    - Episode end: the episode terminates after the last chunk.
    - Optimal return: the number of symbols in all chunks, 12 for the default. The chunks share their symbols, so that
      the last action doesn't tell the next. A policy that acts on the cue, or else on the last action alone, gets 8 at
      most.

    Args:
        chunks: The chunks, as rows of letters of the same length.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If there are fewer than two chunks, or they aren't of the same length.
    """

    def __init__(
        self,
        chunks: Sequence[str] = ("ABC", "BAC", "CDB", "DCB"),
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        allowed = "at least two chunks of letters, all of the same length"
        fits = len(chunks) > 1 and len(set(map(len, chunks))) == 1 and len(chunks[0]) > 0
        require(fits, "data.env_kwargs.chunks", chunks, allowed)
        symbols = sorted(set("".join(chunks)))
        self.chunks = np.array([[symbols.index(letter) for letter in chunk] for chunk in chunks])  # [chunks, length]
        length = self.chunks.size
        self.optimal_return = float(length)
        super().__init__(max(len(symbols), 2), length, 0.0, 1.0, previous_action_reward, render_mode)

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the order of the chunks."""
        order = rng.permutation(len(self.chunks))
        shown = np.zeros((*self.chunks.shape, len(order)), np.float32)
        shown[np.arange(len(order)), 0, order] = 1.0
        return Script(shown.reshape(self.length, len(order)), self.chunks[order].ravel())

    def shown_in_words(self, shown: FloatArray, letters: str) -> str:
        """Describe which chunk starts."""
        return f"chunk {int(shown.argmax()) + 1} starts" if shown.any() else "no cue"


ChunksVectorEnv = vectorized(ChunksEnv)
