"""The rules of the sequence tasks, by hand and by playing the optimal and the random policy."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from seqrl_lightning.types import ConfigurationError

TASKS = ["seqrl/Sequence-v0", "seqrl/SequenceDistractor-v0"]


def play(env: gym.Env[Any, Any], actions: str, letters: str) -> list[tuple[int, float, bool, bool]]:
    """Picks objects by their letters; returns (position, reward, terminated, truncated) after each pick."""
    steps = []
    for letter in actions:
        observation, reward, terminated, truncated, _ = env.step(np.int64(letters.index(letter)))
        steps.append((int(observation.argmax()), float(reward), terminated, truncated))
    return steps


def test_sequence_by_hand() -> None:
    env = gym.make("seqrl/Sequence-v0", objects="ABCD")
    observation, info = env.reset(seed=0)
    assert observation.tolist() == [1, 0, 0, 0]  # A is given
    assert info == {"block": 0, "correct_action": 1}
    assert play(env, "BACD", "ABCD") == [
        (1, 1.0, False, False),
        (1, 0.0, False, False),  # wrong: stays
        (2, 1.0, False, False),
        (3, 1.0, True, False),
    ]


def test_sequence_is_truncated_after_max_trials_unless_it_is_complete() -> None:
    env = gym.make("seqrl/Sequence-v0", objects="ABC", max_trials=3)
    env.reset(seed=0)
    assert play(env, "AAA", "ABC")[-1] == (0, 0.0, False, True)
    env.reset()
    assert play(env, "ABC", "ABC")[-1] == (2, 1.0, True, False)


def test_distractor_by_hand() -> None:
    env = gym.make("seqrl/SequenceDistractor-v0", objects="ABC", distractors="YZ", max_errors=4)
    assert env.action_space == gym.spaces.Discrete(5)
    observation, info = env.reset(seed=0)
    assert observation.tolist() == [1, 0, 0, 0]
    assert info == {"block": 0, "correct_action": 0}
    assert play(env, "ZABZBC", "ABCYZ") == [
        (0, -1.0, False, False),  # not below the first position
        (1, 1.0, False, False),
        (2, 1.0, False, False),
        (1, -1.0, False, False),  # one position back
        (2, 1.0, False, False),
        (3, 1.0, True, False),
    ]
    env.reset()
    assert play(env, "YYYY", "ABCYZ")[-1] == (0, -1.0, False, True)


def test_backtrack_first_by_hand() -> None:
    env = gym.make("seqrl/SequenceDistractor-v0", objects="ABC", distractors="YZ", backtrack="first")
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [1, 0, 0, 0, 0, 0]
    assert play(env, "ZABZZYBC", "ABCYZ") == [
        (0, -1.0, False, False),  # nothing done yet
        (1, 1.0, False, False),
        (2, 1.0, False, False),
        (1, -1.0, False, False),  # one position back
        (1, -1.0, False, False),  # the second error in a row: no further
        (1, -1.0, False, False),
        (2, 1.0, False, False),  # the last right object again
        (3, 1.0, True, False),
    ]


def test_backtrack_first_shows_the_last_outcome() -> None:
    env = gym.make("seqrl/SequenceDistractor-v0", objects="ABC", backtrack="first")
    env.reset(seed=0)
    outcomes = [env.step(np.int64("ABCZ".index(letter)))[0][4:].tolist() for letter in "AZZA"]
    assert outcomes == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert env.reset()[0][4:].tolist() == [0, 0]


def test_backtrack_none_by_hand() -> None:
    env = gym.make("seqrl/SequenceDistractor-v0", objects="ABC", backtrack="none", max_errors=3)
    env.reset(seed=0)
    assert play(env, "AZZC", "ABCZ") == [
        (1, 1.0, False, False),
        (1, -1.0, False, False),
        (1, -1.0, False, False),
        (1, -1.0, False, True),
    ]


def test_the_rule_changes_after_its_episodes_and_objects_keep_their_actions() -> None:
    blocks = [{"sequence": "ABC", "episodes": 2}, {"sequence": "reversed"}]
    env = gym.make("seqrl/Sequence-v0", objects="ABC", blocks=blocks)
    seen = []
    for _ in range(4):
        _, info = env.reset()
        seen.append((info["block"], info["correct_action"]))
        while info["correct_action"] >= 0:
            *_, info = env.step(np.int64(info["correct_action"]))
    assert seen == [(0, 1), (0, 1), (1, 1), (1, 1)]  # the middle object of ABC is that of CBA
    env.reset()
    assert [reward for _, reward, *_ in play(env, "CBA", "ABC")] == [0.0, 1.0, 1.0]  # C is given now


def test_evaluation_fixes_the_block_outside_the_clock() -> None:
    blocks = [{"sequence": "ABC", "episodes": 1}, {"sequence": "CBA"}]
    env = gym.make("seqrl/Sequence-v0", objects="ABC", blocks=blocks)
    for _ in range(3):
        _, info = env.reset(options={"block": 0})
        assert info["block"] == 0
        assert play(env, "BC", "ABC")[-1][2]
    assert env.reset()[1]["block"] == 0  # no episode of the clock has been played
    play(env, "BC", "ABC")
    assert env.reset()[1]["block"] == 1
    assert env.reset(seed=5)[1]["block"] == 0  # a seed starts the clock anew
    with pytest.raises(ConfigurationError, match=r'options\["block"\] is 2; it must be in 0 to 1'):
        env.reset(options={"block": 2})


@pytest.mark.parametrize(
    ("env_id", "kwargs", "optimal", "random"),
    [
        (TASKS[0], {}, 9.0, 2.0),
        (TASKS[1], {}, 5.0, -7.9),
        (TASKS[1], {"backtrack": "first"}, 5.0, -7.9),
        (TASKS[1], {"backtrack": "none"}, 5.0, -7.8),
        ("seqrl/BlockSwitch-v0", {}, 5.0, -7.9),
        ("seqrl/ContextSequence-v0", {}, 5.0, -7.9),
    ],
)
def test_optimal_and_random_returns(env_id: str, kwargs: dict[str, Any], optimal: float, random: float) -> None:
    env = gym.make(env_id, **kwargs)
    assert env.unwrapped.optimal_return == optimal  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)

    def mean_return(policy: Any) -> float:
        returns = []
        for _ in range(300):
            (_, info), total, ended = env.reset(), 0.0, False
            while not ended:
                _, reward, terminated, truncated, info = env.step(policy(info))
                total, ended = total + float(reward), terminated or truncated
            returns.append(total)
        return float(np.mean(returns))

    assert mean_return(lambda info: info["correct_action"]) == optimal
    chance = mean_return(lambda info: rng.integers(env.action_space.n))  # type: ignore[attr-defined]
    assert chance == pytest.approx(random, abs=0.35)


@pytest.mark.parametrize("env_id", [env_id for env_id in gym.registry if env_id.startswith("seqrl/")])
@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_check_env_is_clean(env_id: str, render_mode: str) -> None:
    if "CartPole" in env_id:
        pytest.skip("Gymnasium's own pictures need pygame")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, render_mode=render_mode).unwrapped)


def test_pictures() -> None:
    env = gym.make("seqrl/Sequence-v0", objects="ABC", render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "[A] B  C   pick: -\n"
    play(env, "B", "ABC")
    assert env.render() == "[A][B] C   pick: B\n"
    env = gym.make("seqrl/Sequence-v0", objects="ABC", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    play(env, "B", "ABC")
    after: Any = env.render()
    assert after.dtype == np.uint8
    assert after.ndim == 3
    assert (after != before).any()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        (TASKS[0], {"max_trials": 0}, "data.env_kwargs.max_trials is 0"),
        (TASKS[1], {"max_errors": -1}, "data.env_kwargs.max_errors is -1"),
        (TASKS[1], {"backtrack": "last"}, "data.env_kwargs.backtrack is 'last'"),
        ("seqrl/BlockSwitch-v0", {"num_blocks": 0}, "data.env_kwargs.num_blocks is 0"),
        ("seqrl/BlockSwitch-v0", {"switch": "swap_2_9"}, r"blocks\[1\].sequence is 'swap_2_9'"),
        ("seqrl/ContextSequence-v0", {"contexts": ["ABCDE"]}, "data.env_kwargs.contexts is"),
        ("seqrl/ContextSequence-v0", {"contexts": ["ABCDE", "AB"]}, r"data.env_kwargs.contexts\[1\] is 'AB'"),
        (TASKS[1], {"distractors": "A"}, "data.env_kwargs.distractors is 'A'"),
        (TASKS[1], {"render_mode": "human"}, "render_mode is 'human'"),
    ],
)
@pytest.mark.parametrize("make", ["single", "vector"])
def test_bad_arguments_are_named(make: str, env_id: str, kwargs: dict[str, Any], message: str) -> None:
    entry_point = gym.spec(env_id).entry_point if make == "single" else gym.spec(env_id).vector_entry_point
    with pytest.raises(ConfigurationError, match=message):
        gym.envs.registration.load_env_creator(str(entry_point))(**kwargs)
