"""Minigrid and NeuroGym, by one wrapper each; and stand-ins of theirs where they aren't installed."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.env_ids import id_of
from seqrl_lightning.envs import EnvFactory, MinigridParts, NeuroGymTrials
from seqrl_lightning.errors import extra_in
from seqrl_lightning.types import ConfigurationError


class Missions(gym.Space[str]):
    """As ``minigrid.core.mission.MissionSpace``, which doesn't say whether it can be flattened."""

    def __init__(self, mission_func: Callable[..., str], ordered_placeholders: list[list[str]] | None) -> None:
        super().__init__(dtype=str)
        self.mission_func, self.ordered_placeholders = mission_func, ordered_placeholders


class Grid(gym.Env[Any, int]):
    """As a task of Minigrid."""

    action_space = Discrete(7)

    def __init__(self, *missions: Any) -> None:
        space = Missions(*missions) if missions else Text(100)
        parts = {"image": Box(0, 255, (7, 7, 3), np.uint8), "direction": Discrete(4), "mission": space}
        self.observation_space = Dict(parts)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        image = np.zeros((7, 7, 3), np.uint8)
        image[0, 0], image[1, 1] = (10, 5, 3), (5, 1, 2)  # the agent in its last color and direction; a locked key
        return {"image": image, "direction": 2, "mission": "fetch the red ball"}, {}


COLORS_AND_KINDS = (lambda color, kind: f"fetch the {color} {kind}", [["blue", "red"], ["key", "ball", "box"]])


def test_codes_are_spread_and_missions_are_numbered() -> None:
    env = MinigridParts(Grid(*COLORS_AND_KINDS))
    observation, _ = env.reset()
    assert env.observation_space.contains(observation)
    assert isinstance(env.observation_space, Dict)
    assert env.observation_space["mission"] == Discrete(6)
    assert observation["mission"] == 4  # blue key, ball, box, red key, ball
    assert observation["direction"] == 2
    assert observation["image"][0, 0].tolist() == [250, 255, 255]
    assert observation["image"][1, 1].tolist() == [125, 51, 170]


def test_a_task_with_one_mission_shows_none() -> None:
    env = MinigridParts(Grid(lambda: "get to the green goal square", None))
    assert set(env.reset()[0]) == {"image", "direction"}


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (gym.make("CartPole-v1"), "needs Minigrid's image, direction and mission"),
        (Grid(), "can't list the missions"),
        (Grid(lambda *digits: "".join(digits), [list("0123456789")] * 4), "at most 4,096 missions"),
    ],
)
def test_what_has_no_such_parts_is_refused(env: gym.Env[Any, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        MinigridParts(env)


def test_without_the_wrapper_its_name_is_in_the_refusal() -> None:
    task = EnvFactory(id_of(functools.partial(Grid, *COLORS_AND_KINDS)))
    with pytest.raises(ConfigurationError, match=r"observation space of .* must be of a fixed size; .* MinigridParts"):
        task.read_facts()


class Trials(gym.Env[Any, int]):
    """As a task of NeuroGym: trials of three steps, without an end, from a generator that reset() doesn't seed."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self) -> None:
        self.rng = np.random.RandomState(0)

    def seed(self, seed: int | None = None) -> list[int | None]:
        self.rng = np.random.RandomState(seed)
        return [seed]

    def new_trial(self, **kwargs: Any) -> None:
        self._time, self._right = 0, int(self.rng.choice(2))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.new_trial()
        return self.step(0)[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        info = {"new_trial": self._time == 3, "gt": np.int64(self._right if self._time > 1 else 0)}
        observation = np.array([2 * self._right - 1], np.float32)
        if info["new_trial"]:
            self.new_trial()
        return observation, float(info["new_trial"]), False, False, info


def played(env: gym.Env[Any, Any], seed: int, trials: int = 5) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    for trial in range(trials):
        observation, _ = env.reset(seed=seed if trial == 0 else None)
        seen.append((np.asarray(observation).tolist(),))
        ends = False
        while not ends:
            observation, reward, ends, truncated, info = env.step(0)
            assert info["correct_action"] == info["gt"]
            seen.append((np.asarray(observation).tolist(), float(reward), ends, truncated, int(info["correct_action"])))
    return seen


def test_a_trial_is_an_episode_and_the_same_seed_gives_the_same_trials() -> None:
    env = NeuroGymTrials(Trials())
    seen = played(env, 2**40)  # a larger seed than NumPy's old generator takes
    assert [row[2] for row in seen if len(row) > 1] == [False, True] * 5
    assert all(row[4] == (row[0][0] > 0) for row in seen if len(row) > 1)
    assert played(env, 2**40) == seen
    assert played(env, 1, 20) != played(env, 2, 20)


def test_what_has_no_trials_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs a task of NeuroGym"):
        NeuroGymTrials(gym.make("CartPole-v1"))


def test_what_is_missing_is_named_with_what_installs_it() -> None:
    assert extra_in("No module named 'minigrid'").endswith('pip install "seqrl-lightning[minigrid]"')
    assert extra_in("No module named 'neurogym'").endswith("&& pip install --no-deps neurogym")


def test_minigrid() -> None:
    constants = pytest.importorskip("minigrid.core.constants", reason="needs the extra minigrid")
    sizes = (len(constants.OBJECT_TO_IDX), len(constants.COLOR_TO_IDX), len(constants.STATE_TO_IDX) + 1)
    assert sizes == (11, 6, 4), "the codes that MinigridParts spreads over 0 to 255; the agent's state is its direction"
    for task, missions in (("MiniGrid-Empty-5x5-v0", 1), ("MiniGrid-GoToDoor-5x5-v0", 6)):
        data = ReplayDataModule(f"minigrid:{task}", wrappers=[MinigridParts], num_envs=2)
        shapes = {name: part.shape for name, part in data.obs_shape.parts.items()}  # type: ignore[attr-defined]
        assert shapes.pop("mission", (1,)) == (missions,)
        assert shapes == {"image": (7, 7, 3), "direction": (4,)}


def test_neurogym() -> None:
    pytest.importorskip("neurogym", reason="needs NeuroGym")
    seen = played(NeuroGymTrials(gym.make("DelayMatchSample-v0")), 3, trials=10)
    assert played(NeuroGymTrials(gym.make("DelayMatchSample-v0")), 3, trials=10) == seen
    answers = {row[4] for row in seen if len(row) > 1 and row[2]}  # at the end of a trial
    assert answers == {1, 2}
    data = ReplayDataModule("neurogym:GoNogo-v0", wrappers=[NeuroGymTrials], num_envs=2)
    assert data.tells_correct_action
