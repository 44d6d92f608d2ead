"""Play POPGym's tasks by rules: ``python -m benchmarks.popgym_references``.

For the tasks whose best return isn't 1 it writes what a player without memory and one with a perfect memory get, to
``benchmarks/results/popgym_references.json``. Bandits are played by Thompson sampling, with a Beta distribution for an
arm that starts as the uniform one from which the task draws it.
"""

import json
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import popgym  # noqa: F401  # registers its tasks

from benchmarks.learning import RESULTS
from benchmarks.popgym import LEVELS
from seqrl_lightning.types import IntArray

PATH = RESULTS / "popgym_references.json"
EPISODES = 2000

Player = Callable[["gym.Env[Any, Any]", np.random.Generator], float]
"""Plays an episode from its reset on, and returns its return."""


def main() -> None:
    """Play and write."""
    players: dict[str, dict[str, Player]] = {
        "HigherLower": {"no memory": higher_lower_from_middle, "perfect memory": higher_lower_by_counting},
        "Concentration": {"no memory": concentration_without_memory, "perfect memory": concentration_with_memory},
        "MultiarmedBandit": {"no memory": bandit_at_random, "Thompson sampling": bandit_by_thompson},
    }
    results = {
        task + level: {name: mean_return(f"popgym-{task}{level}-v0", player) for name, player in of_task.items()}
        for task, of_task in players.items()
        for level in LEVELS
    }
    PATH.write_text(json.dumps({"episodes": EPISODES, "mean_return": results}, indent=1) + "\n")
    print(PATH.read_text())


def mean_return(env_id: str, player: Player) -> float:
    """Return the mean over episodes with the seeds 0, 1, 2 and so on."""
    env, rng = gym.make(env_id), np.random.default_rng(0)
    returns = []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        returns.append(player(env, rng))
    return round(float(np.mean(returns)), 3)


def higher_lower_from_middle(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Guess from the present card alone: higher below the middle rank."""
    rank, total, is_over = int(env.unwrapped.deck.show("player", ["ranks_idx"]).item()), 0.0, False  # type: ignore[attr-defined]
    while not is_over:
        rank, reward, is_over, _, _ = env.step(0 if rank < 6 else 1)
        total += float(reward)
    return total


def higher_lower_by_counting(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Guess by the cards that are left."""
    rank, total, is_over = int(env.unwrapped.deck.show("player", ["ranks_idx"]).item()), 0.0, False  # type: ignore[attr-defined]
    left = np.full(13, env.unwrapped.deck_size // 13)  # type: ignore[attr-defined]
    while not is_over:
        left[rank] -= 1
        rank, reward, is_over, _, _ = env.step(0 if left[rank + 1 :].sum() >= left[:rank].sum() else 1)
        total += float(reward)
    return total


def concentration_without_memory(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Turn cards that lie face down, at random."""
    face_down = env.unwrapped.facedown_card  # type: ignore[attr-defined]
    cards, total, is_over = env.unwrapped.obs, 0.0, False  # type: ignore[attr-defined]
    in_play: list[int] = []
    while not is_over:
        shown = cards.copy()
        if len(in_play) == 2:  # they are shown a last time
            shown[in_play] = face_down if shown[in_play[0]] != shown[in_play[1]] else shown[in_play]
            in_play = []
        in_play.append(int(rng.choice(np.flatnonzero(shown == face_down))))
        cards, reward, terminated, truncated, _ = env.step(in_play[-1])
        total, is_over = total + float(reward), terminated or truncated
    return total


def concentration_with_memory(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Turn two cards that are known to match, or an unknown one and then, if it is known, its match."""
    face_down = env.unwrapped.facedown_card  # type: ignore[attr-defined]
    known: IntArray = np.full(len(env.unwrapped.obs), -1)  # type: ignore[attr-defined]
    is_solved, total = np.zeros(len(known), dtype=bool), 0.0
    while True:
        first = _one_of_a_pair(known, is_solved)
        if first is None:
            first = int(rng.choice(np.flatnonzero(known < 0)))
        cards, reward, terminated, truncated, _ = env.step(first)
        total, known[first] = total + float(reward), cards[first]
        if terminated or truncated:
            return total
        is_match = (known == known[first]) & ~is_solved
        is_match[first] = False
        candidates = np.flatnonzero(is_match) if is_match.any() else np.flatnonzero(known < 0)
        if not len(candidates):
            candidates = np.flatnonzero(~is_solved & (np.arange(len(known)) != first))
        second = int(rng.choice(candidates))
        cards, reward, terminated, truncated, _ = env.step(second)
        total, known[second] = total + float(reward), cards[second]
        assert cards[second] != face_down
        is_solved[[first, second]] |= known[first] == known[second]
        if terminated or truncated:
            return total


def _one_of_a_pair(known: IntArray, is_solved: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    values, counts = np.unique(known[~is_solved & (known >= 0)], return_counts=True)
    pairs = values[counts > 1]
    return int(np.flatnonzero((known == pairs[0]) & ~is_solved)[0]) if len(pairs) else None


def bandit_at_random(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Pull arms at random."""
    total, is_over = 0.0, False
    while not is_over:
        _, reward, _, is_over, _ = env.step(int(rng.integers(env.unwrapped.num_bandits)))  # type: ignore[attr-defined]
        total += float(reward)
    return total


def bandit_by_thompson(env: "gym.Env[Any, Any]", rng: np.random.Generator) -> float:
    """Pull the arm that is best in a draw from the posterior."""
    payouts = np.ones((2, env.unwrapped.num_bandits))  # type: ignore[attr-defined]
    total, is_over = 0.0, False
    while not is_over:
        arm = int(rng.beta(payouts[1], payouts[0]).argmax())
        payout, reward, _, is_over, _ = env.step(arm)
        payouts[payout, arm] += 1
        total += float(reward)
    return total


if __name__ == "__main__":
    main()
