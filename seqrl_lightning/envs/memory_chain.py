"""seqrl/MemoryChain-v0: the context of the first step decides the right action many steps later."""

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray


class MemoryChainEnv(SymbolEnv):
    """Remember a context over ``memory_length`` empty steps (bsuite's ``memory_len``, arXiv:1908.03568).

    - Observation at step 0: the context, one-hot ``[num_symbols]``, and the time, 0.
    - Observation at step t from 1 to ``memory_length``: no context (zeros), and the time, t / memory_length.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`); both are
      zeros throughout, since only the last action counts.
    - Actions: ``Discrete(num_symbols)``. Action k names context k. Actions before the last step earn 0 and change
      nothing.
    - Rewards: at step ``memory_length``, 1 for naming the context, -1 for any other.
    - Starting state: the context is drawn uniformly.
    - Episode end: the episode terminates after ``memory_length + 1`` steps.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        memory_length: Number of steps between context and answer.
        num_symbols: Number of contexts.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If ``memory_length`` isn't positive, or there are fewer than 2 contexts.
    """

    optimal_return = 1.0

    def __init__(
        self,
        memory_length: int = 30,
        num_symbols: int = 2,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_count("memory_length", memory_length)
        check_count("num_symbols", num_symbols, at_least=2)
        super().__init__(num_symbols, memory_length + 1, -1.0, 1.0, previous_action_reward, render_mode)
        self.memoryless_return = 2 / num_symbols - 1

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the context."""
        context = int(rng.integers(self.num_symbols))
        shown = np.zeros((self.length, self.num_symbols + 1), np.float32)
        shown[0, context] = 1.0
        shown[:, -1] = np.linspace(0.0, 1.0, self.length)
        correct = np.full(self.length, -1)
        correct[-1] = context
        return Script(shown, correct)

    def shown_in_words(self, shown: FloatArray, letters: str) -> str:
        """Describe the context and the time."""
        return f"{super().shown_in_words(shown, letters)}, time {shown[-1]:.3g}"


MemoryChainVectorEnv = vectorized(MemoryChainEnv)
