"""Environments that are set back to where they were."""

import functools
import itertools
import math
from collections import deque
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from gymnasium.wrappers import vector as vector_wrappers
from numpy import clip

from seqrl_lightning.envs import Border, EnvFactory, Outcome, PreviousActionReward
from seqrl_lightning.envs.derived import own_attributes, set_own_attributes
from seqrl_lightning.envs.memoryless import has_no_memory
from seqrl_lightning.envs.recall import RecallEnv
from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.state import env_state, set_env_state
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.saved_state import StateError
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
    "tests/Growing-v0": {},
    "tests/GrowingTogether-v0": {},
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
    """The view of a blind player."""
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
@pytest.mark.parametrize(("num_envs", "mode"), [(1, None), (3, None), pytest.param(3, "sync", marks=pytest.mark.slow)])
def test_they_go_on_as_if_nothing_had_happened(env_id: str, num_envs: int, mode: str | None, tmp_path: Any) -> None:
    assert_goes_on_alike(env_id, num_envs, mode, tmp_path)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("env_id", ["Blackjack-v1", "Taxi-v4", "stack", "tests/Growing-v0"])
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


class Drifting(PreviousActionReward):
    """The package's wrapper, which remembers more than the package knows."""

    num_steps = 0

    def step(self, action: Any) -> Any:
        self.num_steps += 1
        return super().step(action)


def drifting_function(env: Any) -> Any:
    """A plain function that remembers something all the same."""
    return gym.wrappers.TransformReward(env, counted)


def counted(reward: Any) -> float:
    COUNTS.append(reward)
    return float(reward) / len(COUNTS)


COUNTS: list[float] = []


@pytest.mark.parametrize("wrapper", [RunningScale, remembering, Drifting, drifting_function])
@pytest.mark.parametrize("num_envs", [1, 2])
def test_what_a_function_or_a_subclass_remembers_is_unknown(wrapper: Any, num_envs: int) -> None:
    envs = EnvFactory("CartPole-v1", None, (wrapper,)).make_envs(num_envs)
    envs.reset(seed=1)
    assert envs.state_dict() is None


def test_a_subclass_that_tells_its_own_state_is_known() -> None:
    class Told(Drifting):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "num_steps": self.num_steps}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            self.num_steps = state_dict["num_steps"]

    envs, others = (EnvFactory("CartPole-v1", None, (Told,)).make_envs(2) for _ in range(2))
    envs.reset(seed=1)
    play(envs, 20, seed=1)
    state = envs.state_dict()
    assert state is not None
    others.load_state_dict(state)
    for one, other in zip(play(envs, 50, seed=2), play(others, 50, seed=2), strict=True):
        np.testing.assert_equal(tuple(one), tuple(other))
    assert str(envs.state_dict()) == str(others.state_dict())


class Growing(RecallEnv):
    """A task of one's own: what it draws, and what a step earns, depends on much that it keeps in its attributes."""

    def __init__(self) -> None:
        self.drawn = self.num_steps = 0
        self.recent: deque[int] = deque(maxlen=3)
        self.by_start: dict[tuple[int, str], set[int]] = {}
        self.scale, self.seen = np.float32(1), np.zeros(3, np.int16)
        super().__init__(length=8)
        self.action_space = gym.spaces.Discrete(4)

    def draw(self, rng: np.random.Generator) -> Script:
        script = super().draw(rng)
        self.drawn += 1
        self.recent.append(int(rng.integers(5)))
        self.seen = np.append(self.seen, self.drawn)[-3:]
        self.scale *= np.float32(1.01)
        self.by_start.setdefault((self.drawn % 3, "start"), set()).add(self.recent[0])
        numbers = (*self.recent, *map(len, self.by_start.values()), int(self.seen[0]), int(1e5 * self.scale))
        return script._replace(correct=np.where(script.correct < 0, -1, (script.correct + sum(numbers)) % 4))

    def step(self, action: Any) -> Any:
        self.num_steps += 1
        observation, reward, *rest = super().step(action)
        self._correct.reverse()  # a list that the base class looks up
        return observation, reward + self.num_steps % 2 + self.rule.reward_wrong + self.action_space.n, *rest


