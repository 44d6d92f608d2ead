"""The border: what Gymnasium allows becomes the package's own arrays, and the rest is refused in a line."""

import collections
import decimal
import fractions
import itertools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrl_lightning.envs import EnvFactory, EnvFault, Outcome, Shown
from seqrl_lightning.envs.faults import EnvValueError
from seqrl_lightning.envs.infos import as_mask, masks_per_env, values_per_env
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.signals import EndedBySignal, Terminated
from seqrl_lightning.types import ConfigurationError
from tests.envs.lights import Light, assert_same, play

MODES = [(1, None), (3, None), (2, "async")]  # environments, and how they are vectorized


class Bent(gym.Wrapper[Any, Any, Any, Any]):
    """The same environment, which returns other types that Gymnasium allows."""

    def __init__(
        self,
        env: gym.Env[Any, Any],
        observation: Callable[[Any], Any] = lambda value: value,
        reward: Callable[[Any], Any] = float,
        flag: Callable[[Any], Any] = bool,
        mask: Callable[[Any], Any] = np.array,
        label: Callable[[Any], Any] = int,
        more: dict[str, Any] | None = None,
        kind: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        reuses: bool = True,
    ) -> None:
        super().__init__(env)
        self.bends = observation, reward, flag, mask, label
        self.more, self.kind, self.reuses = more or {}, kind, reuses
        self.buffer: Any = None
        self.info: dict[str, Any] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self.shown(observation), self.told(info)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        _, bend_reward, bend_flag, *_ = self.bends
        return (
            self.shown(observation),
            bend_reward(reward),
            bend_flag(terminated),
            bend_flag(truncated),
            self.told(info),
        )

    def shown(self, observation: Any) -> Any:
        bent = self.bends[0](observation)
        if self.reuses and isinstance(bent, np.ndarray) and bent.flags.writeable:  # in the same memory each time
            self.buffer = bent.copy() if self.buffer is None else self.buffer
            self.buffer[...] = bent
            return self.buffer
        return bent

    def told(self, info: dict[str, Any]) -> dict[str, Any]:
        *_, mask, label = self.bends
        if self.reuses:
            self.info.clear()  # what was told before is gone
        self.info = self.info if self.reuses else {}
        told = self.info
        told.update(self.more)
        if not info["action_mask"].all() or mask is np.array:  # a mask that forbids nothing may be left out
            told["action_mask"] = mask(info["action_mask"])
        told.update(correct_action=label(info["correct_action"]), block=label(info["block"]))
        return self.kind(told)

    def close(self) -> None:
        raise RuntimeError("optional parts of the API may raise")


def as_object(value: Any) -> Any:
    return np.array(value, object)


class Own(np.ndarray[Any, Any]):
    """A subclass of arrays, which doesn't compare as they do."""

    def __eq__(self, other: object) -> Any:
        raise TypeError("own arrays have an order of their own")


def read_only(value: Any) -> Any:
    array = np.array(value)
    array.flags.writeable = False
    return array


SCALARS: list[Callable[[Any], Any]] = [
    *(np.array, np.float32, np.float64, np.longdouble, lambda value: [value], lambda value: np.array([[value]])),
    *(as_object, torch.tensor, read_only),
]
BENDS = {
    "observation": st.sampled_from(
        [
            *(np.array, list, tuple, np.ndarray.tolist, torch.tensor, read_only, memoryview),
            *(lambda value, kind=kind: value.astype(kind) for kind in ("f8", ">f4", np.longdouble)),
            *(
                lambda value: np.repeat(value, 3)[::3],
                lambda value: value.view(Own),
                lambda value: [*map(np.array, value)],
            ),
        ]
    ),
    "reward": st.sampled_from([float, int, fractions.Fraction, decimal.Decimal, np.int8, *SCALARS]),
    "flag": st.sampled_from([bool, int, float, np.int8, np.bool_, *SCALARS]),
    "mask": st.sampled_from(
        [
            *(np.array, list, tuple, torch.tensor, read_only, np.ma.array),
            *(lambda mask, kind=kind: mask.astype(kind) for kind in (bool, float, "u1", "i8")),
        ]
    ),
    "label": st.sampled_from(
        [int, np.int64, np.int8, np.uint8, np.array, lambda value: np.array([value]), as_object, torch.tensor]
    ),
    "more": st.sampled_from(
        [
            {},
            {"note": "text", "block_of": object(), 3: print},
            {"x": {"deep": [1, 2]}, "episode": {"r": 1.0, "l": 2}, "_episode": True, "TimeLimit.truncated": False},
            dict.fromkeys(("final_obs", "final_info", "_final_obs", "_block", "_action_mask", "task_reward"), "own"),
            dict.fromkeys(("final_obs", "final_info", "_correct_action", "_task_reward"), np.arange(3)),
        ]
    ),
    "kind": st.sampled_from([dict, collections.OrderedDict, lambda told: collections.defaultdict(list, told)]),
    "reuses": st.booleans(),
}


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(bends=st.fixed_dictionaries(BENDS), num_envs=st.sampled_from([1, 3]), frame_stack=st.sampled_from([1, 2]))
@pytest.mark.filterwarnings("ignore")
def test_environments_that_are_the_same_by_gymnasium_are_the_same_here(
    bends: dict[str, Any], num_envs: int, frame_stack: int
) -> None:
    straight = EnvFactory("tests/Light-v0", frame_stack=frame_stack).make_envs(num_envs)
    bent = EnvFactory("tests/Light-v0", None, [lambda env: Bent(env, **bends)], frame_stack).make_envs(num_envs)
    expected, seen = play(straight), play(bent)
    for one, other in zip(expected, seen, strict=True):
        assert_same(one, other)
    assert len({id(outcome.shown.observation) for outcome in seen[1:]}) == len(seen) - 1  # in memory of their own
    bent.discard()


