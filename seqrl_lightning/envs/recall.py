"""seqrl/Recall-v0: watch symbols, then reproduce them in their order or backwards."""

from typing import Literal

import numpy as np

from seqrl_lightning.envs.symbols import (
    Script,
    SymbolEnv,
    SymbolTask,
    SymbolVectorEnv,
    check_count,
    one_hot,
    random_symbols,
)
from seqrl_lightning.types import FloatArray, require

_ORDERS = ("copy", "reverse")


class Recall(SymbolTask):
    """L symbols to watch, and then to reproduce.

    - Observation at the steps 0 to L - 1: a symbol, drawn uniformly and independently, one-hot ``[num_symbols]``, and
      the phase, 0. Actions earn 0 and change nothing.
    - Observation at the steps L to 2L - 1: no symbol (zeros), and the phase, 1. Action i of them names symbol i
      (``copy``) or symbol L - 1 - i (``reverse``): reward 1/L if it is right, else -1/L. An error doesn't stop the row.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - The episode terminates after 2L steps.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        length: How many symbols are to be reproduced, L.
        order: ``copy`` or ``reverse``.
        num_symbols: How many symbols there are.

    Raises:
        ConfigurationError: If ``length`` isn't positive, there is no such ``order``, or there are fewer than 2 symbols.
    """

    optimal_return = 1.0

    def __init__(self, length: int = 4, order: Literal["copy", "reverse"] = "copy", num_symbols: int = 4) -> None:
        check_count("length", length)
        check_count("num_symbols", num_symbols, at_least=2)
        require(order in _ORDERS, "data.env_kwargs.order", order, f"one of {_ORDERS}")
        self.order = order
        self.num_symbols = num_symbols
        self.size = num_symbols + 1
        self.length = 2 * length
        self.reward_right, self.reward_wrong = 1.0 / length, -1.0 / length

    def draw(self, rng: np.random.Generator) -> Script:
        """Draws the symbols."""
        half = self.length // 2
        symbols = random_symbols(rng, self.num_symbols, half)
        shown = np.zeros((self.length, self.size), np.float32)
        shown[:half] = one_hot(symbols, self.size)
        shown[half:, -1] = 1.0  # the phase
        correct = np.full(self.length, -1)
        correct[half:] = symbols if self.order == "copy" else symbols[::-1]
        return Script(shown, correct)

    def in_words(self, shown: FloatArray, letters: str) -> str:
        """The symbol and the phase."""
        return f"{super().in_words(shown, letters)}, {'reproduce' if shown[-1] else 'watch'}"


class RecallEnv(SymbolEnv):
    """One environment of :class:`Recall`."""

    task_class = Recall


class RecallVectorEnv(SymbolVectorEnv):
    """Its vectorised twin."""

    task_class = Recall
