from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.types import ConfigurationError
from tests.envs.playing import History, at_random, mean_return

ENV_ID = "seqrl/Chunks-v0"
CHUNKS = np.array([[0, 1, 2], [1, 0, 2], [2, 3, 1], [3, 2, 1]])  # ABC, BAC, CDB, DCB


def test_by_hand() -> None:
    env = gym.make(ENV_ID, chunks=("AAB", "BAA"))
    observation, info = env.reset(seed=0)
    first = int(observation[:2].argmax())
    chunks = [[0, 0, 1], [1, 0, 0]]
    right = [*chunks[first], *chunks[1 - first]]
    for t in range(6):
        assert info["correct_action"] == right[t]
        cue = {0: [first == 0, first == 1], 3: [first == 1, first == 0]}.get(t, [0, 0])
        assert observation[:2].tolist() == cue
        action = right[t] if t != 1 else 1 - right[t]
        observation, reward, terminated, _, info = env.step(np.int64(action))
        assert reward == (t != 1)  # an error doesn't stop the chunk
        assert observation[2:].tolist() == [action == 0, action == 1, reward]
        assert terminated == (t == 5)


def test_optimal_and_chance_returns() -> None:
    def remembering(history: History) -> Any:
        t = len(history) - 1
        chunk = history[t - t % 3][:, :4].argmax(1)
        return CHUNKS[chunk, t % 3]

    optimal = gym.make(ENV_ID).unwrapped.optimal_return  # type: ignore[attr-defined]
    assert mean_return(ENV_ID, remembering, num_envs=100) == optimal == 12
    assert mean_return(ENV_ID, at_random(4)) == pytest.approx(3, abs=0.12)


def test_without_memory_a_third_is_missing() -> None:
    """Tries all policies from the cue, or else from the last action, to an action."""
    best, best_policy = 0, (CHUNKS[:, 0], CHUNKS[:, 0])
    for then in map(np.array, product(range(4), repeat=4)):
        starts = np.arange(4)  # each chunk is best started by one of these
        picks = np.stack([starts, then[starts], then[then[starts]]], axis=1)  # [start, 3]
        right = (picks == CHUNKS[:, None]).sum(axis=2)  # [chunk, start]
        if (total := int(right.max(axis=1).sum())) > best:
            best, best_policy = total, (right.argmax(axis=1), then)
    assert best == 8

    def memoryless(history: History) -> Any:
        cue, action = history[-1][:, :4], history[-1][:, 4:8]
        return np.where(cue.any(1), best_policy[0][cue.argmax(1)], best_policy[1][action.argmax(1)])

    assert mean_return(ENV_ID, memoryless, num_envs=100) == 8


@pytest.mark.parametrize("chunks", [("ABC",), ("ABC", "AB"), ("", "")])
def test_bad_chunks_are_named(chunks: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"data.env_kwargs.chunks is .* it must be at least two chunks"):
        gym.make(ENV_ID, chunks=chunks)
