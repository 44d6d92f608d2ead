from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.envs.serial_reaction import alternating, n_gram
from seqrl_lightning.types import ConfigurationError
from tests.envs.playing import History, at_random, mean_return

ENV_ID = "seqrl/SerialReaction-v0"
BIGRAM = [[0.1, 0.7, 0.2], [0.5, 0.0, 0.5], [0.2, 0.2, 0.6]]
RNG = np.random.default_rng(3)
TRIGRAM = RNG.dirichlet([0.3, 0.3, 0.3], size=9).tolist()


def symbols_of(history: History, num_symbols: int) -> Any:
    """[T, N], the symbols seen so far."""
    return np.array(history)[:, :, :num_symbols].argmax(2)


def test_pattern_and_random_symbols_take_turns() -> None:
    envs = gym.make_vec(ENV_ID, num_envs=300, pattern="ACBD", trials=9)
    history = [envs.reset(seed=0)[0], *(envs.step(np.zeros(300, int))[0] for _ in range(8))]
    symbols = symbols_of(history, 4)
    in_turn = symbols[::2]
    following = {0: 2, 2: 1, 1: 3, 3: 0}  # A C B D
    assert (in_turn[1:] == np.vectorize(following.get)(in_turn[:-1])).all()
    random = symbols[1::2]
    assert np.bincount(random.ravel()) / random.size == pytest.approx([0.25] * 4, abs=0.04)
    assert np.bincount(in_turn[0]) / 300 == pytest.approx([0.25] * 4, abs=0.07)


def test_the_right_action_is_the_symbol_that_comes() -> None:
    env = gym.make(ENV_ID, grammar=TRIGRAM, trials=5)
    observation, info = env.reset(seed=0)
    assert info["correct_action"] == -1  # one symbol is no context for a trigram
    for t in range(6):
        observation, reward, terminated, _, next_info = env.step(np.int64(1))
        assert terminated == (t == 5)
        if info["correct_action"] >= 0:
            assert reward == (info["correct_action"] == 1)
        if t > 0 and not terminated:
            assert observation[:3].argmax() == info["correct_action"]
        info = next_info


def stationary(transition: Any) -> Any:
    """The left eigenvector of eigenvalue 1."""
    values, vectors = np.linalg.eig(np.asarray(transition).T)
    pi = vectors[:, np.argmin(abs(values - 1))].real
    return pi / pi.sum()


def test_bigram_returns() -> None:
    pi = stationary(BIGRAM)
    expected = 30 * float(pi @ np.max(BIGRAM, axis=1))
    env = gym.make(ENV_ID, grammar=BIGRAM, trials=30)
    assert env.unwrapped.optimal_return == pytest.approx(expected)  # type: ignore[attr-defined]
    best = np.argmax(BIGRAM, axis=1)
    played = mean_return(ENV_ID, lambda history: best[symbols_of(history[-1:], 3)[-1]], grammar=BIGRAM, trials=30)
    assert played == pytest.approx(expected, abs=0.25)
    assert mean_return(ENV_ID, at_random(3), grammar=BIGRAM, trials=30) == pytest.approx(10, abs=0.25)


def test_trigram_returns() -> None:
    probability = np.array(TRIGRAM)  # [9, 3]
    transition = np.zeros((9, 9))
    for state in range(9):
        for symbol in range(3):
            transition[state, 3 * (state % 3) + symbol] = probability[state, symbol]
    pi = stationary(transition)
    expected = 20 * float(pi @ probability.max(axis=1))
    env = gym.make(ENV_ID, grammar=TRIGRAM, trials=20)
    assert env.unwrapped.optimal_return == pytest.approx(expected)  # type: ignore[attr-defined]

    def remembering(history: History) -> Any:
        seen = symbols_of(history[-2:], 3)
        return probability.argmax(1)[3 * seen[-2] + seen[-1]] if len(seen) > 1 else np.zeros(seen.shape[1], int)

    assert mean_return(ENV_ID, remembering, grammar=TRIGRAM, trials=20) == pytest.approx(expected, abs=0.25)

    # Without memory: the best guess from the current symbol alone.
    joint = (pi[:, None] * probability).reshape(3, 3, 3).sum(0)  # P(present, next)
    memoryless = 20 * float(joint.max(axis=1).sum())
    assert memoryless < expected - 1
    best = joint.argmax(axis=1)
    played = mean_return(ENV_ID, lambda history: best[symbols_of(history[-1:], 3)[-1]], grammar=TRIGRAM, trials=20)
    assert played == pytest.approx(memoryless, abs=0.25)


def test_alternating_returns() -> None:
    expected = 40 * (1 + 1 / 4) / 2
    env = gym.make(ENV_ID)
    assert env.unwrapped.optimal_return == pytest.approx(expected)  # type: ignore[attr-defined]
    following = np.array([2, 3, 1, 0])  # by default A C B D

    def counting(history: History) -> Any:
        seen = symbols_of(history[-2:], 4)
        return following[seen[-2]] if len(history) % 2 == 0 else np.zeros(seen.shape[1], int)

    assert mean_return(ENV_ID, counting) == pytest.approx(expected, abs=0.2)
    assert mean_return(ENV_ID, at_random(4)) == pytest.approx(10, abs=0.2)
    # The current symbol alone says nothing: a random symbol comes next, or follows on one that is not seen any more.
    assert mean_return(ENV_ID, lambda history: following[symbols_of(history[-1:], 4)[-1]]) == pytest.approx(10, abs=0.2)


def test_a_periodic_grammar_has_its_stationary_distribution() -> None:
    assert n_gram([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).start == pytest.approx([1 / 3] * 3)
    assert alternating("AB").start.tolist() == [0.5, 0, 0.5, 0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"pattern": "ABA"}, "data.env_kwargs.pattern is 'ABA'; it must be at least two letters"),
        ({"grammar": [[0.5, 0.5], [1.0]]}, "data.env_kwargs.grammar is .* it must be a list of rows"),
        ({"grammar": [[0.5, 0.5]] * 3}, r"it must be 2 \*\* k rows of 2"),
        ({"grammar": [[0.5, 0.6]] * 2}, "it must be rows that are distributions"),
        ({"trials": 0}, "data.env_kwargs.trials is 0"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        gym.make(ENV_ID, **kwargs)