@pytest.mark.parametrize(("num_envs", "mode"), MODES)
def test_arrays_are_of_the_packages_own_types(num_envs: int, mode: str | None) -> None:
    envs = EnvFactory("tests/Light-v0", vectorization_mode=mode).make_envs(num_envs)
    for outcome in play(envs)[1:]:
        assert [array.dtype.name for array in outcome[1:]] == ["float64", "float64", "bool", "bool"]
        assert [array.dtype.name for array in outcome.shown] == ["float32", "bool", "int64", "int64"]
        assert [len(array) for array in (*outcome[1:], *outcome.shown)] == [num_envs] * 8
    envs.close()


def factory_of(env_class: type[gym.Env[Any, Any]], **settings: Any) -> EnvFactory:
    env_id = f"tests/{env_class.__name__}-v0"
    if env_id not in gym.registry:
        gym.register(env_id, env_class)
    return EnvFactory(env_id, **settings)


# Observations


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        *(("float16", "float32"), ("float32", "float32"), ("float64", "float32"), ("bool", "uint8")),
        *((name, name) for name in ("uint8", "int8", "int16", "int32", "int64")),
        *(("uint16", "int32"), ("uint32", "int64")),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("frame_stack", [1, 2])
@pytest.mark.parametrize("made", [np.array, list, lambda values: values.astype(np.int64), lambda values: values > 0])
@pytest.mark.filterwarnings("ignore")
def test_every_dtype_that_a_box_may_have(dtype: str, stored: str, made: Any, frame_stack: int, num_envs: int) -> None:
    class Typed(Light):
        observation_space = gym.spaces.Box(0, 1, (2,), np.dtype(dtype).type)

        def look(self) -> tuple[Any, dict[str, Any]]:
            super().look()
            return made(np.array([1, 0], dtype)), {}

    gym.register("tests/Typed-v0", Typed)
    factory = EnvFactory("tests/Typed-v0", frame_stack=frame_stack)
    observation = factory.make_envs(num_envs).reset(seed=0).observation
    assert observation.dtype.name == stored == factory.read_facts().obs_dtype
    assert observation.tolist() == [[1, 0] if frame_stack == 1 else [[1, 0]] * frame_stack] * num_envs


class FloatPicture(Light):
    observation_space = gym.spaces.Box(0, 255, (2, 2, 1), np.uint8)

    def look(self) -> tuple[Any, dict[str, Any]]:
        super().look()
        return np.full((2, 2, 1), 0.9, np.float32), {}


class Late(Light):
    """An environment whose outputs are wrong from the second step of an episode on."""

    wrong: Any = None
    forbids = False

    def look(self) -> tuple[Any, dict[str, Any]]:
        observation, _ = super().look()
        return (observation if self.t < 2 else self.wrong), {}


def late(wrong: Any, space: gym.Space[Any] | None = None) -> type[Late]:
    fields = {"wrong": wrong} if space is None else {"wrong": wrong, "observation_space": space}
    return type("Late", (Late,), fields)


