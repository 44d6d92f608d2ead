"""seqrl/DelayedRecall-v0: a cue, distractors, and then the question which symbol the cue was."""

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
from seqrl_lightning.types import FloatArray


class DelayedRecall(SymbolTask):
    """A cue at the first step, ``delay`` steps of distractors, then the answer.

    - Observation at step 0: the cue, a symbol drawn uniformly, one-hot ``[num_symbols]``, and the go flag, 0.
    - Observation at steps 1 to ``delay``: a distractor, drawn uniformly from the same symbols, and the go flag, 0. Only
      that it comes first tells the cue from them.
    - Observation at step ``delay + 1``: no symbol (zeros), and the go flag, 1. The action names the cue: reward 1 if it
      is right, else -1, and the episode terminates. Before, actions earn 0 and change nothing.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`); both are
      zeros throughout, since only the last action counts.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        num_symbols: How many symbols there are.
        delay: Steps between cue and answer.

    Raises:
        ConfigurationError: If there are fewer than 2 symbols, or ``delay`` is negative.
    """

    optimal_return = 1.0
    reward_right, reward_wrong = 1.0, -1.0

    def __init__(self, num_symbols: int = 4, delay: int = 10) -> None:
        check_count("num_symbols", num_symbols, at_least=2)
        check_count("delay", delay, at_least=0)
        self.num_symbols = num_symbols
        self.size = num_symbols + 1
        self.length = delay + 2

    def draw(self, rng: np.random.Generator) -> Script:
        """Draws cue and distractors."""
        symbols = random_symbols(rng, self.num_symbols, self.length - 1)
        shown = np.zeros((self.length, self.size), np.float32)
        shown[:-1] = one_hot(symbols, self.size)
        shown[-1, -1] = 1.0  # go
        correct = np.full(self.length, -1)
        correct[-1] = symbols[0]
        return Script(shown, correct)

    def in_words(self, shown: FloatArray, letters: str) -> str:
        """The symbol and the go flag."""
        return f"{super().in_words(shown, letters)}, {'go' if shown[-1] else 'wait'}"


class DelayedRecallEnv(SymbolEnv):
    """One environment of :class:`DelayedRecall`."""

    task_class = DelayedRecall


class DelayedRecallVectorEnv(SymbolVectorEnv):
    """Its vectorised twin."""

    task_class = DelayedRecall
