"""Vector environments at the border: each autoreset mode shows what single environments show, bit for bit."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrl_lightning.envs import EnvFactory, EnvFault
from seqrl_lightning.envs.stacking import StackedVectorEnv
from seqrl_lightning.envs.state import layers
from seqrl_lightning.envs.wrappers import ScaleReward
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import ConfigurationError
from tests.envs.lights import Lights, assert_same, play

MODES = list(AutoresetMode)


def objects(values: Any) -> Any:
    """An array of objects, one for each environment."""
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def objects_in_arrays(values: Any) -> Any:
    """An array of objects, each in an array without dimensions."""
    return objects([np.array(value, object) for value in values])


class BentVector(VectorWrapper[Any, Any, Any, Any, Any]):
    """The same environments, which return other types that Gymnasium allows, in the same memory each time."""

    def __init__(
        self,
        envs: Any,
        observation: Callable[[Any], Any],
        reward: Callable[[Any], Any],
        flag: Callable[[Any], Any],
        mask: str,
        label: Callable[[Any], Any],
        more: dict[str, Any],
    ) -> None:
        super().__init__(envs)
        self.bends, self.mask, self.more = (observation, reward, flag, label), mask, more
        self.buffer: Any = None
        self.infos: dict[str, Any] = {}
        self.was_end = np.zeros(envs.num_envs, bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observation, infos = self.env.reset(seed=seed, options=options)
        self.was_end[:] = False
        return self.shown(observation), self.told(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions.copy())
        actions[:] = 0
        _, bend_reward, bend_flag, _ = self.bends
        reward = np.where(self.was_end, 7.0, reward) if self.env.metadata["autoreset_mode"] == MODES[0] else reward
        self.was_end = terminated | truncated
        flags = bend_flag(terminated.copy()), bend_flag(truncated.copy())
        return self.shown(observation), bend_reward(reward.copy()), *flags, self.told(infos)

    def shown(self, observation: Any) -> Any:
        bent = self.bends[0](observation.copy())
        if isinstance(bent, np.ndarray):
            self.buffer = bent.copy() if self.buffer is None else self.buffer
            self.buffer[...] = bent
            return self.buffer
        return bent

    def told(self, infos: dict[str, Any]) -> dict[str, Any]:
        self.infos.clear()
        self.infos.update({**self.bent_infos(infos), **self.more})
        if "final_obs" in infos:
            self.infos.update(
                final_obs=list(infos["final_obs"]),
                _final_obs=infos["_final_obs"],
                final_info=self.bent_infos(infos["final_info"]),
            )
        return self.infos

    def bent_infos(self, infos: dict[str, Any]) -> dict[str, Any]:
        bent = {key: value for key, value in infos.items() if key in ("_block", "_correct_action")}
        bent.update({key: self.bends[3](infos[key]) for key in ("block", "correct_action")})
        masks, is_told = infos["action_mask"], infos["_action_mask"] & ~infos["action_mask"].all(1)
        if self.mask in ("arrays", "tensors"):
            rows = masks if self.mask == "arrays" else torch.from_numpy(masks)
            return {**bent, "action_mask": rows, "_action_mask": infos["_action_mask"]}
        rows = [row.tolist() if told else None for row, told in zip(masks, is_told, strict=True)]
        if self.mask == "lists":
            return {**bent, "action_mask": [row or [1, 1, 1] for row in rows], "_action_mask": is_told.tolist()}
        return {**bent, "action_mask": objects(rows)} if is_told.any() else bent

    def state_dict(self) -> dict[str, Any]:
        return {"was_end": self.was_end.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.was_end = state["was_end"].numpy().copy()


BENDS = {
    "observation": st.sampled_from(
        [
            *(np.array, list, tuple, np.ndarray.tolist, torch.tensor, np.asfortranarray),
            *(lambda values, kind=kind: values.astype(kind) for kind in ("f8", ">f4")),
        ]
    ),
    "reward": st.sampled_from(
        [
            *(np.array, list, tuple, objects, objects_in_arrays, torch.tensor),
            *(lambda values, kind=kind: values.astype(kind) for kind in ("f4", "i8", "i1", np.longdouble)),
        ]
    ),
    "flag": st.sampled_from(
        [
            *(np.array, list, tuple, objects, objects_in_arrays, torch.tensor),
            *(lambda values, t=dtype: values.astype(t) for dtype in ("i8", "i1", "f4")),
        ]
    ),
    "mask": st.sampled_from(["arrays", "tensors", "lists", "objects"]),
    "label": st.sampled_from(
        [np.array, list, tuple, objects, torch.tensor, lambda values: values.astype(np.int8), objects_in_arrays]
    ),
    "more": st.sampled_from(
        [
            *({}, {"task_reward": 77.0}, {"task_reward": ["easy"] * 3}, {"note": [None]}, {"final_info": None}),
            {"episode": {"r": np.zeros(3)}, "_episode": np.ones(3, bool), 3: print},
        ]
    ),
}


def bent_lights(num_envs: int, mode: str, bends: dict[str, Any]) -> Any:
    return BentVector(Lights(num_envs, AutoresetMode(mode)), **bends)


gym.register("tests/BentLights-v0", vector_entry_point=bent_lights)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(bends=st.fixed_dictionaries(BENDS), mode=st.sampled_from(MODES), num_envs=st.sampled_from([1, 3]))
@pytest.mark.filterwarnings("ignore")
def test_vector_environments_show_what_single_ones_show(
    bends: dict[str, Any], mode: AutoresetMode, num_envs: int
) -> None:
    expected = play(EnvFactory("tests/Light-v0").make_envs(num_envs))
    seen = play(EnvFactory("tests/BentLights-v0", {"mode": mode.value, "bends": bends}).make_envs(num_envs))
    for one, other in zip(expected, seen, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_they_go_on_bit_for_bit_from_every_moment(mode: AutoresetMode, num_envs: int, tmp_path: Any) -> None:
    bends = {"observation": list, "reward": objects, "flag": objects, "mask": "objects", "label": list, "more": {}}
    factory = EnvFactory("tests/BentLights-v0", {"mode": mode.value, "bends": bends})
    whole, zeros = play(factory.make_envs(num_envs)), np.zeros(num_envs, np.int64)
    for k in range(1, 12):
        envs, others = factory.make_envs(num_envs), factory.make_envs(num_envs)
        last = play(envs, k)[-1]
        assert_same(last, whole[k])
        torch.save(envs.state_dict(), tmp_path / "state.pt")
        others.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        others.remember(last.shown, last.terminated | last.truncated)
        for _ in range(10):
            assert_same(envs.step(zeros), others.step(zeros))


def level(num_envs: int, mode: str) -> Any:
    return Levels(num_envs, AutoresetMode(mode))


class Levels(SyncVectorEnv):
    """Each reset starts the next level, which is shown. Four steps."""

    class Level(gym.Env[Any, Any]):
        observation_space = gym.spaces.Discrete(100)
        action_space = gym.spaces.Discrete(2)
        level = 0

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self.level, self.t = self.level + 1, 0
            return self.level, {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.t += 1
            return self.level, 1.0, self.t == 4, False, {}

    def __init__(self, num_envs: int, mode: AutoresetMode) -> None:
        super().__init__([self.Level] * num_envs, autoreset_mode=mode)


gym.register("tests/Levels-v0", vector_entry_point=level)


@pytest.mark.parametrize("mode", MODES)
def test_every_reset_is_an_episode_that_the_learner_sees(mode: AutoresetMode) -> None:
    envs = EnvFactory("tests/Levels-v0", {"mode": mode.value}).make_envs(2)
    envs.reset(seed=0)
    shown = [envs.step(np.zeros(2, np.int64)).shown.observation.argmax(1).tolist() for _ in range(15)]
    assert shown == [[k, k] for k in (1, 1, 1, 1, *[2] * 5, *[3] * 5, 4)]


@pytest.mark.parametrize("mode", MODES)
def test_a_vectorized_task_takes_wrappers_and_is_a_single_environment(mode: AutoresetMode) -> None:
    wrappers = [lambda env: gym.wrappers.ClipReward(env, 0, 0.5)]
    factory = EnvFactory("tests/VectorLights-v0", {"mode": mode.value}, wrappers, frame_stack=2)
    plain = EnvFactory("tests/Light-v0", None, wrappers, frame_stack=2)
    for one, other in zip(play(plain.make_envs(2)), play(factory.make_envs(2)), strict=True):
        assert_same(one, other)
    assert isinstance(factory.task, Lights)
    env, twin = factory.make_env(), plain.make_env()
    assert_same(env.reset(seed=1)[0], twin.reset(seed=1)[0])
    assert_same(env.step(0)[:4], twin.step(0)[:4])


def test_stacks_and_clipped_rewards_of_n_at_once_are_those_of_each() -> None:
    wrappers = [lambda env: gym.wrappers.ClipReward(env, 0, 0.5)]
    factory = EnvFactory("tests/VectorLights-v0", {"mode": "NextStep"}, wrappers, 3, "vector_entry_point")
    singles = EnvFactory("tests/Light-v0", None, wrappers, frame_stack=3)
    for one, other in zip(play(factory.make_envs(2)), play(singles.make_envs(2)), strict=True):
        assert_same(one, other)


class Three(Lights):
    """Three environments, whatever is asked for."""

    def __init__(self, num_envs: int, mode: AutoresetMode) -> None:
        super().__init__(3, mode)


def three(num_envs: int, mode: str) -> Any:
    return Three(num_envs, AutoresetMode(mode))


gym.register("tests/Three-v0", vector_entry_point=three)


def test_a_fixed_number_of_environments_is_named() -> None:
    factory = EnvFactory("tests/Three-v0", {"mode": "NextStep"})
    assert factory.read_facts().n_actions == 3
    assert factory.make_envs(3).num_envs == 3
    with pytest.raises(ConfigurationError, match=r"^data\.num_envs is 2; it must be 3, .* that tests/Three-v0 makes"):
        factory.make_envs(2)
    with pytest.raises(ConfigurationError, match=r"that tests/Three-v0 makes is 3; it must be 1 where 1 is asked for"):
        EnvFactory("tests/Three-v0", {"mode": "SameStep"}).make_envs(3)


def wrong(num_envs: int, key: str, value: Any) -> Any:
    class Wrong(Lights):
        def step(self, actions: Any) -> Any:
            *outcome, infos = super().step(actions)
            return (*outcome, {**infos, key: value} if key else value)

    return Wrong(num_envs, AutoresetMode.NEXT_STEP)


gym.register("tests/WrongLights-v0", vector_entry_point=wrong)


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("", None, "^the infos are None; they must be a dict$"),
        ("action_mask", [1, 0, 1], r"^info\['action_mask'\] is \[1, 0, 1\]; it must have 2 rows, one for each env"),
        ("action_mask", np.ones((2, 4)), r"^info\['action_mask'\] is .*; it must be 3 numbers, one for each action$"),
        ("action_mask", np.full((2, 3), 0.5), r"^info\['action_mask'\] is .*; each number must be 0 or 1$"),
        ("action_mask", [[1, 1, 1], [1, 1]], r"^info\['action_mask'\] is \[1, 1\]; it must be 3 numbers"),
    ],
)
def test_infos_that_cannot_be_taken_are_named(key: str, value: Any, line: str) -> None:
    envs = EnvFactory("tests/WrongLights-v0", {"key": key, "value": value}).make_envs(2)
    envs.reset(seed=0)
    with pytest.raises(EnvFault, match=line):
        envs.step(np.zeros(2, np.int64))


def test_same_step_environments_tell_how_an_episode_ended() -> None:
    class Silent(Lights):
        def step(self, actions: Any) -> Any:
            *outcome, infos = super().step(actions)
            return (*outcome, {key: value for key, value in infos.items() if key != "final_obs"})

    gym.register("tests/Silent-v0", vector_entry_point=lambda num_envs: Silent(num_envs, AutoresetMode.SAME_STEP))
    with pytest.raises(EnvFault, match=r"^info\['final_obs'\] is None; it must hold the observation with which an"):
        play(EnvFactory("tests/Silent-v0").make_envs(1))


def test_stacks_of_n_environments_at_once_are_restored() -> None:
    factory = EnvFactory("seqrl/NBack-v0", {}, (), 3, "vector_entry_point")
    envs, rng = factory.make_envs(2), np.random.default_rng(0)
    envs.reset(seed=3)
    for _ in range(7):
        envs.step(rng.integers(0, envs.n_actions, 2))
    state = copy.deepcopy(envs.state_dict())
    assert state is not None
    actions = rng.integers(0, envs.n_actions, (30, 2))
    expected = [envs.step(a).shown.observation.copy() for a in actions]
    other = factory.make_envs(2)
    other.reset(seed=4)
    other.load_state_dict(state)
    np.testing.assert_array_equal([other.step(a).shown.observation.copy() for a in actions], expected)
    stack = next(layer for layer in layers(other.envs) if isinstance(layer, StackedVectorEnv))
    with pytest.raises(StateError, match=r"the stacked observations' frames"):
        stack.load_state_dict({"frames": torch.zeros(2, 3, 1), "ended": torch.zeros(2, dtype=torch.bool)})


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_changed_rewards_are_checked_and_a_reset_earns_none(mode: str) -> None:
    clip = partial(gym.wrappers.ClipReward, min_reward=0.5, max_reward=0.8)
    envs = EnvFactory("CartPole-v1", None, [clip], 1, mode).make_envs(2)
    envs.reset(seed=0)
    outcomes = [envs.step(np.zeros(2, np.int64)) for _ in range(30)]
    ended = np.stack([o.terminated for o in outcomes])
    rewards = np.stack([o.reward for o in outcomes])
    assert ended.any()
    np.testing.assert_array_equal(rewards[1:], np.where(ended[:-1], 0.0, 0.8))
    envs = EnvFactory("CartPole-v1", None, [partial(ScaleReward, factor=1e300)], 1, mode).make_envs(2)
    envs.reset(seed=0)
    with pytest.raises(EnvFault, match=r"the reward is 1e\+300; it must be a number that float32 can hold"):
        envs.step(np.zeros(2, np.int64))