class GrowingTogether(Growing):
    """Without a step of its own, which isn't called where all environments are stepped at once."""

    step = RecallEnv.step


class OfAModule(RecallEnv):
    """It remembers something in a list of its module."""

    def draw(self, rng: np.random.Generator) -> Script:
        COUNTS.append(1)
        return super().draw(rng)


class OfItsClass(RecallEnv):
    counts: ClassVar[list[int]] = []

    def draw(self, rng: np.random.Generator) -> Script:
        self.counts.append(1)
        return super().draw(rng)


class OfItsType(RecallEnv):
    num_drawn = 0

    def draw(self, rng: np.random.Generator) -> Script:
        type(self).num_drawn += 1
        return super().draw(rng)


class OfAnotherStream(RecallEnv):
    def __init__(self) -> None:
        self.stream = np.random.default_rng(0)
        super().__init__()

    def draw(self, rng: np.random.Generator) -> Script:
        return super().draw(self.stream)


class OfTheGlobalStream(RecallEnv):
    def draw(self, rng: np.random.Generator) -> Script:
        np.random.random()  # noqa: NPY002  (as it is written)
        return super().draw(rng)


class OfTorchsStream(RecallEnv):
    def draw(self, rng: np.random.Generator) -> Script:
        torch.empty(1).normal_()
        return super().draw(rng)


class Counting:
    """A mixin."""

    def count(self) -> None:
        COUNTS.append(1)


class OfAMixin(RecallEnv, Counting):
    def draw(self, rng: np.random.Generator) -> Script:
        self.count()
        return super().draw(rng)


class OfTheActionSpace(RecallEnv):
    def __init__(self) -> None:
        super().__init__()
        self.action_space.seed(3)

    def step(self, action: Any) -> Any:
        self.action_space.sample()
        return super().step(action)


class OfTheObservationSpace(RecallEnv):
    def step(self, action: Any) -> Any:
        space = self.observation_space
        space.sample()
        return super().step(action)


class OfASpaceByName(RecallEnv):
    def step(self, action: Any) -> Any:
        getattr(self, "action_space").sample()  # noqa: B009  (as it is written)
        return super().step(action)


def sampled(task: RecallEnv) -> Any:
    return task.action_space.sample()


class OfASpaceByAFunction(RecallEnv):
    def step(self, action: Any) -> Any:
        sampled(self)
        return super().step(action)


class OfSpawnedStreams(RecallEnv):
    def draw(self, rng: np.random.Generator) -> Script:
        return super().draw(rng.spawn(1)[0])


class OfItsMetadata(RecallEnv):
    def draw(self, rng: np.random.Generator) -> Script:
        self.metadata["drawn"] = True
        return super().draw(rng)


class OfAnInheritedObject(RecallEnv):
    def step(self, action: Any) -> Any:
        self.scripts.correct[0] += 1
        return super().step(action)


class OfAnObjectsMethod(RecallEnv):
    def step(self, action: Any) -> Any:
        self.scripts.write(0, self.draw(self.np_random))
        return super().step(action)


class OfAnInheritedName(RecallEnv):
    def __init__(self) -> None:
        super().__init__()
        self.letters = itertools.count()  # type: ignore[assignment]  # as users write it


class OfACallable(RecallEnv):
    """A method that is an object, which may remember anything."""

    num_blocks = functools.cached_property(lambda self: COUNTS.append(1) or 1)  # type: ignore[assignment,func-returns-value]


class OfADeletedName(RecallEnv):
    def __init__(self) -> None:
        super().__init__()
        self.is_first = True

    def step(self, action: Any) -> Any:
        if self._last_pick < 0:
            del self.is_first
        return super().step(action)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.is_first = True
        return super().reset(seed=seed, options=options)


