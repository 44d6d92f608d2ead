"""seqrl/MemoryChain-v0: the first step's context decides the right action many steps later."""

import numpy as np

from seqrl_lightning.envs.symbols import Script, SymbolEnv, SymbolTask, SymbolVectorEnv, check_count
from seqrl_lightning.types import FloatArray


class MemoryChain(SymbolTask):
    """The memory-length test (bsuite's ``memory_len``, arXiv:1908.03568): nothing but time between cue and answer.

    - Observation at step 0: the context, drawn uniformly, one-hot ``[num_symbols]``, and the time, 0.
    - Observation at step t from 1 to ``memory_length``: no context (zeros), and the time, t / memory_length.
    - The action at step ``memory_length`` names the context: reward 1 if it is right, else -1, and the episode
      terminates. Before, actions earn 0 and change nothing.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`); both are
      zeros throughout, since only the last action counts.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        memory_length: Steps between context and answer.
        num_symbols: How many contexts there are.

    Raises:
        ConfigurationError: If ``memory_length`` isn't positive, or there are fewer than 2 contexts.
    """

    optimal_return = 1.0
    reward_right, reward_wrong = 1.0, -1.0

    def __init__(self, memory_length: int = 30, num_symbols: int = 2) -> None:
        check_count("memory_length", memory_length)
        check_count("num_symbols", num_symbols, at_least=2)
        self.num_symbols = num_symbols
        self.size = num_symbols + 1
        self.length = memory_length + 1

    def draw(self, rng: np.random.Generator) -> Script:
        """Draws the context."""
        context = int(rng.integers(self.num_symbols))
        shown = np.zeros((self.length, self.size), np.float32)
        shown[0, context] = 1.0
        shown[:, -1] = np.linspace(0.0, 1.0, self.length)
        correct = np.full(self.length, -1)
        correct[-1] = context
        return Script(shown, correct)

    def in_words(self, shown: FloatArray, letters: str) -> str:
        """The context and the time."""
        return f"{super().in_words(shown, letters)}, time {shown[-1]:.3g}"


class MemoryChainEnv(SymbolEnv):
    """One environment of :class:`MemoryChain`."""

    task_class = MemoryChain


class MemoryChainVectorEnv(SymbolVectorEnv):
    """Its vectorised twin."""

    task_class = MemoryChain