@pytest.mark.parametrize(("num_envs", "mode"), [(1, None), (2, "sync"), (2, "async")])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(3, np.float32), r"^observation\.shape is \(3,\); it must be \(2,\), as its space says$"),
        (np.array(["a", "b"]), r"^observation\.dtype is .*U1; it must be float32, as its space says$"),
        ([[1.0], [1.0, 2.0]], "^observation is .*, which is no array: setting an array element"),
        (np.array([np.nan, 0], np.float32), r"^observation\[0\] is nan; it must be finite$"),
        (np.array([0.7, 1e300]), r"^observation\[1\] is 1e\+300; the space allows \[-0\.7, 0\.7\]$"),
        (np.array([-np.inf, 1e300]), r"^observation\[0\] is -inf; it must be finite$"),
        (torch.zeros(2, requires_grad=True), r"^observation is tensor\(.*, which is no array: Can't call numpy\(\) on"),
        (np.ma.array([0.7, 0.1], mask=[0, 1]), r"^observation is masked_array.*; none of its values may be masked$"),
        (
            np.array([0, 0.8]),
            r"^observation\[1\] is 0\.8; the space allows \[-0\.7, 0\.7\] \(agent\.check_bounds: false accepts it\)$",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_observations_that_cannot_be_taken_are_named(wrong: Any, message: str, num_envs: int, mode: str | None) -> None:
    gym.register("tests/Late-v0", late(wrong))
    envs = EnvFactory("tests/Late-v0", vectorization_mode=mode).make_envs(num_envs)
    with pytest.raises(EnvFault, match=message) as refusal:
        play(envs)
    assert refusal.value.env == 0
    assert "\n" not in refusal.value.reason
    envs.discard()


@pytest.mark.parametrize(("num_envs", "frame_stack"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-np.inf, np.inf, (2,), np.float64),
        gym.spaces.Dict(x=gym.spaces.Box(-np.inf, 1e301, (2,), np.float64)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_floats_beyond_float32_are_refused_as_what_they_are(
    space: gym.Space[Any], num_envs: int, frame_stack: int
) -> None:
    large = np.array([0, -1e300])
    wrong = {"x": large} if isinstance(space, gym.spaces.Dict) else large
    gym.register("tests/Large-v0", type("Large", (Late,), {"observation_space": space, "look": lambda _: (wrong, {})}))
    envs = EnvFactory("tests/Large-v0", frame_stack=frame_stack).make_envs(num_envs)
    line = r"^observation\[.*1\] is -1e\+300; the space allows \[-3\.4028235e\+38, 3\.4028235e\+38\]$"
    with pytest.raises(EnvFault, match=line):
        play(envs)
    envs.discard()


@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_unmasked_array_of_masked_kind_is_an_array(num_envs: int) -> None:
    wrappers = [lambda env: Bent(env, *[np.ma.array] * 5)]
    bent = EnvFactory("tests/Light-v0", wrappers=wrappers).make_envs(num_envs)
    for one, other in zip(play(EnvFactory("tests/Light-v0").make_envs(num_envs)), play(bent), strict=True):
        assert_same(one, other)


def test_floats_under_a_space_of_integers_are_refused_before_training() -> None:
    with pytest.raises(ConfigurationError, match=r"reset\(\) fails: observation\.dtype is float32; it must be uint8"):
        factory_of(FloatPicture).read_facts()


@pytest.mark.parametrize("frame_stack", [1, 2])
@pytest.mark.parametrize(("value", "made"), [(300, list), (-1, list), (300, np.uint16), (-1, np.int8)])
@pytest.mark.filterwarnings("ignore")
def test_integers_that_do_not_fit_are_refused(value: int, made: Any, frame_stack: int) -> None:
    class Large(Light):
        observation_space = gym.spaces.Box(0, 255, (2,), np.uint8)

        def look(self) -> tuple[Any, dict[str, Any]]:
            super().look()
            return made([0, value]), {}

    gym.register("tests/Large-v0", Large)
    with pytest.raises(ConfigurationError, match=rf"observation\[1\] is {value}; the space allows \[0, 255\]"):
        EnvFactory("tests/Large-v0", frame_stack=frame_stack).read_facts()


class Place(Light):
    """Discrete or composed observations: where it is, and the time."""

    def __init__(self, composed: str = "") -> None:
        place, time = gym.spaces.Discrete(4), gym.spaces.Box(0, 9, (1,), np.float32)
        spaces = {"Dict": gym.spaces.Dict(place=place, time=time), "Tuple": gym.spaces.Tuple((place, time))}
        self.composed = composed
        self.observation_space = spaces.get(composed, place)

    def look(self) -> tuple[Any, dict[str, Any]]:
        super().look()
        place, time = self.t % 4, np.array([self.t], np.float32)
        return {"Dict": {"place": place, "time": time}, "Tuple": (place, time)}.get(self.composed, place), {}


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("composed", ["", "Dict", "Tuple"])
def test_composed_observations_are_flattened_before_they_are_stacked(composed: str, num_envs: int) -> None:
    factory = factory_of(Place, env_kwargs={"composed": composed}, frame_stack=3)
    size = 5 if composed else 4
    facts = factory.read_facts()
    assert (facts.obs_shape, facts.flattened_space is None) == ((3, size), False)
    envs = factory.make_envs(num_envs)
    envs.reset(seed=0)
    envs.step(np.zeros(num_envs, np.int64))
    stack = envs.step(np.zeros(num_envs, np.int64)).shown.observation
    assert stack[:, :, :4].argmax(-1).tolist() == [[0, 1, 2]] * num_envs


class ArrayOfParts(Light):
    """A Tuple whose parts come as one array, which Gymnasium's Tuple contains."""

    observation_space = gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.Discrete(2)))
    forbids = False
    as_array = True

    def look(self) -> tuple[Any, dict[str, Any]]:
        super().look()
        parts = (self.t % 3, self.t % 2)
        return np.array(parts) if self.as_array else parts, {}


@pytest.mark.parametrize(("num_envs", "mode"), MODES)
def test_a_tuple_may_be_an_array(num_envs: int, mode: str | None) -> None:
    assert ArrayOfParts.observation_space.contains(np.array([2, 1]))
    arrays = play(factory_of(ArrayOfParts, vectorization_mode=mode).make_envs(num_envs))
    tuples = play(factory_of(type("Tuples", (ArrayOfParts,), {"as_array": False})).make_envs(num_envs))
    assert len(arrays) == len(tuples)
    np.testing.assert_array_equal(arrays[0].observation, tuples[0].observation)
    for one, other in zip(arrays[1:], tuples[1:], strict=True):
        np.testing.assert_array_equal(one.shown.observation, other.shown.observation)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict({}),
        gym.spaces.Tuple(()),
        gym.spaces.Dict(a=gym.spaces.Dict({}), b=gym.spaces.Discrete(2)),
        gym.spaces.Dict(a=gym.spaces.Tuple(()), p=gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)),
    ],
    ids=str,
)
def test_a_space_without_parts_is_refused(space: gym.Space[Any]) -> None:
    env = type("Partless", (Light,), {"observation_space": space, "look": lambda self: (space.sample(), {})})
    gym.register("tests/Partless-v0", env, disable_env_checker=True)
    with pytest.raises(ConfigurationError, match=r"the observation space of .* it must be a space with a part in each"):
        EnvFactory("tests/Partless-v0").read_facts()


class SameArray(Light):
    """It writes into the same array each time, and into its argument."""

    observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
    forbids = False

    def __init__(self, starts: list[int]) -> None:
        self.shown, self.start = np.zeros(1, np.float32), starts.pop()

    def look(self) -> tuple[Any, dict[str, Any]]:
        super().look()
        self.shown[0] = self.start + self.t
        return self.shown, {}


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("is_wrapper", [False, True])
def test_arrays_and_arguments_may_be_written_into_again(num_envs: int, is_wrapper: bool) -> None:
    stack = {"wrappers": [lambda env: gym.wrappers.FrameStackObservation(env, 3)]} if is_wrapper else {"frame_stack": 3}
    envs = factory_of(SameArray, env_kwargs={"starts": [3, 1]}, **stack).make_envs(num_envs)
    envs.reset(seed=0)
    envs.step(np.zeros(num_envs, np.int64))
    assert envs.step(np.zeros(num_envs, np.int64)).shown.observation[:, :, 0].tolist() == [[1, 2, 3]] * num_envs


