"""Of what this package has, a file's task is what it registers, and nothing that a file may name looks for more."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

import seqrl_lightning
from seqrl_lightning import networks, trusted_names
from seqrl_lightning.algorithms import DQN
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.env_ids import guarded_by, spec_of
from seqrl_lightning.envs.bare import bare_task
from seqrl_lightning.networks import Composed, Network
from seqrl_lightning.rebuild import rebuild
from seqrl_lightning.trust import Trust, task_kwargs
from seqrl_lightning.types import ConfigurationError
from tests.envs.test_other_libraries import Grid, Trials

ROOMS = ("seqrl_lightning.algorithms", "seqrl_lightning.networks", "seqrl_lightning.envs")
MODULES = [module.name for module in pkgutil.walk_packages(seqrl_lightning.__path__, "seqrl_lightning.")]
MARK = "import pathlib\npathlib.Path(__file__).with_suffix('.imported').touch()\n"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """A module and a file that only a stranger names; what was done with them, and which processes were started."""
    done: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile_module.py").write_text(f"{MARK}class Class: pass\ndef function(*args): pass\n")
    (tmp_path / "evil.yaml").write_text("class_path: hostile_module.Class\n")
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: done.append(f"Popen{args}"))
    monkeypatch.setattr("os.system", done.append)
    really_open = open

    def noted_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        done.extend([f"open {file}"] if "evil" in str(file) else [])
        return really_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", noted_open)
    before = set(tmp_path.iterdir())
    yield lambda: [*done, *(str(path) for path in set(tmp_path.iterdir()) - before)]
    sys.modules.pop("hostile_module", None)


def code_in(module: str) -> Iterator[str]:
    """Yield the id of each class and function that a module has by a name, its own and others'."""
    for name, found in vars(importlib.import_module(module)).items():
        if isinstance(found, type) or inspect.isroutine(found):
            yield f"{module}:{name}"


def registered() -> set[Any]:
    """The tasks of this package, by themselves: they have a page of documentation each."""
    specs = [spec for env_id, spec in gym.registry.items() if env_id.startswith("seqrl/")]
    names = [name for spec in specs for name in (spec.entry_point, spec.vector_entry_point)]
    return {pkgutil.resolve_name(str(name)) for name in names}


def test_of_this_package_only_registered_tasks_are_tasks_of_files() -> None:
    """Every function and class of its rooms, by every name that it has there, is tried."""
    tasks = registered()
    assert len(tasks) >= 13
    ids = [env_id for module in MODULES if module.startswith(ROOMS) for env_id in code_in(module)]
    assert {"seqrl_lightning.envs.bare:bare_task", "seqrl_lightning.envs.make:EnvFactory"} < set(ids)
    taken = set()
    for env_id in ids:
        with suppress(ConfigurationError), Trust().task(env_id, "a file"):
            taken.add(pkgutil.resolve_name(env_id))
    assert taken == {task for task in tasks if isinstance(task, type)}


def test_the_other_rooms_have_no_tasks() -> None:
    for module in MODULES:
        if not module.startswith(ROOMS):
            task = Trust().task(f"{module}:X-v0", "a file")
            with pytest.raises(ConfigurationError, match=f"a file names '{module}'"), task:
                pytest.fail("it must not be found")


def test_what_makes_a_task_of_another_one_asks_again(hostile: Callable[[], list[str]]) -> None:
    """Also where the user allows it."""
    own = "seqrl_lightning.envs.bare"
    with Trust(own).task(f"{own}:bare_task", "a file"):
        inner = {"env_id": "CartPole-v1", "env_kwargs": {}}
        assert type(bare_task(f"{own}:bare_task", inner)).__name__ == "CartPoleEnv"
        for env_id in ("subprocess:Popen", "hostile_module:Class", "hostile_module:X-v0"):
            with pytest.raises(ConfigurationError, match=rf"a file names '{env_id.partition(':')[0]}'"):
                bare_task(f"{own}:bare_task", {"env_id": env_id, "env_kwargs": {"args": "true"}})
    assert not hostile()
    assert spec_of("hostile_module:Class")  # the user's own word, outside


def test_a_guard_ends_with_its_context() -> None:
    class Nothing:
        def require_package(self, env_id: str, package: str) -> None:
            raise ConfigurationError(package)

        def require_entry_point(self, env_id: str, entry_point: object) -> None:
            raise ConfigurationError(env_id)

    for env_id in ("CartPole-v1", f"{__name__}:Missing"):
        with pytest.raises(ConfigurationError), guarded_by(Nothing()):
            spec_of(env_id)
    assert spec_of("CartPole-v1").id == "CartPole-v1"


@pytest.mark.parametrize("env_id", ["seqrl/Recall-v0", "seqrl_lightning:seqrl/Recall-v0"])
def test_registered_tasks_are_found(env_id: str) -> None:
    with Trust().task(env_id, "a file"):
        assert bare_task(env_id, {"length": 2}).spec.kwargs["length"] == 2


def test_no_file_opens_a_window() -> None:
    assert task_kwargs({"env_kwargs": {"render_mode": "human", "length": 2}}) == {"length": 2}
    assert task_kwargs({"env_kwargs": {"render_mode": "ansi"}}) == {"render_mode": "ansi"}
    assert task_kwargs({"env_kwargs": None}) == {}
    with pytest.raises(ConfigurationError, match=r"data\.env_kwargs is 3; it must be settings by their names"):
        task_kwargs({"env_kwargs": 3})


def test_a_task_by_its_class_is_found() -> None:
    from seqrl_lightning.envs import RecallEnv

    env_id = ReplayDataModule(RecallEnv).env_id
    with Trust().task(env_id, "a file"):
        assert type(bare_task(env_id, {})) is RecallEnv


