"""seqrl/DelayedRecall-v0: a cue, distractors, and then the question which symbol the cue was."""

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count, one_hot, random_symbols
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray


class DelayedRecallEnv(SymbolEnv):
    """Remember a cue over ``delay`` steps of distractors, then name it.

    - Observation at step 0: the cue, one-hot ``[num_symbols]``, and the go flag, 0.
    - Observation at steps 1 to ``delay``: a distractor, one of the same symbols, and the go flag, 0. Nothing but the
      time tells the cue from a distractor.
    - Observation at step ``delay + 1``: no symbol (zeros), and the go flag, 1.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`); both are
      zeros throughout, since only the last action counts.
    - Actions: ``Discrete(num_symbols)``. Action k names symbol k. Actions before the last step earn 0 and change
      nothing.
    - Rewards: at the last step, 1 for naming the cue, -1 for any other symbol.
    - Starting state: cue and distractors are drawn uniformly and independently.
    - Episode end: the episode terminates after ``delay + 2`` steps.
    - Optimal return: 1. Without memory: 2 / num_symbols - 1, which is chance.

    Args:
        num_symbols: Number of different symbols.
        delay: Number of steps between cue and answer.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If there are fewer than 2 symbols, or ``delay`` is negative.
    """

    optimal_return = 1.0

    def __init__(
        self,
        num_symbols: int = 4,
        delay: int = 10,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_count("num_symbols", num_symbols, at_least=2)
        check_count("delay", delay, at_least=0)
        super().__init__(num_symbols, delay + 2, -1.0, 1.0, previous_action_reward, render_mode)
        self.memoryless_return = 2 / num_symbols - 1

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw cue and distractors."""
        symbols = random_symbols(rng, self.num_symbols, self.length - 1)
        shown = np.zeros((self.length, self.num_symbols + 1), np.float32)
        shown[:-1] = one_hot(symbols, self.num_symbols + 1)
        shown[-1, -1] = 1.0  # go
        correct = np.full(self.length, -1)
        correct[-1] = symbols[0]
        return Script(shown, correct)

    def shown_in_words(self, shown: FloatArray, letters: str) -> str:
        """Describe the symbol and the go flag."""
        return f"{super().shown_in_words(shown, letters)}, {'go' if shown[-1] else 'wait'}"


DelayedRecallVectorEnv = vectorized(DelayedRecallEnv)
