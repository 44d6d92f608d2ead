"""seqrl/Recall-v0: watch symbols, then reproduce them in their order or backwards."""

from typing import Literal

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count, one_hot, random_symbols
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import FloatArray

_ORDERS = ("copy", "reverse")


class RecallEnv(SymbolEnv):
    """Watch L symbols, then reproduce them.

    - Observation at steps 0 to L - 1: a symbol, one-hot ``[num_symbols]``, and the phase, 0.
    - Observation at steps L to 2L - 1: no symbol (zeros), and the phase, 1.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - Actions: ``Discrete(num_symbols)``. Action k names symbol k. Until step L - 1, actions earn 0 and change nothing.
    - Rewards: at step L + i, 1/L for naming symbol i (``copy``) or symbol L - 1 - i (``reverse``), -1/L for any other.
      An error doesn't stop the reproduction.
    - Starting state: the symbols are drawn uniformly and independently.
    - Episode end: the episode terminates after 2L steps.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        length: Number of symbols to reproduce, L.
        order: ``copy`` or ``reverse``.
        num_symbols: Number of different symbols.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If ``length`` isn't positive, there is no such ``order``, or there are fewer than 2 symbols.
    """

    optimal_return = 1.0

    def __init__(
        self,
        length: int = 4,
        order: Literal["copy", "reverse"] = "copy",
        num_symbols: int = 4,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_count("length", length)
        check_count("num_symbols", num_symbols, at_least=2)
        require_known("data.env_kwargs.order", order, _ORDERS)
        self.order = order
        reward = 1.0 / length
        super().__init__(num_symbols, 2 * length, -reward, reward, previous_action_reward, render_mode)
        self.memoryless_return = 2 / num_symbols - 1

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the symbols."""
        half = self.length // 2
        symbols = random_symbols(rng, self.num_symbols, half)
        shown = np.zeros((self.length, self.num_symbols + 1), np.float32)
        shown[:half] = one_hot(symbols, self.num_symbols + 1)
        shown[half:, -1] = 1.0  # the phase
        correct = np.full(self.length, -1)
        correct[half:] = symbols if self.order == "copy" else symbols[::-1]
        return Script(shown, correct)

    def shown_in_words(self, shown: FloatArray, letters: str) -> str:
        """Describe the symbol and the phase."""
        return f"{super().shown_in_words(shown, letters)}, {'reproduce' if shown[-1] else 'watch'}"


RecallVectorEnv = vectorized(RecallEnv)
