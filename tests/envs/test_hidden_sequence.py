from itertools import permutations

import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.types import ConfigurationError
from tests.envs.playing import History, at_random, mean_return

ENV_ID = "seqrl/HiddenSequence-v0"


def test_by_hand() -> None:
    env = gym.make(ENV_ID, objects="ABC", trials=2, max_picks=9)
    observation, info = env.reset(seed=0)
    assert observation.tolist() == [0, 0, 0, 0, 0]
    first, second, third = env.unwrapped.scripts.correct[0, :3].tolist()  # type: ignore[attr-defined]
    assert info["correct_action"] == first
    steps = []
    for action in (first, first, second, third, first, second, third):
        observation, reward, terminated, truncated, info = env.step(np.int64(action))
        assert observation[:3].tolist() == [action == k for k in range(3)]
        steps.append((observation[3:].tolist(), float(reward), terminated, truncated, info["correct_action"]))
    right, wrong = [1, 0], [0, 1]
    assert steps == [
        (right, 1.0, False, False, second),
        (wrong, -1.0, False, False, second),  # stays
        (right, 1.0, False, False, third),
        (right, 1.0, False, False, first),  # the next trial
        (right, 1.0, False, False, second),
        (right, 1.0, False, False, third),
        (right, 1.0, True, False, -1),
    ]


def test_an_episode_is_truncated_after_max_picks() -> None:
    env = gym.make(ENV_ID, objects="ABC", trials=1, max_picks=6)
    _, info = env.reset(seed=1)
    wrong = (info["correct_action"] + 1) % 3
    assert [env.step(np.int64(wrong))[2:4] for _ in range(6)] == [(False, False)] * 5 + [(False, True)]


def explorer(history: History) -> np.ndarray:  # type: ignore[type-arg]
    """Knows what it has observed, and the rule: tries what it has not, and repeats what was right."""
    picks, outcomes = np.array(history)[1:, :, :5].argmax(2), np.array(history)[1:, :, 5] == 1
    actions = np.zeros(len(history[0]), int)
    for env in range(len(actions)):
        known: list[int] = []
        position, excluded = 0, set[int]()
        for pick, is_right in zip(picks[:, env], outcomes[:, env], strict=True):
            if not is_right:
                excluded.add(int(pick))
                continue
            if position == len(known):
                known.append(int(pick))
            position, excluded = (position + 1) % 5, set()
        candidates = known[position : position + 1] or [k for k in range(5) if k not in excluded and k not in known]
        actions[env] = candidates[0]
    return actions


def test_optimal_chance_and_memoryless_returns() -> None:
    optimal = gym.make(ENV_ID).unwrapped.optimal_return  # type: ignore[attr-defined]
    assert optimal == 5 * 8 - 5
    assert mean_return(ENV_ID, explorer, num_envs=200) == pytest.approx(optimal, abs=0.5)
    assert mean_return(ENV_ID, at_random(5)) == pytest.approx(80 * (2 / 5 - 1), abs=1.0)

    def next_of_last(history: History) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray((history[-1][:, :5].argmax(1) + 1) % 5)

    assert searching_in_turn() == pytest.approx(-13.2, abs=0.05)  # as the docstring says
    assert mean_return(ENV_ID, next_of_last) == pytest.approx(searching_in_turn(), abs=1.5)


def searching_in_turn() -> float:
    """The mean return, over all orders of 5 objects, of picking 1, 2, 3, 4, 0, 1, ... until 8 trials or 80 picks."""
    returns = []
    for order in permutations(range(5)):
        picks = right = 0
        while picks < 80 and right < 40:
            picks += 1
            right += order[right % 5] == picks % 5
        returns.append(2 * right - picks)
    return float(np.mean(returns))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"objects": "ABA"}, "data.env_kwargs.objects is 'ABA'; it must be at least two letters"),
        ({"trials": 0}, "data.env_kwargs.trials is 0"),
        ({"objects": "ABC", "trials": 2, "max_picks": 8}, "data.env_kwargs.max_picks is 8; it must be at least 9"),
    ],
)
def test_bad_arguments_are_named(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        gym.make(ENV_ID, **kwargs)