# What files may name, and what of it takes a name

# Environments by themselves are below; the others are abstract, or need OpenCV.
NOT_BUILT = ("Network", "AtariPreprocessing", "ResizeObservation")
CLASSES = [
    cls
    for cls in dict.fromkeys([*trusted_names.own_classes().values(), *trusted_names.LISTED.values()])
    if isinstance(cls, type) and (issubclass(cls, gym.Wrapper) or not issubclass(cls, gym.Env))
    if cls.__name__ not in NOT_BUILT
]
BOX = gym.spaces.Box(0, 1, (4,))
SPACES: dict[str, gym.Space[Any]] = {
    "GrayscaleObservation": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
    **dict.fromkeys(
        ("MaskInObservation", "FilterObservation"),
        gym.spaces.Dict({"a": BOX, "action_mask": gym.spaces.MultiBinary(2)}),
    ),
}
OF_ANY = {"obs_shape": [4], "out_shape": [2], "feature_size": 4, "n_actions": 2}
PARTS = {"parts": {"a": ["float32", 4]}, "num_frames": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"obs_shape": [1, 36, 36], "out_shape": [2]} for name in ("NatureCNN", "ImpalaResNet", "SmallCNN")},
    **{name: {"input_size": 2, "hidden_size": 2} for name in ("RNN", "GRU", "LSTM")},
    "Composed": {},
    "Unflatten": {"dim": 1, "unflattened_size": [1, 2]},
    "MultiStepLR": {"milestones": [2]},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 2},
    "ClipReward": {"min_reward": 0.0},
    "DtypeObservation": {"dtype": "float32"},
    "FilterObservation": {"filter_keys": ["a"]},
    "RescaleObservation": {"min_obs": 0.0, "max_obs": 2.0},
    "ReshapeObservation": {"shape": [2, 2]},
    "StickyAction": {"repeat_action_probability": 0.5},
}
HOSTILE = [
    "subprocess:Popen",
    "hostile_module.function",
    "hostile_module:function",
    "hostile_module:Id-v0",
    "evil.yaml",
    "./evil.made",
    {"class_path": "hostile_module.Class"},
    {"env_id": "hostile_module:Class", "env_kwargs": {}},
    [["hostile_module.function", "evil.yaml"]],
]


def hold(made: Callable[..., Any]) -> Callable[..., Any]:
    return made


def parameters_of(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class by name, with those that ``**settings`` hand on to its parents."""
    found: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if "__init__" in vars(owner):
            parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
            found = {**{each.name: each for each in parameters}, **found}
            if not any(each.kind is each.VAR_KEYWORD for each in parameters):
                break
    return {name: each for name, each in found.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}


class AnyEnv(gym.Env):
    def __init__(self, name: str) -> None:
        self.observation_space = SPACES.get(name, BOX)
        is_enumerated = name == "FlattenMultiDiscreteAction"
        self.action_space = gym.spaces.MultiDiscrete([2, 2]) if is_enumerated else gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}


def handed_over(cls: type) -> list[Any]:
    """A value that the class gets from its user, not from the file."""
    weights = nn.Linear(2, 2, bias=False).parameters()
    if issubclass(cls, gym.Wrapper):
        own = {"MinigridParts": lambda: Grid(lambda: "go", None), "NeuroGymTrials": Trials}.get(cls.__name__)
        return [gym.wrappers.TimeLimit(own() if own else AnyEnv(cls.__name__), 9)]
    if issubclass(cls, torch.optim.Optimizer):
        return [weights]
    return [torch.optim.SGD(weights, 0.1, momentum=0.9)] if cls.__module__ == "torch.optim.lr_scheduler" else []


def build(cls: type, settings: dict[str, Any]) -> None:
    """Build an object as a policy's file would have it built, and use it."""
    spec = {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": settings}
    if cls is Composed:
        rebuild(DQN, {"obs_shape": PARTS, "n_actions": 2, "network": spec}, Trust(), "a file")
        return
    made = rebuild(hold, {"made": spec}, Trust(), "a file")(*handed_over(cls))
    if isinstance(made, gym.Env):
        made.reset(seed=0)
    if isinstance(made, Network):
        made(torch.zeros(1, 1, *settings["obs_shape"]), None, None)


def settings_of(cls: type) -> dict[str, Any]:
    """Settings of which it can be built."""
    if cls.__name__ in SETTINGS and cls not in (networks.RNN, networks.GRU, networks.LSTM):
        return SETTINGS[cls.__name__]
    given = ("env", "params", "optimizer") if handed_over(cls) else ()
    needed = [n for n, each in parameters_of(cls).items() if each.default is each.empty and n not in given]
    return {name: OF_ANY.get(name, 2) for name in needed}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__qualname__)
def test_no_setting_of_what_files_may_name_is_followed(cls: type, hostile: Callable[[], list[str]]) -> None:
    """Each of its parameters is given names, paths and mappings that name something; errors are all right."""
    works = settings_of(cls)
    build(cls, works)
    for name in parameters_of(cls):
        for value in HOSTILE:
            with suppress(Exception):  # of whatever kind
                build(cls, {**works, name: value})
    assert not hostile()


TASKS = [spec for spec in gym.registry.values() if str(spec.entry_point).startswith(trusted_names.TASK_MODULES)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [spec.id for spec in TASKS if "box2d" not in str(spec.entry_point)])
def test_no_argument_of_a_task_that_files_may_name_is_followed(name: str, hostile: Callable[[], list[str]]) -> None:
    for argument in inspect.signature(pkgutil.resolve_name(str(gym.spec(name).entry_point))).parameters:
        for value in HOSTILE:
            with Trust().task(name, "a file"), suppress(ConfigurationError):
                bare_task(name, {argument: value}).reset(seed=0)
    assert not hostile()
