"""The base class of tasks: its tables, and a task of one's own made from it."""

from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.rule import Rule, Script, Scripts, echo_table
from seqrl_lightning.envs.task import Board, TaskEnv
from seqrl_lightning.envs.vector import vectorized
from tests.envs.cases import assert_same


class Doors(TaskEnv):
    """Two doors, one of which is right in an episode: an error costs 2, and three errors end the episode."""

    optimal_return = 0.0

    def __init__(self, render_mode: str | None = None) -> None:
        rule = Rule(
            after_wrong=np.array([0, 1]),
            after_right=np.array([1, 2]),
            reward_wrong=-2.0,
            reward_right=0.5,
            limit=3,
            limit_on="errors",
            echo=echo_table(2, wrong=(1,), right=(0,), shows_action=True),
        )
        super().__init__("LR", rule, render_mode)

    def script(self, block: int, rng: np.random.Generator) -> Script:
        door = int(rng.integers(2))
        return Script(np.array([[0.25], [0.75]], np.float32), np.array([door, 1 - door]))

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        return Board("LR", state, None if pick < 0 else "LR"[pick])

    def in_words(self, observation: Any, letters: str) -> str:
        return f"room {observation[0]}"


def test_a_rule_by_hand() -> None:
    rule = Doors().rule
    assert rule.next_states().tolist() == [[0, 0, 1], [1, 1, 2], [2, 2, 2]]
    assert rule.rewards().tolist() == [0.0, -2.0, 0.5]
    assert rule.counts_toward_limit().tolist() == [0, 1, 0]
    assert rule.echo is not None
    assert rule.echo.tolist() == [
        [[0, 0, 0], [0, 0, 0]],  # not counted
        [[1, 0, 1], [0, 1, 1]],  # wrong
        [[1, 0, 0], [0, 1, 0]],  # right
    ]


def test_a_script_may_leave_states_out() -> None:
    scripts = Scripts(2, Script(np.ones((1, 2), np.float32), np.array([3])), num_states=2, size=3)
    scripts.write(1, Script(np.full((1, 2), 5, np.float32), np.array([4])))
    assert scripts.shown.tolist() == [[[0, 0, 0], [0, 0, 0]], [[5, 5, 0], [0, 0, 0]]]
    assert scripts.correct.tolist() == [[-1, -1], [4, -1]]


def test_a_task_of_ones_own_by_hand() -> None:
    env = Doors()
    observation, info = env.reset(seed=1)
    right = info["correct_action"]
    assert observation.tolist() == [0.25, 0, 0, 0]
    picks = [1 - right, right, right, right]
    results = [env.step(np.int64(pick)) for pick in picks]
    assert [result[0][0] for result in results] == [0.25, 0.75, 0.75, 0.75]
    assert [result[0][1 + pick] for result, pick in zip(results, picks, strict=True)] == [1, 1, 1, 1]
    assert [result[0][-1] for result in results] == [1, 0, 1, 1]
    assert [result[1:4] for result in results] == [
        (-2.0, False, False),
        (0.5, False, False),
        (-2.0, False, False),
        (-2.0, False, True),
    ]


def test_a_task_of_ones_own_is_vectorized_too() -> None:
    gym.register("tests/TwoDoors-v0", Doors, vector_entry_point=vectorized(Doors))
    single, native = (
        gym.make_vec("tests/TwoDoors-v0", num_envs=3, vectorization_mode=mode)
        for mode in ("sync", "vector_entry_point")
    )
    assert_same(single.reset(seed=5), native.reset(seed=5))
    rng = np.random.default_rng(0)
    num_ends = np.zeros(2, int)
    for _ in range(100):
        action = rng.integers(2, size=3)
        one, other = single.step(action), native.step(action)
        assert_same(one, other)
        num_ends += [one[2].sum(), one[3].sum()]
    assert (num_ends > 0).all()
