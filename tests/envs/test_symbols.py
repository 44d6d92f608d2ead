"""The memory tasks, by hand and by playing policies that remember, that don't, and that choose at random."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.types import ConfigurationError
from tests.envs.playing import History, at_random, mean_return

Policy = Callable[[History], Any]


def play(env_id: str, actions: list[int], seed: int = 0, **kwargs: Any) -> tuple[list[Any], list[float], list[int]]:
    """Returns the observations, the rewards and the correct actions of an episode; it must end with the actions."""
    env = gym.make(env_id, **kwargs)
    observation, info = env.reset(seed=seed)
    observations, rewards, correct = [observation.tolist()], [], [info["correct_action"]]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(np.int64(action))
        assert not truncated
        observations.append(observation.tolist())
        rewards.append(float(reward))
        correct.append(info["correct_action"])
        assert terminated == (len(rewards) == len(actions))
    return observations, rewards, correct


def test_delayed_recall_by_hand() -> None:
    observations, rewards, correct = play("seqrl/DelayedRecall-v0", [2, 1, 0, 3], num_symbols=4, delay=2)
    cue = observations[0].index(1)
    assert all(sum(observation[:4]) == 1 and observation[4] == 0 for observation in observations[:3])
    assert observations[3] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]  # go; actions that didn't count are not shown
    assert observations[4][5:] == [0, 0, 0, 1, 1 if cue == 3 else -1]
    assert rewards == [0, 0, 0, 1 if cue == 3 else -1]
    assert correct == [-1, -1, -1, cue, -1]


def test_memory_chain_by_hand() -> None:
    observations, rewards, correct = play(
        "seqrl/MemoryChain-v0", [0, 0, 0, 0, 1], memory_length=4, previous_action_reward=False
    )
    context = observations[0].index(1)
    assert [observation[2] for observation in observations] == [0, 0.25, 0.5, 0.75, 1, 0]
    assert all(observation[:2] == [0, 0] for observation in observations[1:])
    assert rewards == [0, 0, 0, 0, 1 if context == 1 else -1]
    assert correct == [-1, -1, -1, -1, context, -1]


def test_n_back_by_hand() -> None:
    kwargs = {"n": 2, "num_symbols": 3, "trials": 4}
    observations, _, correct = play("seqrl/NBack-v0", [0] * 6, **kwargs)
    symbols = [observation[:3].index(1) for observation in observations[:6]]
    assert correct == [-1, -1, *symbols[:4], -1]
    wrong = (symbols[2] + 1) % 3
    actions = [1, 1, symbols[0], symbols[1], wrong, symbols[3]]
    observations, rewards, _ = play("seqrl/NBack-v0", actions, **kwargs)
    assert rewards == [0, 0, 0.25, 0.25, -0.25, 0.25]
    assert observations[2][3:] == [0, 0, 0, 0]  # the first two actions didn't count
    assert observations[5][3:] == [*(k == wrong for k in range(3)), -0.25]


@pytest.mark.parametrize("order", ["copy", "reverse"])
def test_recall_by_hand(order: str) -> None:
    observations, rewards, correct = play("seqrl/Recall-v0", [0, 0, 0, 1, 2, 1], length=3, order=order, seed=1)
    symbols = [observation[:4].index(1) for observation in observations[:3]]
    assert [observation[:5] for observation in observations[3:6]] == [[0, 0, 0, 0, 1]] * 3
    right = symbols if order == "copy" else symbols[::-1]
    assert correct == [-1, -1, -1, *right, -1]
    assert rewards[3:] == pytest.approx([1 / 3 if a == b else -1 / 3 for a, b in zip([1, 2, 1], right, strict=True)])


def cue(history: History) -> Any:
    return history[0][:, :4].argmax(1)


def n_back(n: int) -> Policy:
    return lambda history: history[max(len(history) - 1 - n, 0)][:, :4].argmax(1)


def reproduce(length: int, reverse: bool) -> Policy:
    def policy(history: History) -> Any:
        i = len(history) - 1 - length
        watched = 0 if i < 0 else length - 1 - i if reverse else i
        return history[watched][:, :4].argmax(1)

    return policy


MEMORY_TASKS: list[tuple[str, dict[str, Any], Policy]] = [
    ("seqrl/DelayedRecall-v0", {"delay": 7}, cue),
    ("seqrl/DelayedRecall-v0", {"delay": 0}, cue),
    ("seqrl/MemoryChain-v0", {"memory_length": 9, "num_symbols": 4}, cue),
    ("seqrl/NBack-v0", {"n": 1, "trials": 12}, n_back(1)),
    ("seqrl/NBack-v0", {"n": 4, "trials": 12}, n_back(4)),
    ("seqrl/Recall-v0", {"length": 5, "order": "copy"}, reproduce(5, reverse=False)),
    ("seqrl/Recall-v0", {"length": 5, "order": "reverse"}, reproduce(5, reverse=True)),
]


@pytest.mark.parametrize(("env_id", "kwargs", "remembering"), MEMORY_TASKS)
def test_optimal_chance_and_memoryless_returns(env_id: str, kwargs: dict[str, Any], remembering: Policy) -> None:
    optimal = gym.make(env_id, **kwargs).unwrapped.optimal_return  # type: ignore[attr-defined]
    assert mean_return(env_id, remembering, num_envs=200, **kwargs) == pytest.approx(optimal) == pytest.approx(1.0)
    chance = 2 / 4 - 1
    assert mean_return(env_id, at_random(4), **kwargs) == pytest.approx(chance, abs=0.08)
    memoryless = gym.make(env_id, **kwargs).unwrapped.memoryless_return  # type: ignore[attr-defined]
    assert memoryless == chance
    cue_blind = mean_return(env_id, lambda history: history[-1][:, :4].argmax(1), **kwargs)
    assert cue_blind == pytest.approx(chance, abs=0.08)


@pytest.mark.parametrize(("env_id", "kwargs", "remembering"), MEMORY_TASKS[:3] + MEMORY_TASKS[5:])
def test_a_symbol_cannot_be_carried_in_ones_own_actions(
    env_id: str, kwargs: dict[str, Any], remembering: Policy
) -> None:
    def echo(history: History) -> Any:
        symbol, action = history[-1][:, :4], history[-1][:, -5:-1]
        return np.where(action.any(1), action.argmax(1), symbol.argmax(1))

    assert mean_return(env_id, echo, **kwargs) == pytest.approx(-0.5, abs=0.08)


@pytest.mark.parametrize(("env_id", "kwargs", "remembering"), MEMORY_TASKS)
def test_without_previous_action_and_reward_the_rest_stays(
    env_id: str, kwargs: dict[str, Any], remembering: Policy
) -> None:
    whole, bare = (
        gym.make_vec(env_id, num_envs=2, previous_action_reward=previous, **kwargs) for previous in (True, False)
    )
    assert whole.observation_space.shape[1] - bare.observation_space.shape[1] == 5  # type: ignore[index]
    np.testing.assert_array_equal(whole.reset(seed=0)[0][:, :-5], bare.reset(seed=0)[0])
    for _ in range(30):
        action = np.array([1, 2])
        np.testing.assert_array_equal(whole.step(action)[0][:, :-5], bare.step(action)[0])


def test_the_last_action_and_reward_are_forgotten_when_an_episode_starts() -> None:
    envs = gym.make_vec("seqrl/NBack-v0", num_envs=2, n=1, trials=2)
    envs.reset(seed=0)
    for t in range(1, 12):
        observation, reward, terminated, _, _ = envs.step(np.array([3, 0]))
        is_first_or_second = t % 4 in (0, 1)  # three steps, then the one that resets
        assert (observation[:, 4:] == 0).all() == is_first_or_second
        assert terminated.all() == (t % 4 == 3)
        assert (reward == 0).all() == is_first_or_second


def test_every_episode_draws_anew() -> None:
    envs = gym.make_vec("seqrl/Recall-v0", num_envs=2, length=8)
    first = envs.reset(seed=3)[0]
    rows = [first, *(envs.step(np.array([0, 0]))[0] for _ in range(33))]
    episodes = np.argmax(np.array(rows)[[range(8), range(17, 25)], :, :4], axis=-1)  # [episode, t, env]
    assert (episodes[0] != episodes[1]).any(0).all()
    assert (episodes[:, :, 0] != episodes[:, :, 1]).any()
    assert (envs.reset(seed=3)[0] == first).all()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("seqrl/DelayedRecall-v0", {"delay": -1}, "data.env_kwargs.delay is -1; it must be at least 0"),
        ("seqrl/DelayedRecall-v0", {"num_symbols": 1}, "data.env_kwargs.num_symbols is 1; it must be at least 2"),
        ("seqrl/MemoryChain-v0", {"memory_length": 0}, "data.env_kwargs.memory_length is 0"),
        ("seqrl/NBack-v0", {"n": 0}, "data.env_kwargs.n is 0"),
        ("seqrl/NBack-v0", {"trials": 0}, "data.env_kwargs.trials is 0"),
        ("seqrl/Recall-v0", {"order": "backwards"}, "data.env_kwargs.order is 'backwards'; it must be one of"),
        ("seqrl/Recall-v0", {"length": 0}, "data.env_kwargs.length is 0"),
    ],
)
def test_bad_arguments_are_named(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        gym.make(env_id, **kwargs)


def test_pictures_show_what_was_seen_so_far() -> None:
    env = gym.make("seqrl/DelayedRecall-v0", delay=1, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    letter = "ABCD"[int(observation.argmax())]
    assert env.render() == f" {letter}   pick: -\n"
    env.step(np.int64(1))
    env.step(np.int64(2))
    board = str(env.render())
    assert board.startswith(f"[{letter}][")
    assert board.endswith("] .   pick: C\n")
