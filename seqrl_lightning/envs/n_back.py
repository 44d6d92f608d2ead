"""seqrl/NBack-v0: name the symbol of n steps ago, at every step."""

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


class NBack(SymbolTask):
    """A stream of symbols; each action names the one shown n steps before.

    - Observation at step t: a symbol, drawn uniformly and independently, one-hot ``[num_symbols]``.
    - Action at step t from n on names the symbol of step t - n: reward 1/T if it is right, else -1/T, with T the number
      of such steps. The first n steps' actions earn 0 and change nothing.
    - Then, by default, the previous action and reward (see :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - The episode terminates after n + T steps.
    - Optimal return: 1. Who sees the present symbol only: 2 / num_symbols - 1, which is chance.

    Args:
        n: How many steps back.
        num_symbols: How many symbols there are.
        trials: Steps that count, T.

    Raises:
        ConfigurationError: If ``n`` or ``trials`` isn't positive, or there are fewer than 2 symbols.
    """

    optimal_return = 1.0

    def __init__(self, n: int = 2, num_symbols: int = 4, trials: int = 20) -> None:
        check_count("n", n)
        check_count("num_symbols", num_symbols, at_least=2)
        check_count("trials", trials)
        self.n = n
        self.num_symbols = self.size = num_symbols
        self.length = n + trials
        self.reward_right, self.reward_wrong = 1.0 / trials, -1.0 / trials

    def draw(self, rng: np.random.Generator) -> Script:
        """Draws the stream."""
        symbols = random_symbols(rng, self.num_symbols, self.length)
        correct = np.full(self.length, -1)
        correct[self.n :] = symbols[: -self.n]
        return Script(one_hot(symbols, self.size), correct)


class NBackEnv(SymbolEnv):
    """One environment of :class:`NBack`."""

    task_class = NBack


class NBackVectorEnv(SymbolVectorEnv):
    """Its vectorised twin."""

    task_class = NBack
