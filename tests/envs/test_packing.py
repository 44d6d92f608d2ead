"""Composed observations at the border: every part arrives as its space says, or is refused by its name."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.envs import EnvFactory, EnvFault, MaskInObservation, PreviousActionReward
from seqrl_lightning.envs.packing import PackedParts, PackedSpace, UnpackedParts
from seqrl_lightning.envs.unvectorized import UnvectorizedEnv
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import ConfigurationError

ACTIONS = gym.spaces.MultiDiscrete([2, 3])


class Scene(gym.Env[Any, Any]):
    """Shows the time in every kind of part, and the combination of actions that was taken."""

    observation_space = gym.spaces.Dict(
        picture=gym.spaces.Box(0, 255, (5, 4), np.uint8),
        inner=gym.spaces.Tuple((gym.spaces.Discrete(7, start=1), gym.spaces.Box(-1, 9, (2,), np.float64))),
        bits=gym.spaces.MultiBinary(3),
        action=ACTIONS,
    )
    action_space: gym.Space[Any] = ACTIONS

    def __init__(self, wrong: tuple[str, Any] | None = None) -> None:
        self.wrong = wrong  # what a part shows in step 3

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.action = 0, np.zeros(2, np.int64)
        return self.look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t, self.action = self.t + 1, np.array(action)
        return self.look(), 1.0, self.t == 6, False, {}

    def look(self) -> dict[str, Any]:
        shown = {
            "picture": np.full((5, 4), 40 * self.t, np.uint8),
            "inner": (1 + self.t, np.array([self.t, -0.5])),
            "bits": np.array([1, 0, self.t % 2], np.int8),
            "action": self.action,
        }
        return {**shown, self.wrong[0]: self.wrong[1]} if self.wrong and self.t == 3 else shown


class Scenes(gym.vector.VectorEnv[Any, Any, Any]):
    """The same, vectorized, with same-step or next-step autoreset."""

    def __init__(self, num_envs: int = 1, mode: str = "NextStep") -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode(mode)}
        self.envs = gym.vector.SyncVectorEnv([Scene] * num_envs, autoreset_mode=mode)
        for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
            setattr(self, name, getattr(self.envs, name))

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.envs.reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        return self.envs.step(actions)


gym.register("tests/Composed-v0", Scene)
gym.register("tests/ComposedVector-v0", vector_entry_point=Scenes)


def shown_at(t: int, action: list[int]) -> dict[str, Any]:
    """The expected parts."""
    return {
        "picture": np.full((5, 4), 40 * t),
        "inner.0": np.eye(7)[t],
        "inner.1": np.array([t, -0.5], np.float32),
        "bits": np.array([1, 0, t % 2]),
        "action": np.concatenate([np.eye(2)[action[0]], np.eye(3)[action[1]]]),
    }


@pytest.mark.parametrize(
    ("env_id", "num_envs", "mode"),
    [
        ("tests/Composed-v0", 1, None),
        ("tests/Composed-v0", 2, None),
        ("tests/Composed-v0", 2, "async"),
        ("tests/ComposedVector-v0", 2, None),
    ],
)
def test_every_part_is_shown_to_the_network(env_id: str, num_envs: int, mode: str | None) -> None:
    factory = EnvFactory(env_id, vectorization_mode=mode)
    facts, envs = factory.read_facts(), factory.make_envs(num_envs)
    assert isinstance(facts.obs_shape, PackedShape)
    assert (facts.obs_dtype, facts.flattened_space, facts.n_actions) == ("uint8", None, 6)
    assert facts.flattened_actions == "MultiDiscrete([2 3])"
    stored = {name: part.dtype for name, part in facts.obs_shape.parts.items()}
    assert stored == dict.fromkeys(stored, "uint8") | {"inner.1": "float32"}
    observation, actions, t = envs.reset(seed=0).observation, np.zeros(num_envs, np.int64), 0
    for step in range(1, 16):
        parts = facts.obs_shape.unpack(observation)
        assert parts.keys() == shown_at(0, [0, 0]).keys()
        for env, action in enumerate(actions.tolist()):
            for name, part in shown_at(t, [action // 3, action % 3] if t else [0, 0]).items():
                np.testing.assert_array_equal(parts[name][env], part, err_msg=name)
        actions = (step + np.arange(num_envs)) % 6
        outcome = envs.step(actions)
        observation, t = outcome.shown.observation, (t + 1) % 7
        assert outcome.terminated.tolist() == [t == 6] * num_envs
    envs.close()


def test_a_final_observation_of_same_step_autoreset_is_packed() -> None:
    final = []
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = PackedParts(UnvectorizedEnv(Scenes(1, mode.value), mode))
        env.reset(seed=0)
        final.append([env.step(np.ones(2, np.int64)) for _ in range(6)][-1])
    assert final[0][2:4] == final[1][2:4] == (True, False)
    np.testing.assert_array_equal(final[0][0], final[1][0])


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("inner", (1, np.array([np.nan, 0.0]))), r"observation\['inner\.1'\]\[0\] is nan; it must be finite"),
        (
            ("inner", (1, np.array([10.0, 0.0]))),
            r"\['inner\.1'\]\[0\] is 10\.0; .* \[-1\.0, 9\.0\] \(agent\.check_bounds: false accepts it",
        ),
        (
            ("inner", (1, np.array([0.0, 1e300]))),
            r"observation\['inner\.1'\]\[1\] is 1e\+300; the space allows \[-1\.0, 9\.0\]",
        ),
        (("inner", (1, np.ma.array([0.0, 1.0], mask=[1, 0]))), r"\['inner'\]\[1\] is masked_array.*may be masked"),
        (("inner", (8, np.zeros(2))), r"\['inner'\]\[0\] is 8; the space allows \[1, 7\]"),
        (("picture", np.zeros((4, 5), np.uint8)), r"\['picture'\].shape is \(4, 5\)"),
        (("picture", np.full((5, 4), 0.5)), r"\['picture'\].dtype is float64"),
        (("bits", np.array([2, 0, 0], np.int8)), r"\['bits'\]\[0\] is 2; the space allows \[0, 1\]"),
        (("more", 1), "must be a dict of"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_part_is_refused_by_its_name(wrong: tuple[str, Any], message: str, num_envs: int) -> None:
    envs = EnvFactory("tests/Composed-v0", {"wrong": wrong, "disable_env_checker": True}).make_envs(num_envs)
    envs.reset(seed=0)
    with pytest.raises(EnvFault, match=message):
        list(map(envs.step, [np.zeros(num_envs, np.int64)] * 3))


def test_finite_values_outside_their_bounds_can_be_accepted() -> None:
    wrong = ("inner", (1, np.array([10.0, 0.0])))
    envs = EnvFactory("tests/Composed-v0", {"wrong": wrong, "disable_env_checker": True}).make_envs(1)
    envs.check_bounds = False
    envs.reset(seed=0)
    for _ in range(3):
        shown = envs.step(np.zeros(1, np.int64)).shown
    space = envs.observation_space
    assert isinstance(space, PackedSpace)
    assert space.layout.unpack(shown.observation)["inner.1"].tolist() == [[10.0, 0.0]]


def test_two_parts_of_one_name_are_refused() -> None:
    one = gym.spaces.Box(0, 1)
    with pytest.raises(ConfigurationError, match=r"two parts that are called 'a\.b'"):
        PackedSpace.of(gym.spaces.Dict({"a.b": one, "a": gym.spaces.Dict(b=one)}))


@pytest.mark.parametrize(("flatten", "has_parts"), [(None, True), (False, True), (True, False)])
def test_flattening_is_a_setting(flatten: bool | None, has_parts: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        data = ReplayDataModule("tests/Composed-v0", flatten_observations=flatten)
    assert isinstance(data.obs_shape, PackedShape) == has_parts
    assert ("have parts: picture uint8(5, 4), " in caplog.text) == has_parts
    assert ("are flattened to (37,)" in caplog.text) == (not has_parts)


@pytest.mark.parametrize(("flatten", "has_parts"), [(None, False), (False, True), (True, False)])
def test_without_a_picture_parts_are_flattened_by_default(flatten: bool | None, has_parts: bool) -> None:
    factory = EnvFactory("Blackjack-v1", flatten_observations=flatten)
    assert isinstance(factory.read_facts().obs_shape, PackedShape) == has_parts


def test_previous_action_and_reward_are_a_part_beside_a_picture() -> None:
    env = PreviousActionReward(gym.make("seqrl/PictureCue-v0"))
    assert env.reset(seed=0)[0]["previous"].tolist() == [0.0] * 5
    observation, reward, *_ = env.step(2)
    assert observation["previous"].tolist() == [0.0, 0.0, 1.0, 0.0, pytest.approx(reward)]
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("frame_stack", [1, 3])
def test_played_by_hand_an_environment_shows_its_parts(frame_stack: int) -> None:
    env = UnpackedParts(EnvFactory("tests/Composed-v0", frame_stack=frame_stack).make_env())
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    observation, *_ = env.step(4)
    assert env.observation_space.contains(observation)
    times = observation["picture"].reshape(frame_stack, -1)[:, 0].tolist()
    assert times == [0] * (frame_stack - 1) + [40]


def test_packing_carries_nothing_from_step_to_step() -> None:
    env = PackedParts(Scene())
    assert env.state_dict() == {}
    env.load_state_dict({})


def test_a_mask_is_no_part() -> None:
    class Masked(Scene):
        observation_space = gym.spaces.Dict(view=Scene.observation_space["picture"], legal=gym.spaces.MultiBinary(6))

        def look(self) -> dict[str, Any]:
            return {"view": super().look()["picture"], "legal": np.arange(6) == self.t}

    gym.register("tests/Masked-v0", Masked)
    factory = EnvFactory("tests/Masked-v0", wrappers=[functools.partial(MaskInObservation, key="legal")])
    shape = factory.read_facts().obs_shape
    assert str(shape) == "view uint8(5, 4)"
    envs = factory.make_envs(2)
    envs.reset(seed=0)
    shown = envs.step(np.zeros(2, np.int64)).shown
    assert shown.action_mask is not None
    assert shown.action_mask.tolist() == [[False, True, False, False, False, False]] * 2