class Holding(RecallEnv):
    """A task with attributes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.hold()

    def hold(self) -> None:
        """Set them."""


class OfOneListTwice(Holding):
    def hold(self) -> None:
        self.seen = [0]
        self.rows = {"a": self.seen, 3: ([self.seen],)}


class OfAPartOfAnArray(Holding):
    def hold(self) -> None:
        self.whole = np.zeros(10)
        self.part = self.whole[:5]


class OfAnInheritedList(Holding):
    def hold(self) -> None:
        self.prizes = self._rewards


class OfAnArrayOfItsRule(Holding):
    def hold(self) -> None:
        self.after = self.rule.after_right[1:]


class OfForeignMemory(Holding):
    def hold(self) -> None:
        self.numbers = np.frombuffer(bytearray(8), np.int64)


class OfOtherBytes(Holding):
    def hold(self) -> None:
        self.numbers = np.zeros(1, np.dtype(np.float32).newbyteorder())


class OfAListInItself(Holding):
    def hold(self) -> None:
        self.rows: list[Any] = []
        self.rows.append(self.rows)


HIDING = (
    *(OfAMixin, OfTorchsStream, OfAModule, OfItsClass, OfItsType, OfAnotherStream, OfTheGlobalStream, OfSpawnedStreams),
    *(OfTheActionSpace, OfTheObservationSpace, OfASpaceByName, OfASpaceByAFunction, OfItsMetadata, OfACallable),
    *(OfAnInheritedObject, OfAnObjectsMethod, OfAnInheritedName, OfADeletedName, *Holding.__subclasses__()),
)


class Tally(VectorWrapper[Any, Any, Any, Any, Any]):
    """A wrapper inside a task's own vectorized implementation that shows how many steps were taken."""

    num_steps = 0

    def step(self, actions: Any) -> Any:
        self.num_steps += 1
        observation, *outcome = self.env.step(actions)
        return np.where(self.num_steps % 2, observation, -observation), *outcome


