"""seqrl/Chunks-v0: short fixed sequences, cued only at their starts."""

from collections.abc import Sequence

import numpy as np

from seqrl_lightning.envs.symbols import Script, SymbolEnv, SymbolTask, SymbolVectorEnv
from seqrl_lightning.types import FloatArray, require


class Chunks(SymbolTask):
    """Every chunk once in an episode, in an order drawn at its start; only a chunk's first step says which it is.

    - Observation at a chunk's first step: which chunk it is, one-hot ``[chunks]``; zeros at its other steps.
    - Action k produces symbol k: reward 1 if it is the chunk's next one, else 0. An error doesn't stop the chunk.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - The episode terminates after the last chunk.
    - Optimal return: the number of symbols in all chunks, 12 for the default. The chunks share their symbols, so that
      the last action doesn't tell the next: who acts on the cue, or else on the last action alone, gets 8 at most.

    Args:
        chunks: The chunks, as rows of letters of the same length.

    Raises:
        ConfigurationError: If there are fewer than two chunks, or they aren't of the same length.
    """

    reward_right, reward_wrong = 1.0, 0.0

    def __init__(self, chunks: Sequence[str] = ("ABC", "BAC", "CDB", "DCB")) -> None:
        would_do = "at least two chunks of letters, all of the same length"
        fits = len(chunks) > 1 and len(set(map(len, chunks))) == 1 and len(chunks[0]) > 0
        require(fits, "data.env_kwargs.chunks", chunks, would_do)
        symbols = sorted(set("".join(chunks)))
        self.num_symbols = max(len(symbols), 2)
        self.size = len(chunks)
        self.chunks = np.array([[symbols.index(letter) for letter in chunk] for chunk in chunks])  # [chunks, length]
        self.length = self.chunks.size
        self.optimal_return = float(self.length)

    def draw(self, rng: np.random.Generator) -> Script:
        """Draws the order of the chunks."""
        order = rng.permutation(len(self.chunks))
        shown = np.zeros((*self.chunks.shape, self.size), np.float32)
        shown[np.arange(len(order)), 0, order] = 1.0
        return Script(shown.reshape(self.length, self.size), self.chunks[order].ravel())

    def in_words(self, shown: FloatArray, letters: str) -> str:
        """Which chunk starts."""
        return f"chunk {int(shown.argmax()) + 1} starts" if shown.any() else "no cue"


class ChunksEnv(SymbolEnv):
    """One environment of :class:`Chunks`."""

    task_class = Chunks


class ChunksVectorEnv(SymbolVectorEnv):
    """Its vectorised twin."""

    task_class = Chunks
