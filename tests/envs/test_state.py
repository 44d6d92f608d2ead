"""Environments that are set back to where they were."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from seqrl_lightning.envs import Border, EnvFactory, Outcome
from seqrl_lightning.types import BoolArray

CASES = {
    "CartPole-v1": {},
    "Acrobot-v1": {"max_episode_steps": 20},
    "MountainCar-v0": {"max_episode_steps": 15},
    "FrozenLake-v1": {"is_slippery": True},
    "CliffWalking-v1": {"is_slippery": True, "max_episode_steps": 12},
    "Taxi-v4": {"fickle_passenger": True, "max_episode_steps": 11},
    "Blackjack-v1": {},
    "seqrl/Sequence-v0": {"objects": "ABC"},
    "seqrl/SequenceDistractor-v0": {"objects": "ABC"},
}


WRAPPED: dict[str, tuple[Any, ...]] = {
    "stack": (functools.partial(gym.wrappers.FrameStackObservation, stack_size=3),),
    "time": (gym.wrappers.TimeAwareObservation,),
    "transforms": (
        functools.partial(gym.wrappers.TransformReward, func=lambda reward: 2 * reward),
        functools.partial(gym.wrappers.ClipReward, max_reward=1.0),
        functools.partial(gym.wrappers.DtypeObservation, dtype=np.float64),
    ),
}


def make(env_id: str, num_envs: int, mode: str | None) -> Border:
    if env_id in WRAPPED:
        return EnvFactory("CartPole-v1", None, WRAPPED[env_id], vectorization_mode=mode).make_envs(num_envs)
    kwargs: dict[str, Any] = CASES[env_id]
    return EnvFactory(env_id, kwargs, vectorization_mode=mode).make_envs(num_envs)


def play(envs: Border, steps: int, seed: int) -> list[Outcome]:
    """What a blind player sees."""
    actions = np.random.default_rng(seed).integers(envs.n_actions, size=(steps, envs.num_envs))
    return [envs.step(action) for action in actions]


def assert_goes_on_alike(env_id: str, num_envs: int, mode: str | None, tmp_path: Any) -> None:
    envs, others = make(env_id, num_envs, mode), make(env_id, num_envs, mode)
    envs.reset(seed=5)
    for steps in (7, 1, 1, 1):  # at least one of these is an episode's end in some environment
        play(envs, steps, seed=steps)
        torch.save(envs.state_dict(), tmp_path / "state.pt")
        others.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        expected, seen = play(envs, 50, seed=1), play(others, 50, seed=1)
        assert any((outcome.terminated | outcome.truncated).any() for outcome in expected)  # episodes ended
        for one, other in zip(expected, seen, strict=True):
            np.testing.assert_equal(tuple(one), tuple(other))
    envs.close()
    others.close()


@pytest.mark.parametrize("env_id", [*CASES, *WRAPPED])
@pytest.mark.parametrize(("num_envs", "mode"), [(1, None), (3, None), (3, "sync")])
def test_they_go_on_as_if_nothing_had_happened(env_id: str, num_envs: int, mode: str | None, tmp_path: Any) -> None:
    assert_goes_on_alike(env_id, num_envs, mode, tmp_path)


@pytest.mark.parametrize("env_id", ["Blackjack-v1", "Taxi-v4", "stack"])
def test_in_processes_of_their_own(env_id: str, tmp_path: Any) -> None:
    assert_goes_on_alike(env_id, 2, "async", tmp_path)


def test_an_ended_episode_is_followed_by_a_new_one_in_a_worker_process() -> None:
    """The worker's own memory of the end is out of reach: the environment remembers it too."""
    envs = make("seqrl/SequenceDistractor-v0", 2, "async")
    start = envs.reset(seed=1)
    while not (ended := play_once(envs)).any():
        pass
    state = envs.state_dict()
    assert state is not None
    assert [env["ended"] for env in state["envs"]] == ended.tolist()
    envs.load_state_dict(state)
    outcome = envs.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(outcome.shown.observation[ended], start.observation[ended])
    assert (outcome.reward[ended] == 0).all()
    envs.close()


def play_once(envs: Border) -> BoolArray:
    outcome = envs.step(np.zeros(2, np.int64))
    return outcome.terminated | outcome.truncated


def test_what_cant_be_told_is_not_told() -> None:
    class Unknown(gym.Wrapper[Any, Any, Any, Any]):
        pass

    gym.register("tests/UnknownWrapper-v0", lambda: Unknown(gym.make("CartPole-v1")))
    for env_id in ("tests/Diary-v0", "tests/UnknownWrapper-v0"):
        for num_envs in (1, 2):
            envs = EnvFactory(env_id).make_envs(num_envs)
            envs.reset(seed=1)
            assert envs.state_dict() is None


class RunningScale(gym.wrappers.TransformReward[Any, Any]):
    """A wrapper of one's own that remembers something, without a ``state_dict``."""

    def __init__(self, env: Any) -> None:
        self.total = 0.0
        super().__init__(env, self.scaled)

    def scaled(self, reward: Any) -> float:
        self.total += abs(float(reward))
        return float(reward) / (1.0 + self.total)


def remembering(env: Any) -> Any:
    """Gymnasium's own wrapper with a function that remembers something."""
    seen: list[float] = []

    def scaled(reward: Any) -> float:
        seen.append(float(reward))
        return float(reward) / len(seen)

    return gym.wrappers.TransformReward(env, scaled)


@pytest.mark.parametrize("wrapper", [RunningScale, remembering])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_what_a_function_or_a_subclass_remembers_is_unknown(wrapper: Any, num_envs: int) -> None:
    envs = EnvFactory("CartPole-v1", None, (wrapper,)).make_envs(num_envs)
    envs.reset(seed=1)
    assert envs.state_dict() is None


@pytest.mark.parametrize(("kwargs", "is_known"), [({}, True), ({"desc": ["SF", "FG"]}, True), ({"desc": None}, False)])
def test_a_map_that_was_drawn_cant_be_drawn_again(kwargs: dict[str, Any], is_known: bool) -> None:
    envs = EnvFactory("FrozenLake-v1", {"map_name": None, **kwargs} if kwargs else {}).make_envs(1)
    envs.reset(seed=1)
    assert (envs.state_dict() is not None) == is_known