class RandomStateEnv(gym.Env[Any, Any]):
    """Its random stream is an old one of NumPy's."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.np_random = np.random.RandomState(seed)  # type: ignore[assignment]  # as users write it
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return int(self.np_random.rand() < 0.5), 1.0, False, False, {}  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class OtherBitsEnv(RandomStateEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.np_random = np.random.Generator(np.random.MT19937(seed))
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return int(self.np_random.random() < 0.5), 1.0, False, False, {}


gym.register("tests/Growing-v0", Growing)
for task in (GrowingTogether, *HIDING):
    gym.register(f"tests/{task.__name__}-v0", task, vector_entry_point=vectorized(task))
gym.register("tests/RandomState-v0", RandomStateEnv)
gym.register("tests/OtherBits-v0", OtherBitsEnv)
for mode in AutoresetMode:
    gym.register(
        f"tests/Tally{mode.value}-v0",
        vector_entry_point=lambda num_envs, mode=mode: Tally(
            SyncVectorEnv([CartPoleEnv] * num_envs, autoreset_mode=mode)
        ),
    )
gym.register("tests/TalliedNative-v0", vector_entry_point=lambda num_envs: Tally(CartPoleVectorEnv(num_envs)))
gym.register(
    "tests/ScaledNative-v0",
    vector_entry_point=lambda num_envs, **_: vector_wrappers.ClipReward(CartPoleVectorEnv(num_envs), 0.0, 0.5),
)


@pytest.mark.parametrize(
    ("env_id", "is_known"),
    [
        *((task.__name__, False) for task in HIDING),
        ("RandomState", False),
        ("OtherBits", False),
        *((f"Tally{mode.value}", False) for mode in AutoresetMode),
        ("TalliedNative", False),
        ("ScaledNative", True),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_the_state_of_every_layer_is_told_or_unknown(env_id: str, is_known: bool, num_envs: int) -> None:
    envs = EnvFactory(f"tests/{env_id}-v0").make_envs(num_envs)
    envs.reset(seed=1)
    play(envs, 3, seed=1)
    assert (envs.state_dict() is not None) == is_known


LIMITS = np.array([0.5, 1.0])
FIXED = np.array([0.5, 1.0])
FIXED.flags.writeable = False
SCALE = 2.0


class Kept:
    value = 0.0


def scaled(value: Any, power: int = 2) -> Any:
    return [float(np.sign(one)) * SCALE**power + clip(FIXED[0], 0, math.pi) for one in np.atleast_1d(value)]


def twice(value: Any) -> Any:
    return scaled(scaled(value))


def in_place(value: Any) -> Any:
    own = np.array(value)
    own[0] = 1
    return own


def in_a_global(value: Any) -> Any:
    global SCALE
    SCALE += 0.0
    return value


def in_a_default(value: Any, seen: list[Any] = []) -> Any:  # noqa: B006  (as it is written)
    seen.append(value)
    return value


def in_a_class(value: Any) -> Any:
    Kept.value = value
    return value


def in_itself(value: Any) -> Any:
    in_itself.last = value  # type: ignore[attr-defined]
    return value


def by_another(value: Any) -> Any:
    return [counted(one) for one in value]


def in_a_module(value: Any) -> Any:
    import tests

    tests.last = value  # type: ignore[attr-defined]
    return value


def at_random(value: Any) -> Any:
    return value + np.random.normal()  # noqa: NPY002  (as it is written)


@pytest.mark.parametrize(
    ("function", "is_memoryless"),
    [
        *((function, True) for function in (scaled, twice, in_place, lambda reward: 2 * reward)),
        *(
            (function, False)
            for function in (in_a_global, in_a_default, in_a_class, in_itself, by_another, in_a_module)
        ),
        *((function, False) for function in (at_random, counted, lambda value: value * LIMITS, COUNTS.append, Kept())),
    ],
)
def test_functions_without_a_memory(function: Any, is_memoryless: bool) -> None:
    assert has_no_memory(function) == is_memoryless


def drawing_calls() -> list[str]:
    """Calls of all that torch marks as drawing random numbers, and of what draws by them."""
    calls = {"torch.nn.Dropout(0.5)(value)", "torch.nn.functional.gumbel_softmax(value)", "noise.standard_normal()"}
    calls |= {"torch.distributions.Normal(value, 1.0).sample()", "torch.nn.init.uniform_(value)", "drawn(value)"}
    calls |= {f"torch.nn.functional.{name}(value)" for name in vars(torch.nn.functional) if "dropout" in name}
    for full_name in torch._C._dispatch_get_all_op_names():
        name, _, overload = full_name.removeprefix("aten::").partition(".")
        if not full_name.startswith("aten::") or name.startswith("_"):
            continue
        operator = getattr(getattr(torch.ops.aten, name), overload or "default", None)
        if operator is not None and torch.Tag.nondeterministic_seeded in operator.tags:
            calls |= {f"torch.{name}(value)"} if hasattr(torch, name) else set()
            calls |= {f"value.{name}()"} if hasattr(torch.Tensor, name) else set()
    return sorted(calls)


@pytest.mark.parametrize("call", drawing_calls())
def test_a_function_that_draws_random_numbers_has_a_memory(call: str) -> None:
    names = {"torch": torch, "noise": np.random, "drawn": torch.randn_like}
    assert not has_no_memory(eval(f"lambda value: {call}", names))


@pytest.mark.parametrize("call", ["torch.nn.functional.normalize(value)", "np.clip(value, 0, 1)", "value.exp()"])
def test_a_function_that_computes_has_none(call: str) -> None:
    assert has_no_memory(eval(f"lambda value: {call}", {"torch": torch, "np": np}))


@pytest.mark.parametrize(("kwargs", "is_known"), [({}, True), ({"desc": ["SF", "FG"]}, True), ({"desc": None}, False)])
def test_a_map_that_was_drawn_cant_be_drawn_again(kwargs: dict[str, Any], is_known: bool) -> None:
    envs = EnvFactory("FrozenLake-v1", {"map_name": None, **kwargs} if kwargs else {}).make_envs(1)
    envs.reset(seed=1)
    assert (envs.state_dict() is not None) == is_known


PHASES = ("before", "during")


class Logging(RecallEnv):
    """Takes names of files and columns as settings, and keeps its phase and a log of events as texts."""

    LAST = "pause"

    def __init__(self, log: str = "log.txt", columns: tuple[str, ...] = ("step", "reward"), counted: Any = ()) -> None:
        self.log = log
        self.columns = columns
        self.phase, self.rest = PHASES[0], self.LAST
        self.events: list[str] = []
        self.counts: dict[str, int] = dict.fromkeys(counted, 0)
        super().__init__(length=4)
        self.set_up()

    def set_up(self) -> None:
        self.copy = f"{self.log}.copy"
        self._name_columns(",")

    def _name_columns(self, separator: str) -> None:
        self.header = separator.join(self.columns)
        self.tables = {"head": [self.header]}

    def step(self, action: Any) -> Any:
        self.phase = PHASES[1]
        self.events.append("left" if action else "right")
        self.rest = self.LAST
        return super().step(action)


GIVEN = {"log": "mine.txt", "columns": ("a",), "copy": "mine.txt.copy", "header": "a", "tables": {"head": ["a"]}}


def test_a_saved_state_sets_what_the_task_sets_and_no_setting() -> None:
    task = Logging()
    task.reset(seed=1)
    task.step(0)
    own = own_attributes(task)
    assert own is not None
    assert own.keys().isdisjoint(GIVEN)
    other = Logging("mine.txt", ("a",))
    set_own_attributes(other, {**own, **dict.fromkeys(GIVEN, "theirs"), "tables": {"dict": []}})
    assert {name: vars(other)[name] for name in GIVEN} == GIVEN
    assert (other.phase, other.events, other.rest) == ("during", ["right"], "pause")
    for name, value in (("step", "x"), ("anything", 1), ("phase", 3)):
        with pytest.raises(StateError, match=r"Logging"):
            set_own_attributes(other, {**own, name: value})
    with pytest.raises(StateError, match="keeps some of its state elsewhere"):
        set_own_attributes(OfAModule(), {"anything": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phase", "theirs"),
        ("rest", "theirs"),
        ("events", {"list": ["left", "theirs"]}),
        ("events", {"deque": [None, {"tuple": ["theirs"]}]}),
        ("counts", {"dict": [{"tuple": ["theirs", 1]}]}),
        ("_last_pick", "theirs"),
    ],
)
def test_no_text_of_a_file_is_new_to_the_task(name: str, value: Any) -> None:
    task = Logging()
    own = own_attributes(task)
    assert own is not None
    before = vars(task)[name]
    with pytest.raises(StateError, match=rf"{name} in the state of Logging in the checkpoint is .*; it must be"):
        set_own_attributes(task, {**own, name: value})
    assert vars(task)[name] == before


class CountingByName(Logging):
    def step(self, action: Any) -> Any:
        for name in self.counts:
            self.counts[name] += 1
        return super().step(action)


class Numbering(Logging):
    def step(self, action: Any) -> Any:
        self.phase = f"step {action}"
        return super().step(action)


def test_texts_that_play_may_change_are_constants_of_the_task_or_its_state_is_unknown() -> None:
    """Which of them the file may have replaced couldn't be told when it is read."""
    assert own_attributes(CountingByName(counted=())) is not None
    assert own_attributes(CountingByName(counted=("left", "right"))) is None
    numbering = Numbering()
    assert own_attributes(numbering) is not None
    numbering.phase = "step 1"
    assert own_attributes(numbering) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dealer_top_card_suit", "../../picture"),
        ("dealer_top_card_suit", None),
        ("dealer_top_card_value_str", ["A"]),
        ("player", "../../picture"),
    ],
)
def test_the_state_of_gymnasiums_tasks_names_no_file(name: str, value: Any) -> None:
    """Blackjack makes the name of a picture's file of it."""
    env = gym.make("Blackjack-v1")
    env.reset(seed=1)
    state: Any = env_state(env)
    set_env_state(env, state)
    state["layers"][-1][name] = value
    with pytest.raises(StateError, match=f"{name} in the state of BlackjackEnv in the checkpoint is"):
        set_env_state(env, state)