# Rewards and flags


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (1e39, r"the reward is 1e\+39; it must be a number that float32 can hold"),
        (float("nan"), "the reward is nan"),
        (None, "the reward is None; it must be a number"),
        ("1", "the reward is '1'; it must be a number"),
        (np.zeros(2), r"the reward is array\(\[0., 0.\]\); it must be a number"),
        (np.timedelta64(1, "s"), r"the reward is np.timedelta64\(1,'s'\); it must be a number"),
        (torch.ones(1, requires_grad=True), r"the reward is tensor\(.*, which is no array: Can't call numpy\(\) on"),
        (np.ma.masked, "the reward is masked; none of its values may be masked"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_rewards_that_cannot_be_taken_are_named(reward: Any, message: str, num_envs: int) -> None:
    factory = EnvFactory("tests/Light-v0", wrappers=[lambda env: Bent(env, reward=lambda _: reward)])
    envs = factory.make_envs(num_envs)
    with pytest.raises(EnvFault, match=message):
        play(envs)


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("kind", [fractions.Fraction, decimal.Decimal, lambda reward: np.array(reward, object)])
@pytest.mark.filterwarnings("ignore")
def test_every_real_number_is_a_reward(kind: Callable[[Any], Any], num_envs: int) -> None:
    bent = EnvFactory("tests/Light-v0", wrappers=[lambda env: Bent(env, reward=kind)]).make_envs(num_envs)
    for one, other in zip(play(EnvFactory("tests/Light-v0").make_envs(num_envs)), play(bent), strict=True):
        assert_same(one, other)


class Paying(Light):
    def __init__(self, reward: Any) -> None:
        self.reward = reward

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, _, *outcome = super().step(0)
        return (observation, self.reward, *outcome)  # type: ignore[return-value]


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("reward", [2**64, -(10**30), decimal.Decimal(10**30)])
def test_a_large_number_is_a_reward_from_the_first_step_on(reward: Any, num_envs: int) -> None:
    outcomes = play(factory_of(Paying, env_kwargs={"reward": reward}).make_envs(num_envs), steps=5)[1:]
    assert [outcome.reward.tolist() for outcome in outcomes] == [[float(reward)] * num_envs] * 5


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_number_that_is_too_large_is_refused_from_the_first_step_on(num_envs: int) -> None:
    factory = factory_of(Paying, env_kwargs={"reward": 10**400})
    with pytest.raises(EnvFault, match="the reward is inf; it must be a number"):
        play(factory.make_envs(num_envs), steps=1)


@pytest.mark.filterwarnings("ignore")
def test_a_flag_is_true_or_false() -> None:
    for flag, line in ((2, "2; it must be True or False"), (np.ma.masked, "masked; none of its values may be masked")):
        factory = EnvFactory("tests/Light-v0", wrappers=[lambda env, flag=flag: Bent(env, flag=lambda _: flag)])
        with pytest.raises(EnvFault, match=f"terminated is {line}"):
            play(factory.make_envs(1))


@pytest.mark.parametrize("num_envs", [1, 3])
def test_returns_are_those_of_the_tasks_own_reward(num_envs: int) -> None:
    def clipped(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return gym.wrappers.ClipReward(env, 0.0, 0.5)

    outcomes = play(EnvFactory("tests/Light-v0", wrappers=[clipped]).make_envs(num_envs))[1:]
    plain = play(EnvFactory("tests/Light-v0").make_envs(num_envs))[1:]
    for outcome, own in zip(outcomes, plain, strict=True):
        np.testing.assert_array_equal(outcome.task_reward, own.reward)
        np.testing.assert_array_equal(outcome.reward, own.reward.clip(0, 0.5))
    assert any((outcome.task_reward == 2).any() for outcome in outcomes)


# Action masks


class Sometimes(Light):
    """A mask is told while something is forbidden; at the end of an episode nothing is allowed."""

    how: Any = np.array

    def look(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super().look()
        mask = np.zeros(3, np.int8) if self.t == 6 else info["action_mask"]
        return observation, {} if mask.all() else {"action_mask": self.how(mask)}


class SometimesAList(Sometimes):
    how = list


@pytest.mark.parametrize(("num_envs", "mode"), MODES)
@pytest.mark.parametrize("env_class", [Sometimes, SometimesAList])
def test_a_step_without_a_mask_forbids_nothing(env_class: Any, num_envs: int, mode: str | None) -> None:
    factory = factory_of(env_class, vectorization_mode=mode)
    seen = [item if isinstance(item, Shown) else item.shown for item in play(factory.make_envs(num_envs))]
    has_told = False
    for shown in seen:
        is_red, is_end = shown.observation[:, 0] > 0, np.isclose(shown.observation[:, 1], 0.6)
        has_told |= bool((is_red | is_end).any())
        assert (shown.action_mask is not None) == has_told
        if shown.action_mask is not None:
            expected = np.ones((num_envs, 3), bool)
            expected[is_red & ~is_end, 2] = False
            np.testing.assert_array_equal(shown.action_mask, expected)
    assert has_told


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 1], r"info\['action_mask'\] is \[1, 1\]; it must be 3 numbers, one for each action"),
        ([[1, 1, 1]], r"info\['action_mask'\] is \[\[1, 1, 1\]\]; it must be 3 numbers"),
        ("110", r"info\['action_mask'\] is '110'; it must be 3 numbers"),
        ([0.0, float("-inf"), 0.0], r"info\['action_mask'\] is \[0.0, -inf, 0.0\]; each number must be 0 or 1"),
        ([1, float("nan"), 1], r"info\['action_mask'\] is \[1, nan, 1\]; each number must be 0 or 1"),
        ([1, 2, 0], r"info\['action_mask'\] is \[1, 2, 0\]; each number must be 0 or 1"),
        (np.array([1, -1, 1]), r"info\['action_mask'\] is array\(\[.*\]\); each number must be 0 or 1"),
        (np.ma.array([1, 1, 0], mask=[0, 1, 0]), r"info\['action_mask'\] is masked_array.*; none of its values may be"),
        ([0, 0, 0], r"info\['action_mask'\] allows no action, and the episode continues"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_masks_that_cannot_be_taken_are_named(mask: Any, message: str, num_envs: int) -> None:
    envs = EnvFactory("tests/Light-v0", wrappers=[lambda env: Bent(env, mask=lambda _: mask)]).make_envs(num_envs)
    with pytest.raises(EnvFault, match=message):
        play(envs)


# Labels


def test_labels_with_another_meaning_are_left_alone() -> None:
    for label, number in itertools.product(
        (
            "L",
            np.array([1, 2]),
            1.5,
            None,
            7,
            -1,
            True,
            [1],
            as_object("L"),
            as_object(1.5),
            torch.ones(1),
            torch.ones(1, requires_grad=True),
            np.ma.masked,
        ),
        (1, 2),
    ):
        envs = EnvFactory("tests/Light-v0", wrappers=[lambda env, x=label: Bent(env, label=lambda _: x)])
        facts = envs.read_facts()
        assert (facts.num_blocks, facts.tells_correct_action) == (0, type(label) is int and label == -1)
        for outcome in play(envs.make_envs(number))[1:]:
            assert outcome.shown.block is None


def test_a_number_of_blocks_without_blocks_means_something_else() -> None:
    class BlocksWorld(Light):
        num_blocks = 5

        def look(self) -> tuple[Any, dict[str, Any]]:
            return super().look()[0], {}

    assert factory_of(BlocksWorld).read_facts().num_blocks == 0


def test_a_count_beyond_all_tables_means_something_else() -> None:
    names = ("num_positions", "num_objects", "num_symbols", "num_contexts", "num_blocks")
    facts = TaskFacts.of(type("Many", (Light,), dict.fromkeys(names, 10**9))())
    assert facts == TaskFacts()


@pytest.mark.parametrize("note", ["own", np.arange(5), {}, [1, 2], np.array([0.5, 1]), object(), torch.ones(2)])
def test_a_note_of_which_environments_have_a_label_may_mean_something_else(note: Any) -> None:
    class Noted(Clock):
        num_blocks = 2

        def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return super().reset(seed=seed)[0], self.told()

        def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            return (*super().step(actions)[:-1], self.told())  # type: ignore[return-value]

        def told(self) -> dict[str, Any]:
            return {"block": self.right, "_block": note, "_correct_action": note, "correct_action": note}

    gym.register("tests/Noted-v0", vector_entry_point=Noted)
    for outcome in play(EnvFactory("tests/Noted-v0", {"mode": "NextStep"}).make_envs(3))[1:]:
        np.testing.assert_array_equal(outcome.shown.block, outcome.shown.observation[:, 0] % 2)
        assert outcome.shown.correct_action is None


@pytest.mark.parametrize(
    ("value", "fact"), [(9, 9.0), (10**400, None), (float("nan"), None), ("high", None), (True, None)]
)
def test_a_best_return_is_a_finite_number(value: Any, fact: float | None) -> None:
    facts = TaskFacts.of(type("Best", (Light,), {"optimal_return": value, "memoryless_return": value})())
    assert (facts.mastery_return, facts.memoryless_return) == (fact, fact)


class Forgetful(Light):
    """Tells the right action in some steps only."""

    def look(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super().look()
        return observation, info if self.t in (1, 2) else {"action_mask": info["action_mask"]}


@pytest.mark.parametrize(("num_envs", "mode"), MODES)
def test_a_key_that_is_missing_in_a_step_is_missing_in_that_step_only(num_envs: int, mode: str | None) -> None:
    factory = factory_of(Forgetful, vectorization_mode=mode)
    assert factory.read_facts().tells_correct_action
    start, *outcomes = play(factory.make_envs(num_envs))
    assert start.correct_action is None
    for outcome in outcomes:
        time, is_red = (outcome.shown.observation[:, 1] * 10).round(), outcome.shown.observation[:, 0] > 0
        expected = np.where((time == 1) | (time == 2), np.where(is_red, 1, 2), -1)
        np.testing.assert_array_equal(outcome.shown.correct_action, expected)


# Vector environments


class Clock(VectorEnv[Any, Any, Any]):
    """Three steps, 1 each, then the end. It writes into the same arrays at each step."""

    metadata: dict[str, Any] = {}

    def __init__(self, num_envs: int = 1, mode: str | None = None) -> None:
        self.num_envs = num_envs
        self.metadata = {} if mode is None else {"autoreset_mode": AutoresetMode(mode)}
        self.mode = mode
        self.single_observation_space = gym.spaces.Box(0, 3, (1,), np.float32)
        self.single_action_space = gym.spaces.Discrete(2)
        self.observation_space, self.action_space = (
            batch_space(space, num_envs) for space in (self.single_observation_space, self.single_action_space)
        )
        self.t = np.zeros(num_envs, int)
        self.shown = np.zeros((num_envs, 1), np.float32)
        self.right = np.zeros(num_envs, np.int64)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.t[:] = 0
        if seed is not None:
            self.t[:] = (seed + np.arange(self.num_envs)) % 3  # not all at the same time
        return self.look(), {"correct_action": self.right}

    def look(self) -> Any:
        self.shown[:, 0], self.right[:] = self.t, self.t % 2
        return self.shown

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self.mode == AutoresetMode.DISABLED.value:
            assert (self.t < 3).all(), "stepped after the end"
        if self.mode == AutoresetMode.NEXT_STEP.value:
            restarting = self.t == 3
            self.t = np.where(restarting, 0, self.t + 1)
            ended, reward = self.t == 3, np.where(restarting, 0.0, 1.0)
            return self.look(), reward, ended, np.zeros(self.num_envs, bool), {"correct_action": self.right}
        self.t += 1
        ended, infos = self.t == 3, {}
        if self.mode == AutoresetMode.SAME_STEP.value and ended.any():
            infos = {"final_obs": [np.array([3.0], np.float32) if e else None for e in ended], "final_info": {}}
            self.t[ended] = 0
        observation = self.look()
        return observation, np.ones(self.num_envs), ended, ~ended & False, {**infos, "correct_action": self.right}


gym.register("tests/Clock-v0", vector_entry_point=Clock)


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
@pytest.mark.parametrize("num_envs", [1, 4])
def test_every_autoreset_mode_shows_whole_episodes(mode: str, num_envs: int) -> None:
    envs = EnvFactory("tests/Clock-v0", {"mode": mode}).make_envs(num_envs)
    shown = envs.reset(seed=0)
    time, was_end = np.arange(num_envs) % 3, np.zeros(num_envs, bool)
    seen = []
    for _ in range(12):
        np.testing.assert_array_equal(shown.observation[:, 0], time)
        outcome = envs.step(np.zeros(num_envs, np.int64))
        time = np.where(was_end, 0, time + 1)
        np.testing.assert_array_equal(outcome.reward, np.where(was_end, 0.0, 1.0))
        was_end = time == 3
        np.testing.assert_array_equal(outcome.terminated, was_end)
        shown = outcome.shown
        seen.append(outcome)
    starts = [outcome.shown.correct_action[outcome.shown.observation[:, 0] == 1] for outcome in seen]
    assert all((start == 1).all() for start in starts)  # the arrays that it writes into again are not shared


def test_an_undeclared_autoreset_mode_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match=r"data\.autoreset_mode is None; .* NextStep, SameStep, Disabled,"):
        EnvFactory("tests/Clock-v0").make_envs(2)
    EnvFactory("tests/Clock-v0", autoreset_mode="Disabled").make_envs(2)
    with pytest.raises(ConfigurationError, match=r"data\.autoreset_mode is 'Sometimes'; it must be one of"):
        EnvFactory("tests/Clock-v0", autoreset_mode="Sometimes")


# What is refused


class Quitting(Light):
    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        raise SystemExit(0)


class OldReset(Light):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class NoSeed(Light):
    def reset(self) -> Any:  # type: ignore[override]  # as users write it
        return super().reset()


class Endless(Light):
    observation_space = gym.spaces.Sequence(gym.spaces.Discrete(2))


class Unmade(Light):
    def __init__(self) -> None:
        raise SystemExit("no license")


class NoEnv:
    """A class that has everything but the base class."""


class Needing(Light):
    def __init__(self, size: int) -> None:
        self.size = size


class Blind(Light):
    def step(self, action: Any) -> Any:
        return None, *super().step(action)[1:]


@pytest.mark.parametrize(
    ("env_class", "message"),
    [
        (Quitting, r"data.env_id is 'tests/Quitting-v0', whose step\(\) fails: it called sys.exit\(0\)"),
        (OldReset, r"whose reset\(\) fails: .*it must return \(observation, info\)|was not a tuple"),
        (NoSeed, r"whose reset\(\) fails: .*unexpected keyword argument 'seed'"),
        (Endless, r"the observation space of tests/Endless-v0 is .*Sequence.*; it must be of a fixed size"),
        (Unmade, r"data.env_id is 'tests/Unmade-v0', which can't be made: SystemExit\('no license'\)"),
        (NoEnv, r"data.env_id is 'tests/NoEnv-v0', which can't be made: .*must inherit from the gymnasium.Env class"),
        (Needing, r"data.env_kwargs is \{\}, which tests/Needing-v0 refuses: .*missing 1 required .* 'size'"),
        (Blind, r"whose step\(\) fails: observation is None; it must be float32\(2,\), as its space says"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_environments_that_cannot_enter_are_named(env_class: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        factory_of(env_class).read_facts()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("differs", ["observation", "action"])
def test_environments_that_differ_are_named(differs: str, mode: str, tmp_path: Path) -> None:
    class Growing(Light):
        def __init__(self, folder: str) -> None:
            size = 2 + len(list(Path(folder).iterdir()))
            Path(folder, str(size)).touch()  # seen by the other processes, too
            if differs == "observation":
                self.observation_space = gym.spaces.Box(-1, 1, (size,), np.float32)
            else:
                self.action_space = gym.spaces.Discrete(size)

    gym.register("tests/GrowingSpace-v0", Growing)
    with pytest.raises(
        ConfigurationError, match=r"^data\.env_id is 'tests/GrowingSpace-v0'; it must be one with the same"
    ):
        EnvFactory("tests/GrowingSpace-v0", {"folder": str(tmp_path)}, vectorization_mode=mode).make_envs(3)


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        ("NormalizeObservation", "evaluation would show other observations than training.*RescaleObservation"),
        ("NormalizeReward", "the same reward would be stored with another scale each time.*TransformReward"),
    ],
)
def test_wrappers_that_learn_their_scale_are_refused(wrapper: str, reason: str) -> None:
    single, vector = getattr(gym.wrappers, wrapper), getattr(gym.wrappers.vector, wrapper)
    reason = f"around {{}}, which learns its scale in each environment by itself: {reason}"
    for refused in (single, type("MyScale", (single,), {})):
        line = f"data.wrappers has {refused.__name__} {reason.format('tests/Light-v0')}"
        with pytest.raises(ConfigurationError, match=line):
            EnvFactory("tests/Light-v0", wrappers=[refused]).make_envs(1)
    gym.register("tests/ScaledInside-v0", lambda: single(Light()))
    line = f"The task's entry point has {wrapper} {reason.format('tests/ScaledInside-v0')}"
    for wrappers in ([], [gym.wrappers.TimeAwareObservation]):
        with pytest.raises(ConfigurationError, match=line):
            EnvFactory("tests/ScaledInside-v0", wrappers=wrappers).make_envs(1)
    gym.register("tests/Scaled-v0", vector_entry_point=lambda num_envs: vector(Clock(num_envs, "NextStep")))
    line = f"The vectorized implementation has {wrapper} {reason.format('tests/Scaled-v0')}"
    with pytest.raises(ConfigurationError, match=line):
        EnvFactory("tests/Scaled-v0").make_envs(2)


def test_what_starts_differently_from_the_same_seed_is_known() -> None:
    class Restless(Light):
        starts = 0

        def look(self) -> tuple[Any, dict[str, Any]]:
            super().look()
            self.starts += 1
            return np.array([0.0, 1 / self.starts], np.float32) / 2, {}

    gym.register("tests/Restless-v0", Restless)
    assert EnvFactory("tests/Restless-v0").read_facts().unrepeated == "tests/Restless-v0"
    assert EnvFactory("tests/Light-v0").read_facts().unrepeated is None


class OwnScale(gym.ObservationWrapper[Any, Any, Any]):
    """Divides by the largest value that it has seen."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.largest = 0.01

    def observation(self, observation: Any) -> Any:
        self.largest = max(self.largest, float(np.abs(observation).max()))
        return observation * np.float32(0.7 / self.largest)


class ScaleFromSteps(gym.Wrapper[Any, Any, Any, Any]):
    """Counts what it has seen in steps only, and shows the count."""

    num_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation / np.float32(1 + self.num_steps), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.num_steps += 1
        observation, *outcome, info = self.env.step(action)
        return (observation / np.float32(1 + self.num_steps), *outcome, info)  # type: ignore[return-value]


class OwnRewardScale(gym.Wrapper[Any, Any, Any, Any]):
    """Divides rewards by their number so far."""

    num_steps = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.num_steps += 1
        observation, reward, *outcome = self.env.step(action)
        return (observation, (1 + float(reward)) / self.num_steps, *outcome)  # type: ignore[return-value]


class LateRewardScale(OwnRewardScale):
    """The same, with rewards at an episode's end only."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward * (terminated or truncated), terminated, truncated, info


@pytest.mark.parametrize(
    ("wrapper", "unrepeated"),
    [
        (OwnScale, "data.wrappers"),
        (LateRewardScale, "data.wrappers"),
        (OwnRewardScale, "data.wrappers"),
        (ScaleFromSteps, "data.wrappers"),
        (lambda env: gym.wrappers.TimeLimit(env, 3), None),
        (lambda env: gym.wrappers.RescaleObservation(env, np.float32(0), np.float32(1)), None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrappers_that_carry_something_over_a_reset_are_known(wrapper: Any, unrepeated: str | None) -> None:
    class Rising(Light):
        observation_space = gym.spaces.Box(-0.7, 0.7, (2,), np.float32)

        def look(self) -> tuple[Any, dict[str, Any]]:
            _, info = super().look()
            return np.array([0.1, self.t / 10], np.float32), info

    gym.register("tests/Rising-v0", Rising)
    assert EnvFactory("tests/Rising-v0", wrappers=[wrapper]).read_facts().unrepeated == unrepeated


def test_a_single_environment_keeps_what_else_it_tells() -> None:
    env = EnvFactory("tests/Light-v0", wrappers=[lambda env: Bent(env, more={"note": "text"}, mask=list)]).make_env()
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.float32
    assert info["note"] == "text"
    observation, reward, terminated, truncated, info = env.step(0)
    assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]


def test_outcomes_are_typed() -> None:
    assert Outcome._fields == ("shown", "reward", "task_reward", "terminated", "truncated")


PARTS: list[tuple[gym.Space[Any], Any, str]] = [
    (
        gym.spaces.Dict(x=gym.spaces.Box(0, 255, (2,), np.uint8)),
        {"x": np.array([0.5, 0.25])},
        r"observation\['x'\]\.dtype is",
    ),
    (
        gym.spaces.Dict(x=gym.spaces.Box(0, 255, (2,), np.uint8)),
        {"x": [300, 0]},
        r"\['x'\]\[0\] is 300; the space allows \[0, 255\]",
    ),
    (gym.spaces.Dict(x=gym.spaces.Box(0, 1, (2,))), {"x": np.zeros(3)}, r"observation\['x'\]\.shape is \(3,\)"),
    (
        gym.spaces.Dict(x=gym.spaces.MultiBinary(2)),
        {"x": np.array([0.5, 0.5])},
        r"\['x'\] is .*must be in MultiBinary\(2\)",
    ),
    (gym.spaces.Dict(x=gym.spaces.Discrete(2)), {"y": 1}, "keys is not same as|it must be a dict of x"),
    (gym.spaces.Tuple([gym.spaces.Discrete(2)] * 2), (1,), "length is not same as|it must be a tuple of 2"),
    (gym.spaces.Discrete(4), -1, r"observation is -1; the space allows \[0, 3\]"),
    (gym.spaces.Discrete(4), 2.0, r"observation is 2.0; it must be in Discrete\(4\)"),
    (gym.spaces.MultiDiscrete([3, 3]), np.array([0, 4]), r"observation\[1\] is 4; the space allows \[0, 2\]"),
    (gym.spaces.MultiDiscrete([3, 3]), np.array([0, -1]), r"observation\[1\] is -1; the space allows \[0, 2\]"),
]


@pytest.mark.parametrize(("space", "wrong", "message"), PARTS, ids=lambda value: str(value)[:40])
@pytest.mark.filterwarnings("ignore")
def test_parts_are_checked_before_they_are_flattened(space: gym.Space[Any], wrong: Any, message: str) -> None:
    env = type("Part", (Late,), {"observation_space": space, "look": lambda self: (wrong, {})})
    gym.register("tests/Part-v0", env)
    with pytest.raises(ConfigurationError, match=message):
        EnvFactory("tests/Part-v0").read_facts()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (np.full(4, "False"), r"terminated is <U5\(4,\); it must be 4 numbers"),
        (np.full(4, 2), r"terminated is \[2 2 2 2\]; it must be True or False"),
        (np.ma.array([0] * 4, mask=[0, 0, 1, 0]), r"terminated is masked_array.*; none of its values may be masked"),
        (np.ones(4, bool), "an episode ends in the step after the end of another, which is to start it"),
    ],
)
def test_flags_of_vector_environments_are_flags(flags: Any, message: str) -> None:
    class Always(Clock):
        def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            observation, reward, _, truncated, infos = super().step(actions)
            return observation, reward, flags, truncated, infos

    gym.register("tests/Always-v0", vector_entry_point=Always)
    envs = EnvFactory("tests/Always-v0", {"mode": "NextStep"}).make_envs(4)
    envs.reset()
    with pytest.raises(EnvFault, match=message):
        list(map(envs.step, [np.zeros(4, np.int64)] * 3))


@pytest.mark.parametrize("signaled", [Terminated(143), EndedBySignal(0)])
def test_a_signal_is_no_fault_of_an_environment(signaled: EndedBySignal) -> None:
    class Signaled(Light):
        def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
            if self.t == 2:
                raise signaled
            return super().step(action)

    envs = factory_of(Signaled).make_envs(1)
    with pytest.raises(EndedBySignal):
        play(envs)


def test_a_mask_of_any_length_at_an_end_is_none() -> None:
    class Empty(Light):
        def look(self) -> tuple[Any, dict[str, Any]]:
            observation, info = super().look()
            return observation, {"action_mask": []} if self.t == 6 else info

    for num_envs in (1, 2):
        for outcome in play(factory_of(Empty).make_envs(num_envs))[1:]:
            assert outcome.shown.action_mask[outcome.terminated].all()


@pytest.mark.parametrize(
    ("states", "line"),
    [
        (
            {"next_block": property(lambda self: 1 / 0)},
            "whose next_block or block_of raises ZeroDivisionError: division by zero; they must have a value",
        ),
        ({"block_of": lambda self, n: 1 / 0}, r"^.*whose block_of\(0\) raises ZeroDivisionError: .* a block, 0 to 1$"),
        ({"block_of": lambda self, n: 2}, r"whose block_of\(0\) returns 2; it must return a block, 0 to 1$"),
        ({"block_of": lambda self, n: None}, r"whose block_of\(0\) returns None; it must return a block, 0 to 1$"),
        ({"block_of": lambda self, n: sys.exit(0)}, r"whose block_of\(0\) raises SystemExit: 0; it must return"),
    ],
)
def test_what_a_task_states_about_its_blocks_is_a_block(states: dict[str, Any], line: str) -> None:
    task = type("Told", (Light,), {"next_block": None, "block_of": lambda self, n: 0, **states})
    gym.register("tests/Told-v1", task)
    with pytest.raises(ConfigurationError, match=line) as refusal:
        EnvFactory("tests/Told-v1").read_facts()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(
    ("getter", "reason"),
    [
        (lambda self: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda self: self.none, "AttributeError: .*'none'"),
        (lambda self: sys.exit(0), "SystemExit: 0"),
    ],
)
@pytest.mark.parametrize("name", ["num_blocks", "optimal_return", "num_positions", "num_objects", "order_by_block"])
def test_an_attribute_that_raises_is_ignored_and_named(name: str, getter: Any, reason: str, num_envs: int) -> None:
    gym.register("tests/Raising-v0", type("Raising", (Light,), {name: property(getter)}))
    factory = EnvFactory("tests/Raising-v0")
    with pytest.warns(UserWarning, match=f"^{name} of tests/Raising-v0 is ignored, as it raises {reason}"):
        facts, task_facts = factory.read_facts(), TaskFacts.of(factory.task)
    assert getattr(task_facts, name, None) in (None, 1)
    assert facts.num_blocks == (0 if name == "num_blocks" else 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for outcome in play(factory.make_envs(num_envs))[1:]:
            assert (outcome.shown.block is None) == (name == "num_blocks")


class Switchboard(Clock):
    """A vector environment whose observations have parts."""

    wrong: Any = None
    parts: gym.Space[Any] = gym.spaces.Dict(
        place=gym.spaces.Discrete(4),
        lights=gym.spaces.MultiDiscrete([2, 3]),
        level=gym.spaces.Box(0, 255, (1,), np.uint8),
    )

    def __init__(self, num_envs: int = 1, mode: str | None = None) -> None:
        super().__init__(num_envs, mode)
        self.single_observation_space = self.parts
        self.observation_space = batch_space(self.parts, num_envs)

    def look(self) -> Any:
        super().look()
        shown = {
            "place": self.t,
            "lights": np.stack([self.t % 2, self.t % 3], 1),
            "level": self.t[:, None].astype("u1"),
        }
        return {**shown, **(self.wrong or {})}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, *outcome, infos = super().step(actions)
        if "final_obs" in infos:
            final = {"place": 3, "lights": np.array([1, 0]), "level": np.array([3], np.uint8)}
            infos["final_obs"] = [None if one is None else final for one in infos["final_obs"]]
        return (observation, *outcome, infos)  # type: ignore[return-value]


@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_parts_of_vector_environments_are_flattened(mode: str) -> None:
    gym.register("tests/Switchboard-v0", vector_entry_point=Switchboard)
    envs = EnvFactory("tests/Switchboard-v0", {"mode": mode}).make_envs(4)
    shown = envs.reset(seed=0)
    time, was_end = np.arange(4) % 3, np.zeros(4, bool)
    for _ in range(12):
        place, lights = np.eye(4)[time], (np.eye(2)[time % 2], np.eye(3)[time % 3])
        np.testing.assert_array_equal(shown.observation, np.concatenate([place, *lights, time[:, None]], axis=1))
        shown = envs.step(np.zeros(4, np.int64)).shown
        time = np.where(was_end, 0, time + 1)
        was_end = time == 3


@pytest.mark.parametrize(
    ("wrong", "line", "env"),
    [
        ({"place": np.array([0, 4])}, r"^observation\['place'\] is 4; the space allows \[0, 3\]$", 1),
        ({"place": np.array([0.0, 1.0])}, r"^observation\['place'\] is array.*; it must be in MultiDiscrete", None),
        ({"lights": np.array([[0, 0], [1, 3]])}, r"^observation\['lights'\]\[1\] is 3; the space allows \[0, 2\]$", 1),
        ({"lights": np.array([0, 0])}, r"^observation\['lights'\] is array\(\[0, 0\]\); it must be in Box\(0, ", None),
        ({"level": np.array([[0.5], [1]])}, r"^observation\['level'\]\.dtype is float64; it must be uint8", None),
        ({"level": np.array([[0], [256]])}, r"^observation\['level'\]\[0\] is 256; the space allows \[0, 255\]$", 1),
        ({"more": 1}, "^observation is {.*; it must be a dict of place, lights, level$", None),
    ],
)
def test_parts_of_vector_environments_are_checked(wrong: dict[str, Any], line: str, env: int | None) -> None:
    gym.register("tests/Wrong-v0", vector_entry_point=type("Wrong", (Switchboard,), {"wrong": wrong}))
    with pytest.raises(EnvFault, match=line) as refusal:
        EnvFactory("tests/Wrong-v0", {"mode": "NextStep"}).make_envs(2).reset(seed=0)
    assert refusal.value.env == env


def test_masked_values_of_vector_environments_are_missing_labels() -> None:
    labels, masks = np.ma.array([1, 0, 1], mask=[0, 1, 0]), np.ma.array(np.ones((3, 2)), mask=[[0, 0], [0, 1], [0, 0]])
    stated = values_per_env({"block": labels}, "block", 3)
    assert stated is not None
    np.testing.assert_array_equal(stated[1], [True, False, True])
    rows = masks_per_env({"action_mask": masks}, 3)
    assert rows is not None
    with pytest.raises(EnvValueError, match="none of its values may be masked"):
        [as_mask(row, (2,)) for row in rows[0]]
