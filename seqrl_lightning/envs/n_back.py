"""seqrl/NBack-v0: name the symbol of n steps ago, at every step."""

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count, one_hot, random_symbols
from seqrl_lightning.envs.vector import vectorized


class NBackEnv(SymbolEnv):
    """Name, at each step of a stream of symbols, the symbol that was shown n steps before.

    - Observation: a symbol, one-hot ``[num_symbols]``. Then, by default, the previous action and reward (see
      :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - Actions: ``Discrete(num_symbols)``. Action k names symbol k. The first n actions earn 0 and change nothing.
    - Rewards: at step t from n on, 1/T for naming the symbol of step t - n, -1/T for any other, with T the number of
      such steps.
    - Starting state: the symbols are drawn uniformly and independently.
    - Episode end: the episode terminates after n + T steps.
    - Optimal return: 1. From the current symbol only: 2 / num_symbols - 1, which is chance.

    Args:
        n: Number of steps to look back.
        num_symbols: Number of different symbols.
        trials: Number of steps that count, T.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If ``n`` or ``trials`` isn't positive, or there are fewer than 2 symbols.
    """

    optimal_return = 1.0

    def __init__(
        self,
        n: int = 2,
        num_symbols: int = 4,
        trials: int = 20,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_count("n", n)
        check_count("num_symbols", num_symbols, at_least=2)
        check_count("trials", trials)
        self.n = n
        reward = 1.0 / trials
        super().__init__(num_symbols, n + trials, -reward, reward, previous_action_reward, render_mode)
        self.memoryless_return = 2 / num_symbols - 1

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the stream."""
        symbols = random_symbols(rng, self.num_symbols, self.length)
        correct = np.full(self.length, -1)
        correct[self.n :] = symbols[: -self.n]
        return Script(one_hot(symbols, self.num_symbols), correct)


NBackVectorEnv = vectorized(NBackEnv)
