"""seqrl/SerialReaction-v0: predict the next symbol of a probabilistic grammar."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.symbols import SymbolEnv, check_count, one_hot
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray, IntArray, require

_SETTING = "data.env_kwargs.grammar"


class Grammar(NamedTuple):
    """A Markov chain that emits a symbol at each of its steps; S is the number of symbols."""

    next_symbol: FloatArray  # [states, S] float64, P(next symbol | state)
    successor: IntArray  # [states, S] int64, the state after that symbol
    start: FloatArray  # [states] float64, the distribution of the state in which the first prediction is made
    seen: IntArray  # [states, k] int64, the symbols by which a state is recognized, the current one last

    def after(self, distribution: FloatArray) -> FloatArray:
        """Return the distribution of the state one step later, ``[states]``."""
        flow = distribution[:, None] * self.next_symbol
        after = np.zeros_like(distribution)
        np.add.at(after, self.successor, flow)
        return after


class SerialReactionEnv(SymbolEnv):
    """Predict a stream of symbols: each action names the symbol that comes next (serial reaction time).

    - Observation: the current symbol, one-hot ``[S]``. Then, by default, the previous action and reward (see
      :class:`seqrl_lightning.envs.symbols.SymbolEnv`).
    - Actions: ``Discrete(S)``. Action k predicts symbol k, and has no influence on which symbol comes.
    - Rewards: 1 if the predicted symbol comes next, 0 otherwise. ``info["correct_action"]`` is the symbol that comes,
      which is unpredictable where the grammar leaves it to chance.
    - Starting state, with ``pattern`` (alternating serial reaction time): the symbols of the pattern come in turn, with
      a random symbol after each of them. An episode starts with one of the pattern's symbols, drawn uniformly, so that
      counting tells the two kinds apart.
    - Starting state, with ``grammar``, the matrix P(next symbol | last k symbols): the first k symbols come from the
      stationary distribution. The first k - 1 steps are shown before predictions count.
    - Episode end: the episode terminates after ``trials`` predictions, T.
    - Optimal return: T times the sum over states of pi(state) max P(. | state). Here pi is the distribution of the
      states over an episode, which is the stationary one (for a pattern: if T is even). T (1 + 1/S) / 2 for a pattern.

    Args:
        pattern: The pattern as letters, each of them once; symbol k is the k-th in the alphabet. Ignored with
            ``grammar``.
        grammar: P as a list of rows, ``[S ** k, S]``: row ``s_1 S^(k-1) + ... + s_k`` is the distribution after the
            symbols s_1 to s_k, the last of them the current one.
        trials: Number of predictions in an episode, T.
        previous_action_reward: Whether observations end with the last action and its reward.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If the pattern or the matrix doesn't make a grammar, or ``trials`` isn't positive.
    """

    def __init__(
        self,
        pattern: str = "ACBD",
        grammar: Sequence[Sequence[float]] | None = None,
        trials: int = 40,
        previous_action_reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        check_count("trials", trials)
        self.grammar = alternating(pattern) if grammar is None else n_gram(grammar)
        self._trials = trials
        # Lists, since single numbers are read from them: several times as fast as from arrays.
        self._cumulative_start = self.grammar.start.cumsum()[:-1].tolist()
        self._cumulative = self.grammar.next_symbol.cumsum(axis=1)[:, :-1].tolist()
        self._successor = self.grammar.successor.tolist()
        distribution, self.optimal_return = self.grammar.start, 0.0
        for _ in range(trials):
            self.optimal_return += float(distribution @ self.grammar.next_symbol.max(axis=1))
            distribution = self.grammar.after(distribution)
        num_symbols, num_seen = self.grammar.next_symbol.shape[1], self.grammar.seen.shape[1]
        super().__init__(num_symbols, num_seen - 1 + trials, 0.0, 1.0, previous_action_reward, render_mode)

    def draw(self, rng: np.random.Generator) -> Script:
        """Draw the symbols."""
        start, *uniforms = rng.random(self._trials + 1).tolist()
        state = bisect_right(self._cumulative_start, start)
        symbols = self.grammar.seen[state].tolist()
        for uniform in uniforms:
            symbol = bisect_right(self._cumulative[state], uniform)
            state = self._successor[state][symbol]
            symbols.append(symbol)
        correct = np.array(symbols[1:])
        correct[: self.length - self._trials] = -1
        return Script(one_hot(np.array(symbols[:-1]), self.num_symbols), correct)


SerialReactionVectorEnv = vectorized(SerialReactionEnv)


def alternating(pattern: str) -> Grammar:
    """Return the grammar of alternating serial reaction time, pattern and random symbols in turn.

    The task is that of Howard and Howard (1997).

    Raises:
        ConfigurationError: If the pattern isn't at least two letters, each of them once.
    """
    allowed = "at least two letters, each of them once"
    require(len(pattern) > 1 and len(set(pattern)) == len(pattern), "data.env_kwargs.pattern", pattern, allowed)
    num_symbols = len(pattern)
    symbols = np.array([sorted(pattern).index(letter) for letter in pattern])
    # State 2i: the pattern's symbol i is present; state 2i + 1: the random one after it.
    next_symbol = np.full((2 * num_symbols, num_symbols), 1.0 / num_symbols)
    next_symbol[1::2] = np.eye(num_symbols)[np.roll(symbols, -1)]
    following = np.roll(np.arange(2 * num_symbols), -1)
    start = np.zeros(2 * num_symbols)
    start[::2] = 1.0 / num_symbols
    return Grammar(next_symbol, np.tile(following[:, None], num_symbols), start, np.repeat(symbols, 2)[:, None])


def n_gram(matrix: Sequence[Sequence[float]]) -> Grammar:
    """Return the grammar in which the last k symbols decide the distribution of the next.

    Args:
        matrix: P(next symbol | last k symbols), ``[S ** k, S]``.

    Raises:
        ConfigurationError: If ``matrix`` isn't such a matrix.
    """
    is_table = len(matrix) > 0 and len(matrix[0]) > 1 and all(len(row) == len(matrix[0]) for row in matrix)
    require(is_table, _SETTING, matrix, "a list of rows, all as long as there are symbols, at least 2")
    next_symbol = np.array(matrix, np.float64)
    num_states, num_symbols = next_symbol.shape
    k = round(np.log(num_states) / np.log(num_symbols))
    require(k > 0 and num_symbols**k == num_states, _SETTING, matrix, f"{num_symbols} ** k rows of {num_symbols}")
    are_distributions = bool((next_symbol >= 0).all() and np.allclose(next_symbol.sum(axis=1), 1.0))
    require(are_distributions, _SETTING, matrix, "rows that are distributions: not negative, and of sum 1")
    states = np.arange(num_states)
    successor = (states[:, None] * num_symbols + np.arange(num_symbols)) % num_states
    seen = states[:, None] // num_symbols ** np.arange(k - 1, -1, -1) % num_symbols
    uniform = np.full(num_states, 1.0 / num_states)
    grammar = Grammar(next_symbol, successor, uniform, seen)
    return grammar._replace(start=_stationary(grammar))


def _stationary(grammar: Grammar) -> FloatArray:
    """Return the stationary distribution that the uniform one leads to: pi = pi P, of sum 1.

    It exists for periodic grammars too, and is the only one if every state can be reached from every other.
    """
    num_states = len(grammar.start)
    transition = np.stack([grammar.after(row) for row in np.eye(num_states)])
    # Half a step at a time has the same stationary distribution, without periods. Squaring takes 2 ** 40 half steps.
    power = (transition + np.eye(num_states)) / 2
    for _ in range(40):
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)
    distribution: FloatArray = grammar.start @ power
    return distribution
