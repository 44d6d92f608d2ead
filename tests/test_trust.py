"""A file from a stranger is data: it names nothing that wasn't allowed, and takes no more than it holds."""

import functools
import json
import logging
import re
import shutil
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from seqrl_lightning.__main__ import parse
from seqrl_lightning.algorithms import C51, DQN, IQN
from seqrl_lightning.checkpoints.archive import limited_memory, read_archive
from seqrl_lightning.checkpoints.format import DATAMODULES, read_checkpoint, seal
from seqrl_lightning.commands.fitting import DryFit
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.data_class import DATA_CLASSES
from seqrl_lightning.export import export_policy
from seqrl_lightning.files import checksum
from seqrl_lightning.networks import MLP, LinearHead
from seqrl_lightning.parts import PackedSettings
from seqrl_lightning.policy import Policy, load_policy
from seqrl_lightning.rebuild import rebuild
from seqrl_lightning.recipe import rebuild_learner
from seqrl_lightning.running.parser import SeqRLArgumentParser
from seqrl_lightning.trust import Trust, settings_of
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

TINY = [
    "--data.env_id=CartPole-v1",
    "--data.batch_size=8",
    "--data.capacity=100",
    "--data.batches_per_epoch=4",
    "--data.eval_episodes=1",
    "--model=DQN",
    "--model.network=MLP",
    "--model.network.hidden_sizes=[6]",
    "--agent.warmup_env_steps=10",
    "--trainer.max_steps=8",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]

OWN_MODULE = """
import pathlib, subprocess
from dataclasses import dataclass, field
from enum import Enum
import gymnasium as gym
import torch
from torch import nn
from seqrl_lightning.export import export_policy
from seqrl_lightning.networks import MLP

pathlib.Path(__file__).with_suffix(".imported").touch()

class Size(Enum):
    SMALL = 6

@dataclass
class Inner:
    size: Size = Size.SMALL

@dataclass
class Layers:
    inner: Inner = field(default_factory=Inner)

class OwnNet(MLP):
    def __init__(
        self, obs_shape, out_shape, size: Size = Size.SMALL, activation: nn.Module = nn.Tanh(),
        layers: Layers | None = None, dtype: torch.dtype = torch.float32, kind: type = nn.ReLU,
    ):
        more = (layers.inner.size.value,) if layers else ()
        super().__init__(obs_shape, out_shape, hidden_sizes=(size.value, *more))
        self.activation = activation
        self.to(dtype)
        self.kind = kind()

def factory(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> MLP:
    return MLP(obs_shape, out_shape, hidden_sizes=(6,))

class OwnEnv(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (4,))
    action_space = gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}
    def step(self, action):
        return self.observation_space.sample(), 1.0, True, False, {}

gym.register("Own-v0", OwnEnv)
"""

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's root folder."""
    root = tmp_path_factory.mktemp("run")
    status, _, err = seqrl("fit", *TINY, f"--trainer.default_root_dir={root}")
    assert status == 0, err
    return root


@pytest.fixture(scope="module")
def checkpoint(run: Path) -> Path:
    return run / "lightning_logs/version_0/checkpoints/last.ckpt"


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of a user's, which can be imported; the file that it leaves behind when it is."""
    (tmp_path / "their_module.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "their_module.imported"
    sys.modules.pop("their_module", None)
    gym.registry.pop("Own-v0", None)


def edited(path: Path, edit: Edit, target: Path) -> Path:
    """The checkpoint as a stranger may hand it over: changed, and with a checksum that fits."""
    save_edited(read_checkpoint(path, mmap=False), edit, target)
    return target


def save_edited(contents: dict[str, Any], edit: Edit, target: Path, is_sealed: bool = True) -> None:
    edit(contents)
    torch.save(seal(contents) if is_sealed else {**contents, "seqrl_lightning": seal({})["seqrl_lightning"]}, target)


def popen(marker: Path) -> dict[str, Any]:
    return {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {marker}", "shell": True}}


def network(contents: dict[str, Any]) -> dict[str, Any]:
    return contents["hyper_parameters"]["network"]["init_args"]  # type: ignore[no-any-return]


def set_in(*path: Any, value: Any) -> Edit:
    def edit(contents: Any) -> None:
        for key in path[:-1]:
            contents = contents[key]
        contents[path[-1]] = value

    return edit


MODEL, DATA = ("hyper_parameters",), ("datamodule_hyper_parameters",)

MAKERS = ("bare:bare_task", "bare:make_task", "bare:make_native", "bare:task_spec", "make:EnvFactory")
WITHIN: dict[str, Any] = {"env_id": "antigravity:open", "env_kwargs": {}}


def task_within(maker: str) -> Edit:
    """A task that one of this package's functions makes of another one."""
    return lambda c: c["datamodule_hyper_parameters"].update(env_id=maker, env_kwargs=WITHIN)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "edit",
    [
        lambda c, evil: network(c)["linear"]["init_args"].update(device=evil),
        lambda c, evil: network(c).update(linear=evil),
        lambda c, evil: network(c)["head"]["init_args"].update(linear=evil),
        lambda c, evil: c["hyper_parameters"].update(network=evil),
        lambda c, evil: c["hyper_parameters"].update(gamma=evil),
        lambda c, evil: c["hyper_parameters"].update(optimizer=evil),
        lambda c, evil: c["hyper_parameters"]["optimizer"]["init_args"].update(betas=[0.9, evil]),
        lambda c, evil: c["hyper_parameters"].update(network=json.dumps(evil)),
        lambda c, evil: c["hyper_parameters"].update(lr_scheduler="subprocess.Popen"),
        lambda c, evil: c["hyper_parameters"].update(optimizer="os.system"),
        lambda c, evil: c["hyper_parameters"].update(_class_path="subprocess.Popen"),
        lambda c, evil: c["policy"].update(algorithm="subprocess:Popen"),
        lambda c, evil: c["policy"].update(algorithm="seqrl_lightning.networks.noisy:torch.os.system"),
    ],
)
def test_what_only_the_file_names_is_not_called(
    edit: Callable[..., object], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the library and by every command."""
    marker = tmp_path / "ran"
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: marker.touch())
    monkeypatch.setattr("os.system", lambda *args, **kwargs: marker.touch())
    evil = edited(checkpoint, lambda contents: edit(contents, popen(marker)), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=r"subprocess|os\.system") as refusal:
        load_policy(evil)
    assert "\n" not in str(refusal.value)
    assert "--allow" in str(refusal.value) or "must be a kind of" in str(refusal.value)
    root = f"--trainer.default_root_dir={tmp_path}"
    for command in (
        ["test", *TINY, root, f"--ckpt_path={evil}"],
        ["fit", *TINY, root, f"--ckpt_path={evil}"],
        ["export", f"--ckpt_path={evil}", "--format=torch_export"],
    ):
        status, _, err = seqrl(*command)
        assert status == 2, err
        assert err.count("\n") == 1
    assert not marker.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"evil.ckpt"}


@pytest.mark.parametrize(
    "edit",
    [
        set_in(*DATA, "env_id", value="antigravity:Own-v0"),
        *(task_within(f"seqrl_lightning.envs.{name}") for name in MAKERS),
        set_in(*DATA, "env_id", value="GymV26Environment-v0"),
        set_in(*DATA, "env_id", value="Ant-v5"),  # opens the file that its argument xml_file names
        set_in(*DATA, "env_kwargs", value={"x": {"class_path": "antigravity.open", "init_args": {}}}),
        set_in(*DATA, "env_kwargs", value={"x": [{"y": '{"class_path": "antigravity.open"}'}]}),
        set_in(*DATA, "wrappers", value=[{"class_path": "antigravity.open"}]),
        set_in(*DATA, "wrappers", value=["antigravity.open"]),
        set_in(*DATA, "wrappers", value=[{"class_path": "gymnasium.wrappers.RecordVideo"}]),
        set_in(*DATA, "wrappers", value=[{"class_path": "gymnasium.wrappers.TransformReward"}]),
        set_in(*DATA, "wrappers", value=[{"class_path": "torch.nn.Linear", "init_args": {}}]),
        set_in(*DATA, "wrappers", value=[{"class_path": "seqrl_lightning.replay.RingBuffer", "init_args": {}}]),
    ],
)
def test_an_environment_is_only_made_of_what_files_may_name(edit: Edit, checkpoint: Path, tmp_path: Path) -> None:
    evil = edited(checkpoint, edit, tmp_path / "evil.ckpt")
    before = set(sys.modules)
    with pytest.raises(ConfigurationError) as refusal:
        load_policy(evil).make_env()
    assert "\n" not in str(refusal.value)
    assert "antigravity" not in set(sys.modules) - before
    assert {path.name for path in tmp_path.iterdir()} == {"evil.ckpt"}


def test_whoever_loads_a_policy_decides_whether_a_window_opens(checkpoint: Path, tmp_path: Path) -> None:
    path = edited(checkpoint, set_in(*DATA, "env_kwargs", value={"render_mode": "human"}), tmp_path / "window.ckpt")
    assert load_policy(path).make_env().render_mode is None
    assert load_policy(path).make_env(render_mode="rgb_array").render_mode == "rgb_array"
    assert ReplayDataModule.load_from_checkpoint(path).factory.env_kwargs == {}


@pytest.mark.parametrize("form", ["checkpoint", "safetensors"])
def test_a_policy_acts_without_its_task_and_wrappers(
    form: str, own_module: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "their_module.py").write_text(OWN_MODULE + "\nclass Wrap(gym.Wrapper):\n    pass\n")

    def edit(contents: dict[str, Any]) -> None:
        contents["hyper_parameters"]["network"] = {"class_path": "their_module.OwnNet"}
        contents["datamodule_hyper_parameters"].update(
            env_id="their_module:Own-v0", wrappers=[{"class_path": "their_module.Wrap"}]
        )

    path = edited(checkpoint, edit, tmp_path / "own.ckpt")
    made = functools.partial(MLP, hidden_sizes=(6,))
    policy = load_policy(path, network=made)
    if form == "safetensors":
        pytest.importorskip("safetensors", reason="needs the extra export")
        path = tmp_path / "own.safetensors"
        export_policy(policy, "safetensors", path)
        policy = load_policy(path, network=made)
    assert policy.act(np.ones(4, np.float32)) in (0, 1)
    with pytest.raises(ConfigurationError, match=r"names 'their_module'.*--allow their_module"):
        policy.make_env()
    assert not own_module.exists()
    env = load_policy(path, network=made, allow="their_module").make_env()
    assert "Wrap" in str(env)


def test_a_ring_of_the_packages_own_is_no_layer(checkpoint: Path, tmp_path: Path) -> None:
    """Not every class of the package may stand where a layer is asked for: some write files."""
    ring = {"class_path": "seqrl_lightning.replay.RingBuffer", "init_args": {"mmap_dir": str(tmp_path / "elsewhere")}}
    evil = edited(checkpoint, lambda c: network(c).update(linear=ring), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=r"names 'seqrl_lightning\.replay\.RingBuffer'"):
        load_policy(evil)
    assert not (tmp_path / "elsewhere").exists()


OWN_CLASSES = [
    *(f"algorithms.{name}" for name in ("DQN", "dqn.DQN", "sarsa.ExpectedSARSA", "LearnerModule")),
    *(f"networks.{name}" for name in ("GRU", "recurrent.GRU", "heads.DuelingHead", "NoisyLinear")),
    *(f"envs.{name}" for name in ("MemoryChainEnv", "wrappers.MaskInObservation")),
]
OWN_HELPERS = [
    *("envs.vector.Generators", "envs.EnvFactory", "envs.Border", "envs.EnvFault", "envs.Shown", "envs.vectorized"),
    *("envs.MemoryChainVectorEnv", "replay.RingBuffer", "data.ReplayDataModule"),
    *("networks.NetworkCallable", "networks.ffm.FFMLayer", "networks.__all__", "networks.network.nn.Linear"),
    *("algorithms.updates.LightningStep", "algorithms.finite.FiniteUpdates"),
]


def test_of_this_package_files_name_what_its_rooms_export() -> None:
    for name in OWN_CLASSES:
        found: Any = Trust().find(f"seqrl_lightning.{name}", "a file")
        assert found.__name__ == name.rpartition(".")[2]
    for name in OWN_HELPERS:
        with pytest.raises(ConfigurationError, match=f"a file names 'seqrl_lightning.{name}', which"):
            Trust().find(f"seqrl_lightning.{name}", "a file")


BUFFERS = {"num_features": 5 * 10**8, "affine": False}
HUGE = {"class_path": "torch.nn.BatchNorm1d", "init_args": BUFFERS}
HUGE_ON_CPU = {"class_path": "torch.nn.BatchNorm1d", "init_args": {**BUFFERS, "device": "cpu"}}
GENERATORS = {"class_path": "seqrl_lightning.envs.vector.Generators", "init_args": {"num_envs": 10**9}}


@pytest.mark.parametrize("spec", [HUGE, HUGE_ON_CPU, GENERATORS], ids=["buffers", "on the CPU", "a helper"])
@pytest.mark.parametrize(
    "place", [("linear", "init_args", "device"), ("hidden_sizes",), ("head", "init_args", "linear")]
)
def test_a_class_stands_only_where_one_is_asked_for(
    spec: Any, place: tuple[str, ...], checkpoint: Path, tmp_path: Path
) -> None:
    """And what is built to compare it with the weights takes no memory, wherever it is to be computed."""
    evil = edited(checkpoint, lambda c: set_in(*place, value=spec)(network(c)), tmp_path / "evil.ckpt")
    with limited_memory(1.0), pytest.raises(ConfigurationError) as refusal:
        load_policy(evil)
    assert "\n" not in str(refusal.value)
    assert "memory" not in str(refusal.value)


def test_a_class_of_a_file_is_no_plain_value() -> None:
    layer = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1}}
    for value in (layer, [layer], {"a": layer}):
        spec = {"class_path": "torch.nn.Linear", "init_args": {"device": value}}
        with pytest.raises(ConfigurationError, match=r"names 'torch\.nn\.Linear'; it must be a number, a text"):
            rebuild(make, {"size": 1, "layer": spec}, Trust(), "a file")
    assert isinstance(rebuild(make, {"size": 1, "anything": layer}, Trust(), "a file")["anything"], nn.Linear)


def test_a_class_by_its_name_alone_is_of_the_kind_that_is_asked_for() -> None:
    assert rebuild(make, {"size": 1, "layer": "torch.nn.GRU"}, Trust(), "a file")["layer"] is nn.GRU
    for setting, name in (("layer", "torch.optim.Adam"), ("kinds", ["gymnasium.wrappers.TimeLimit"])):
        with pytest.raises(ConfigurationError, match="it must be a kind of Module there"):
            rebuild(make, {"size": 1, setting: name}, Trust(), "a file")


@pytest.mark.parametrize("device", ["meta", "cpu", "cuda:7", "no device"])
def test_a_file_does_not_decide_where_it_is_computed(device: str, checkpoint: Path, tmp_path: Path) -> None:
    path = edited(
        checkpoint, lambda c: network(c)["linear"]["init_args"].update(device=device), tmp_path / "elsewhere.ckpt"
    )
    observations = np.eye(4, dtype=np.float32)
    assert np.array_equal(load_policy(path).act(observations), load_policy(checkpoint).act(observations))


def test_buffers_count_as_weights_do() -> None:
    small = {"obs_shape": (4,), "n_actions": 2}
    weights = rebuild(C51, small, Trust(), "a file").state_dict()
    algorithm = "seqrl_lightning.algorithms:C51"
    assert rebuild_learner(algorithm, small, weights, Trust(), "a file").n_actions == 2
    with pytest.raises(ConfigurationError, match="more parameters and buffers than it holds"):
        rebuild_learner(algorithm, {**small, "n_atoms": 10**9}, weights, Trust(), "a file")


def test_a_users_module_is_imported_when_it_is_allowed(own_module: Path, checkpoint: Path, tmp_path: Path) -> None:
    own = {
        "class_path": "their_module.OwnNet",
        "init_args": {
            "size": "SMALL",
            "activation": {"class_path": "torch.nn.ReLU"},
            "layers": {"inner": {"size": "SMALL"}},
            "dtype": "torch.float32",
            "kind": "torch.nn.SiLU",
        },
    }

    def edit(contents: dict[str, Any]) -> None:
        contents["hyper_parameters"]["network"] = own
        weights = contents["state_dict"]
        for net in ("policy_net", "target_net"):
            weights.update({f"{net}.hidden.1.weight": torch.eye(6), f"{net}.hidden.1.bias": torch.zeros(6)})
        contents["datamodule_hyper_parameters"]["env_id"] = "their_module:Own-v0"

    path = edited(checkpoint, edit, tmp_path / "own.ckpt")
    with pytest.raises(ConfigurationError, match=r"names 'their_module.OwnNet'.*--allow their_module.*allow=\["):
        load_policy(path)
    assert not own_module.exists()
    policy = load_policy(path, allow=["their_module"])
    assert own_module.exists()
    assert type(policy.module.policy_net).__name__ == "OwnNet"
    assert isinstance(policy.module.policy_net.activation, nn.ReLU)
    assert isinstance(policy.module.policy_net.kind, nn.SiLU)
    assert policy.make_env().reset(seed=0)[0].shape == (4,)


def test_an_exported_own_network_is_allowed_by_its_module_too(
    own_module: Path, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("safetensors", reason="needs the extra export")
    path = edited(checkpoint, set_in(*MODEL, "network", value="their_module.OwnNet"), tmp_path / "own.ckpt")
    exported = tmp_path / "own.safetensors"
    assert seqrl("export", f"--ckpt_path={path}", "--format=safetensors", f"--output={exported}")[0] == 2
    status, _, err = seqrl(
        "export", f"--ckpt_path={path}", "--format=safetensors", f"--output={exported}", "--allow=their_module"
    )
    assert status == 0, err
    with pytest.raises(ConfigurationError, match=r"names 'their_module\.OwnNet'"):
        load_policy(exported)
    assert load_policy(exported, allow="their_module").act(np.ones(4, np.float32)) in (0, 1)


def test_an_allowed_module_does_not_hand_on_what_it_imports(own_module: Path, checkpoint: Path, tmp_path: Path) -> None:
    evil = edited(
        checkpoint,
        set_in(*MODEL, "network", value={"class_path": "their_module.subprocess.Popen"}),
        tmp_path / "x.ckpt",
    )
    with pytest.raises(ConfigurationError, match=r"names 'their_module\.subprocess\.Popen'"):
        load_policy(evil, allow="their_module")


def test_an_allowed_function_builds_a_network(own_module: Path, checkpoint: Path, tmp_path: Path) -> None:
    path = edited(checkpoint, set_in(*MODEL, "network", value="their_module.factory"), tmp_path / "own.ckpt")
    with pytest.raises(ConfigurationError, match=r"names 'their_module\.factory'"):
        load_policy(path)
    assert load_policy(path, allow="their_module").act(np.ones(4, np.float32)) in (0, 1)


@pytest.mark.slow
def test_a_run_of_an_own_network_resumes_by_its_config(own_module: Path, tmp_path: Path) -> None:
    arguments = [argument for argument in TINY if "network" not in argument]
    layers = "--model.network.layers.inner.size=SMALL"
    own = ["--model.network=their_module.OwnNet", layers, f"--trainer.default_root_dir={tmp_path}"]
    status, _, err = seqrl("fit", *arguments, *own)
    assert status == 0, err
    last = ["--ckpt_path=last", f"--trainer.default_root_dir={tmp_path}"]
    status, _, err = seqrl("fit", *arguments, *last, "--trainer.max_steps=12")
    assert status == 2
    assert "names 'their_module.OwnNet'" in err
    assert "--allow their_module" in err
    assert "a run of your own also resumes with its --config" in err
    for more in (["--model.network=their_module.OwnNet", layers], ["--allow=their_module"]):
        status, _, err = seqrl("fit", *arguments, *last, "--trainer.max_steps=12", *more)
        assert status == 0, err
    config = tmp_path / "lightning_logs/version_0/config.yaml"
    status, _, err = seqrl("test", f"--config={config}", "--ckpt_path=last")
    assert status == 0, err


NOT_WITHOUT_MEMORY = """
import numpy as np
import torch
from torch import nn
from typing import Any, Literal, Optional
from seqrl_lightning.export import export_policy
from seqrl_lightning.networks import MLP

class OwnNet(MLP):
    def __init__(
        self, obs_shape, out_shape, extra=None, note=None, kind: Literal["layer norm", "x.y"] = "x.y",
        some: Optional[Any] = None, more: Optional[dict[str, Any]] = None, free: Any = None, hidden: int = 6,
    ):
        super().__init__(obs_shape, out_shape, hidden_sizes=(hidden,))
        assert (note, kind, more) == ("layer norm", "layer norm", {"a": "kernels 3x3"})
        assert isinstance(extra, nn.Tanh) and isinstance(some, nn.Tanh) and isinstance(free, nn.Tanh)
        self.register_buffer("scale", torch.from_numpy(np.linspace(0.5, 1, 4, dtype=np.float32)))
        self.first = torch.linspace(0, 1, 3)[0].item()
        self.own = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
    def torso(self, observation, state=None, is_first=None):
        assert torch.isfinite(observation).all()
        return super().torso(self.own(observation * self.scale), state, is_first)
"""
OWN_SETTINGS: dict[str, Any] = {
    **{name: {"class_path": "torch.nn.Tanh"} for name in ("extra", "some", "free")},
    **dict.fromkeys(("note", "kind"), "layer norm"),
    "more": {"a": "kernels 3x3"},
}


TYPED_MODULE = """
from datetime import timedelta
from seqrl_lightning.networks import MLP

GOT = []

class OwnNet(MLP):
    def __init__(
        self, obs_shape, out_shape, table: dict[int, float] | None = None, names: set[str] | None = None,
        delta: timedelta | None = None, pair: tuple[int, str] | None = None,
    ):
        super().__init__(obs_shape, out_shape, hidden_sizes=(6,))
        GOT.append((table, names, delta, pair))
"""


@pytest.mark.slow
def test_an_own_network_gets_the_values_that_it_was_trained_with(own_module: Path, tmp_path: Path) -> None:
    (tmp_path / "their_module.py").write_text(TYPED_MODULE)
    arguments = [argument for argument in TINY if "network" not in argument]
    settings = {"table": {1: 0.5, 2: 1.5}, "names": ["a", "b"], "delta": "0:01:00", "pair": [1, "x"]}
    own = f"--model.network={json.dumps({'class_path': 'their_module.OwnNet', 'init_args': settings})}"
    root = f"--trainer.default_root_dir={tmp_path}"
    for more in ([own], [own, "--ckpt_path=last", "--trainer.max_steps=12"]):
        status, _, err = seqrl("fit", *arguments, root, *more)
        assert status == 0, err
    status, _, err = seqrl("test", *arguments, root, "--ckpt_path=last", "--allow=their_module")
    assert status == 0, err
    load_policy(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt", allow="their_module")
    got = sys.modules["their_module"].GOT
    assert got
    assert all(each == ({1: 0.5, 2: 1.5}, {"a", "b"}, timedelta(minutes=1), (1, "x")) for each in got)


DEFAULT_OBJECT = """
from torch import nn
from seqrl_lightning.networks import MLP

class OwnNet(MLP):
    def __init__(self, obs_shape, out_shape, activation=nn.ELU()):
        super().__init__(obs_shape, out_shape, hidden_sizes=(6,))
"""


def test_an_object_that_a_checkpoint_could_not_hold_is_refused_before_training(
    own_module: Path, tmp_path: Path
) -> None:
    """The parser's writer puts a description in its place, with which no network could be built again."""
    (tmp_path / "their_module.py").write_text(DEFAULT_OBJECT)
    arguments = [argument for argument in TINY if "network" not in argument]
    arguments += ["--model.network=their_module.OwnNet", f"--trainer.default_root_dir={tmp_path}"]
    status, _, err = seqrl("fit", *arguments)
    assert (status, err.count("\n")) == (2, 1), err
    assert "model.network.activation is ELU(alpha=1.0); it must be a number, a text, or of a type that its class" in err
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("text", ["2", "1e3", "yes", "null", "[1]"])
def test_a_text_that_a_checkpoint_could_not_hold_is_refused_before_training(
    text: str, own_module: Path, tmp_path: Path
) -> None:
    """The parser's writer makes a number of it where a setting may be anything."""
    (tmp_path / "their_module.py").write_text(ANY_SETTING)
    spec = {"class_path": "their_module.OwnNet", "init_args": {"free": {"a": ["x y", 2, text]}}}
    arguments = [argument for argument in TINY if "network" not in argument]
    arguments += [f"--model.network={json.dumps(spec)}", f"--trainer.default_root_dir={tmp_path}"]
    status, _, err = seqrl("fit", *arguments)
    assert (status, err.count("\n")) == (2, 1), err
    assert f"model.network.free.a[2] is {text!r}; it must be of a type that its class states" in err
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("text", ["2", "1e3", "yes", "null", "[1]"])
def test_a_text_within_a_tasks_settings_comes_back_or_is_refused_before_training(text: str, tmp_path: Path) -> None:
    kwargs = json.dumps({"a": {"b": ["x y", text]}})
    status, _, err = seqrl("fit", *TINY, f"--data.env_kwargs={kwargs}", f"--trainer.default_root_dir={tmp_path}")
    assert (status, err.count("\n")) == (2, 1), err
    assert f"data.env_kwargs.a.b[1] is {text!r}; it must be" in err
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize(
    "text", ["1e5", "1.5e3", "1.e5", "._5", "1e-3", "-1_0E+5", "yes", "01", "0x1F", "1:30", ".inf", "x y", "v1e5"]
)
def test_a_text_of_a_setting_that_may_be_one_is_read_as_it_was_written(text: str) -> None:
    parser = SeqRLArgumentParser(exit_on_error=False)
    parser.add_argument("--name", type=str | None)
    written = parser.dump(parser.parse_object({"name": text}))
    assert yaml.safe_load(written) == {"name": text}
    assert parser.parse_string(written).name == text


@pytest.mark.slow
def test_an_own_network_may_need_memory_and_any_setting(own_module: Path, tmp_path: Path) -> None:
    """Every network that can be trained can be tested, resumed and loaded, too."""
    (tmp_path / "their_module.py").write_text(NOT_WITHOUT_MEMORY)
    arguments = [argument for argument in TINY if "network" not in argument]
    spec = {"class_path": "their_module.OwnNet", "init_args": OWN_SETTINGS}
    own, root = f"--model.network={json.dumps(spec)}", f"--trainer.default_root_dir={tmp_path}"
    status, _, err = seqrl("fit", *arguments, own, root)
    assert status == 0, err
    for more in (own, "--allow=their_module"):
        status, _, err = seqrl("fit", *arguments, more, root, "--ckpt_path=last", "--trainer.max_steps=12")
        assert status == 0, err
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    assert load_policy(last, allow="their_module").act(np.ones(4, np.float32)) in (0, 1)
    with pytest.raises(ConfigurationError, match=r"names 'their_module\.OwnNet'"):
        load_policy(last)
    import their_module  # type: ignore[import-not-found]

    made = functools.partial(
        their_module.OwnNet, **{**OWN_SETTINGS, **dict.fromkeys(["extra", "some", "free"], nn.Tanh())}
    )
    assert load_policy(last, network=made).act(np.ones(4, np.float32)) in (0, 1)
    assert DQN.load_from_checkpoint(last, network=made).obs_shape == (4,)
    huge = edited(last, lambda c: network(c).update(hidden=10**12), tmp_path / "huge.ckpt")
    with pytest.raises(ConfigurationError, match="can't be"):
        load_policy(huge, allow="their_module")


def test_a_file_names_no_task_within_a_network(checkpoint: Path, tmp_path: Path) -> None:
    task = {"class_path": "seqrl_lightning.envs.MemoryChainEnv", "init_args": {"memory_length": 10}}
    evil = edited(checkpoint, lambda c: network(c).update(hidden_sizes=task), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=r"MemoryChainEnv'; it must be a kind of"):
        load_policy(evil)
    for setting in ("anything", "size", "sizes", "layers"):
        with pytest.raises(ConfigurationError, match=r"MemoryChainEnv'; it must be a (kind of|number, a text)"):
            rebuild(make, {"size": 1, setting: task}, Trust(), "a file")


@pytest.mark.parametrize(
    "text",
    [
        "os.system",
        " os.system",
        "'os.system'",
        "!!str os.system",
        '{"class\\u005fpath": "os.system"}',
        '{\t"class\\u005fpath": "os.system"}',
        "? a\n: b",
        "[os.system]",
        "- os.system",
        *("a: 2001-99-99", "2001-99-99", "2001-01-01", "1", "1e3", "1_000", "0x1F", "yes", "null", "~", "", " a", "a "),
        *("a\n", "a: b", "a #b", "a, b", "*a", "&a b", "%a", "`a`", "= a", "<<", "nan", "---", "..."),
    ],
)
def test_a_text_that_a_parser_may_take_for_more_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--allow"):
        rebuild(make, {"size": 1, "anything": text}, Trust(), "a file", is_parsed=True)
    assert rebuild(make, {"size": 1, "anything": text}, Trust(), "a file")["anything"] == text
    assert rebuild(make, {"size": 1, "anything": text}, Trust(names=[text]), "a file", is_parsed=True)


@pytest.mark.slow
def test_an_own_algorithm_goes_by_the_name_that_its_package_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "_rule.py").write_text("from seqrl_lightning.algorithms import DQN\nclass OwnDQN(DQN):\n    pass\n")
    (package / "__init__.py").write_text("from their_package._rule import OwnDQN\n")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = [argument for argument in TINY if not argument.startswith("--model")]
    root = f"--trainer.default_root_dir={tmp_path}"
    own = ["--model=their_package.OwnDQN", "--model.network=MLP", "--model.network.hidden_sizes=[6]"]
    assert seqrl("fit", *arguments, *own, root)[0] == 0
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    for more in (own, ["--allow=their_package"]):
        status, _, err = seqrl("fit", *arguments, *more, root, "--ckpt_path=last", "--trainer.max_steps=12")
        assert status == 0, err
    status, _, err = seqrl("test", *arguments, root, "--ckpt_path=last")
    assert status == 2
    assert "--allow their_package" in err
    with pytest.raises(ConfigurationError, match=r"names 'their_package\.OwnDQN'"):
        load_policy(last)
    assert type(load_policy(last, allow=["their_package"]).module).__name__ == "OwnDQN"


@pytest.mark.parametrize("maker", ["bare:bare_task", "make:EnvFactory"])
def test_a_run_folder_names_no_task_within_a_task(maker: str, run: Path, tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / f"runs/{number}"
        shutil.copytree(run / "lightning_logs/version_0", folder)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["model"]["init_args"]["gamma"] = number / 2
        config["data"].update(env_id=f"seqrl_lightning.envs.{maker}", env_kwargs=WITHIN)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        last = folder / "checkpoints/last.ckpt"
        edited(last, task_within(f"seqrl_lightning.envs.{maker}"), last)
    for command, runs in (("analyse", "runs/0"), ("compare", "runs"), ("represent", "runs")):
        status, _, err = seqrl(command, str(tmp_path / runs), f"--output={tmp_path / 'report'}")
        assert (status, err.count("\n")) == (2, 1), err
        assert f"names 'seqrl_lightning.envs.{maker}'" in err
    assert "antigravity" not in sys.modules


def test_a_run_folder_names_its_task(own_module: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    source = run / "lightning_logs/version_0"
    header, *_ = (source / "episodes.csv").read_text().splitlines()
    (folder / "episodes.csv").write_text(f"{header}\n9,0,0,9.0,9,True\n")
    (folder / "config.yaml").write_text("seed_everything: 1\ndata: {env_id: 'their_module:Own-v0', env_kwargs: {}}\n")
    for command in (["analyse", str(folder)], ["compare", f"--runs=a={folder},b={folder}"]):
        status, _, err = seqrl(*command, f"--output={tmp_path / 'report'}")
        if command[0] == "analyse":
            assert status == 2
            assert "names 'their_module'" in err
            assert "--allow their_module" in err
            assert "--config" not in err  # which it doesn't take
    assert not own_module.exists()
    status, _, err = seqrl("analyse", str(folder), f"--output={tmp_path / 'report'}", "--allow=their_module")
    assert status == 0, err
    assert own_module.exists()


# Rebuilding


class Color(Enum):
    RED = 1


@dataclass
class Inner:
    color: Color


@dataclass
class Outer:
    inner: Inner
    sizes: tuple[int, ...] = ()


def make(
    size: int,
    color: Color = Color.RED,
    path: Path | None = None,
    layers: list[nn.Module] | None = None,
    sizes: tuple[int, ...] = (),
    layer: Callable[[int, int], nn.Module] = nn.Linear,
    anything: Any = None,
    outer: Outer | None = None,
    dtype: torch.dtype = torch.float32,
    kind: type = nn.Linear,
    kinds: list[type[nn.Module]] | None = None,
) -> dict[str, Any]:
    return dict(locals())


def test_settings_are_rebuilt_by_their_types() -> None:
    values = {
        "size": 3,
        "color": "RED",
        "path": "a/b",
        "layers": [{"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 1}}],
        "sizes": [1, 2],
        "layer": {"class_path": "torch.nn.modules.linear.Linear", "init_args": {"bias": False}},
        "anything": {"a": ["torch.nn.Linear", 1]},
        "outer": {"inner": {"color": "RED"}, "sizes": [1, 2]},
        "dtype": "torch.bfloat16",
        "kind": "torch.nn.ReLU",
        "kinds": ["torch.nn.ReLU"],
    }
    found: Any = rebuild(make, values, Trust(), "a file")
    assert found["color"] is Color.RED
    assert found["path"] == Path("a/b")
    assert isinstance(found["layers"][0], nn.Linear)
    assert found["sizes"] == (1, 2)
    assert isinstance(found["layer"], functools.partial)
    assert found["layer"](2, 3).bias is None
    assert found["outer"] == Outer(Inner(Color.RED), (1, 2))
    assert found["dtype"] is torch.bfloat16
    assert found["kind"] is nn.ReLU
    assert found["kinds"] == [nn.ReLU]
    assert found["anything"] == {"a": ["torch.nn.Linear", 1]}  # a text stays a text
    for wrong, reason in (
        ({"size": "3"}, "must be a kind of int"),
        ({"layer": {"class_path": "torch.optim.Adam"}}, "must be a kind of Module"),
        ({"dtype": "torch.load"}, "must be a kind of dtype"),
        ({"kind": "os.system"}, "names 'os.system'"),
        ({"layer": "torch.nn.Linear.forward"}, "names 'torch.nn.Linear.forward'"),
        ({"layer": {"class_path": "torch.nn.Linear", "at": 1}}, "by class_path and init_args"),
        ({"layers": [{"class_path": 3}]}, "names 3"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            rebuild(make, {"size": 1, **wrong}, Trust(), "a file")


class Pair(NamedTuple):
    a: int
    b: Color


TYPED: list[tuple[Any, Any, Any]] = [
    (dict[int, float], {"1": 0.5, "-2": 1.5}, {1: 0.5, -2: 1.5}),
    (dict[int, float] | None, {1: 0.5}, {1: 0.5}),
    (dict[int, list[Color]], {"1": ["RED"]}, {1: [Color.RED]}),
    (dict[str, float], {"1": 0.5}, {"1": 0.5}),
    (dict[int | str, float], {"1": 0.5}, {"1": 0.5}),
    (Mapping[int, set[str]], {"1": ["b"]}, {1: {"b"}}),
    (set[str], ["b"], {"b"}),
    (set[Color] | None, ["RED"], {Color.RED}),
    (frozenset[int], [1, 2], frozenset((1, 2))),
    (AbstractSet[int], [1, 2], {1, 2}),
    (tuple[int, ...] | PackedSettings, {"parts": {}}, {"parts": {}}),
    (Sequence[int], [1, 2], [1, 2]),
    (Iterable[int], [1, 2], [1, 2]),
    (list, [1, "2"], [1, "2"]),
    (tuple[int, Color], [1, "RED"], (1, Color.RED)),
    (tuple[Color, ...], ["RED", "RED"], (Color.RED, Color.RED)),
    (tuple[Color, ...], [], ()),
    (timedelta, "0:01:00", timedelta(minutes=1)),
    (timedelta | None, "2 days, 0:01:00", timedelta(days=2, minutes=1)),
    (complex, "(1+2j)", 1 + 2j),
    (Decimal, "0.10", Decimal("0.10")),
    (range, "range(1, 3)", range(1, 3)),
    (Any, {"1": ["2", "1e3"]}, {"1": ["2", "1e3"]}),
]


def typed(kind: Any) -> Callable[..., Any]:
    def hold(value: Any) -> Any:
        return value

    hold.__annotations__["value"] = kind
    return hold


@pytest.mark.parametrize(("kind", "written", "value"), TYPED, ids=str)
def test_a_value_is_rebuilt_as_it_was(kind: Any, written: Any, value: Any) -> None:
    """A checkpoint holds keys as texts and sets as lists; the network gets what it was given."""
    for is_parsed in (False, kind not in (Any, list)):
        found = rebuild(typed(kind), {"value": written}, Trust(), "a file", is_parsed)
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        *((dict[int, float], {key: 0.5}) for key in ("a", "1.5")),
        *((kind, ["a"]) for kind in (int, str, dict[int, float], Pair, deque[str])),
        *((kind, {"a": 1}) for kind in (int, str, list[int], Pair, set[str])),
        *((timedelta, text) for text in ("soon", "1e3", "os.system")),
        *((kind, "a") for kind in (complex, Decimal, range, UUID, bytes)),
    ],
    ids=str,
)
def test_a_value_that_is_none_of_its_type_is_refused(kind: Any, written: Any) -> None:
    for is_parsed in (False, True):
        with pytest.raises(ConfigurationError, match=r"a file holds .* where a setting must be a kind of"):
            rebuild(typed(kind), {"value": written}, Trust(), "a file", is_parsed)


def test_what_the_config_names_is_rebuilt_as_the_config_builds_it(checkpoint: Path) -> None:
    policy = load_policy(checkpoint)
    assert isinstance(policy.module, DQN)
    assert isinstance(policy.module.policy_net, MLP)
    assert isinstance(policy.module.policy_net.head, LinearHead)


@pytest.mark.parametrize("allow", [["not a module"], [3], ["a..b"], "", 3, "a,b"])
def test_what_is_allowed_is_a_module(allow: Any) -> None:
    with pytest.raises(ConfigurationError, match="it must be a module's name"):
        Trust(allow)


@pytest.mark.parametrize("allow", ["nonexistent", "nonexistent.part", "their_module.py"])
def test_what_is_allowed_can_be_imported(allow: str, own_module: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"allow is '{allow}'; .*which Python finds \(without \.py\)"):
        Trust(allow)
    assert Trust("their_module").allow == ("their_module",)
    assert Trust("__main__").allow == ("__main__",)


@pytest.mark.slow
def test_no_name_of_a_file_commands_the_terminal(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[31mred"
    folder.mkdir()
    path = edited(checkpoint, lambda contents: None, folder / "last.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.formatwarning", warnings.formatwarning)
        records: list[str] = []
        shown = logging.Handler()
        shown.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("lightning.pytorch")
        logger.addHandler(shown)
        status, out, err = seqrl("test", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={path}")
        logger.removeHandler(shown)
        assert status == 0, err
        assert any("Restoring states" in record and r"\x1b[31mred" in record for record in records)
        assert "\x1b[31m" not in "".join([*records, out, err])
        assert "\x1b[31m" not in warnings.formatwarning(str(path), UserWarning, "a", 1, "")
    status, out, err = seqrl("export", f"--ckpt_path={path}", "--format=torch_export")
    assert status == 0, err
    assert "\x1b[31m" not in out + err

    # Python shows an error's text as it is.
    edit = set_in("datamodule_hyper_parameters", "env_kwargs", value={"\x1b[31mred": 1})
    with pytest.raises(ConfigurationError, match=r"unexpected keyword argument '\\x1b\[31mred'") as refusal:
        load_policy(edited(checkpoint, edit, tmp_path / "red.ckpt")).make_env()
    assert str(refusal.value).isprintable()


def test_processes_of_the_program_find_no_module_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries start Python: the command line's to find types, torch's to try what it compiled."""
    (tmp_path / "json.py").write_text("open('imported', 'w').close()")
    monkeypatch.chdir(tmp_path)
    start = [sys.executable, "-c", "import json"]

    monkeypatch.delenv("PYTHONSAFEPATH")
    with monkeypatch.context() as patch:  # like `python -m seqrl_lightning`
        patch.syspath_prepend(tmp_path)
        seqrl("analyse", "nothing")
    subprocess.run(start, check=True)
    assert (tmp_path / "imported").exists()

    (tmp_path / "imported").unlink()
    seqrl("analyse", "nothing")
    subprocess.run(start, check=True)
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "arguments",
    [
        ["--allow", "a", "--allow", "b.c"],
        ["--allow", "a,b.c"],
        ["--allow=[a, b.c]"],
        ['--allow=["a","b.c"]', "--allow=[]"],
        ["--config={config}", "--allow=b.c"],
    ],
)
def test_several_modules_are_allowed_in_any_form(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Lightning's commands, which read configs, and by the others."""
    monkeypatch.setattr(sys, "argv", ["seqrl"])  # which DryFit adds to
    (tmp_path / "allow.yaml").write_text("allow: a\n")
    arguments = [argument.format(config=tmp_path / "allow.yaml") for argument in arguments]
    assert DryFit([*arguments, "--data.env_id=CartPole-v1"]).settings.allow == ["a", "b.c"]
    if "--config" not in arguments[0]:
        assert parse("analyse", ["folder", *arguments]).allow == ["a", "b.c"]


# Shapes and sizes


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c["hyper_parameters"].update(gamma="x" * 3000),
        lambda c: c["hyper_parameters"].update({"x" * 3000: 1}),
        lambda c: c["hyper_parameters"].update(network={"class_path": "torch.nn.Linear", "init_args": ["x" * 3000]}),
        lambda c: c["hyper_parameters"].update(network={"class_path": "torch.nn.Linear", "x" * 3000: 1}),
        lambda c: c["policy"].update(obs_dtype="float32," * 1000),
        lambda c: c["policy"].update(obs_dtype="x" * 3000),
        lambda c: c["policy"].update(algorithm="x" * 3000),
        lambda c: c["datamodule_hyper_parameters"].update(env_id="x" * 3000),
        lambda c: c["datamodule_hyper_parameters"].update(env_id=["x" * 3000]),
    ],
)
def test_a_refusal_quotes_little_of_a_file(edit: Edit, checkpoint: Path, tmp_path: Path) -> None:
    path = edited(checkpoint, edit, tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError) as refusal:
        load_policy(path).make_env()
    assert len(str(refusal.value.args[0])) < 1000 + len(str(path))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("edit", [lambda c: c.update(sidecars={}), lambda c: c.pop("sidecars")])
def test_no_run_goes_on_without_its_replay_memory_in_silence(edit: Edit, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    last.with_name("last.previous.ckpt").unlink(missing_ok=True)
    edited(last, edit, last)
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqrl_lightning.data.replay.rank_zero_info", told.append)
        more = [f"--trainer.default_root_dir={tmp_path}", "--ckpt_path=last", "--trainer.max_steps=12"]
        status, _, err = seqrl("fit", *TINY, *more)
    refused = status != 0 and "it names no sidecar, which would hold the replay memory" in err.splitlines()[-1]
    assert refused or "The checkpoint holds no replay memory; a new one is filled before the run continues." in told


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "edit",
    [
        lambda c: network(c).update(hidden_sizes=[10**12]),
        lambda c: network(c).update(hidden_sizes=[2] * 100_000),
        lambda c: c["hyper_parameters"].update(obs_shape=(10**15,)),
        lambda c: c["hyper_parameters"].update(obs_shape=(-1,)),
        lambda c: c["hyper_parameters"].update(obs_shape={"parts": {"x": ["float32", 10**15]}, "num_frames": 1}),
        lambda c: c["hyper_parameters"].update(obs_shape={"parts": {"x": ["float32", 4]}, "num_frames": 10**15}),
        lambda c: c["hyper_parameters"].update(obs_shape={"parts": "text"}),
        lambda c: c["hyper_parameters"].update(n_actions=10**15),
        lambda c: c["hyper_parameters"].update(n_actions=1.5),
        lambda c: c["hyper_parameters"].update(updates_per_step=10**6),
        lambda c: c["state_dict"].update({"policy_net.hidden.0.bias": torch.zeros(7)}),
        lambda c: c["state_dict"].update({"policy_net.hidden.0.bias": "text"}),
        lambda c: c["state_dict"].pop("policy_net.hidden.0.bias"),
        lambda c: c.update(state_dict=[1, 2]),
        lambda c: c.update(hyper_parameters="text"),
        lambda c: c.update(policy=None),
        lambda c: c["policy"].update(obs_dtype="O"),
        lambda c: c["policy"].update(obs_dtype="no dtype"),
    ],
)
def test_absurd_settings_are_refused_before_they_take_memory(edit: Edit, checkpoint: Path, tmp_path: Path) -> None:
    evil = edited(checkpoint, edit, tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError) as refusal:
        load_policy(evil)
    assert "\n" not in str(refusal.value)
    status, _, err = seqrl("test", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={evil}")
    assert (status, err.count("\n")) == (2, 1), err


@pytest.mark.parametrize("name", ["n_fractions", "n_target_fractions", "n_acting_fractions", "n_cosines"])
def test_absurdly_many_fractions_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"model.{name} is 1000000; it must be at least 1, and at most 1024"):
        IQN((4,), 2, **{name: 10**6})


def test_images_that_no_weight_depends_on_take_little_memory() -> None:
    """A network that pools has the same weights for images of any size."""
    network = {"class_path": "seqrl_lightning.networks.ImpalaResNet", "init_args": {"pool_size": 1, "hidden_size": 8}}
    small: dict[str, Any] = {"obs_shape": (1, 64, 64), "n_actions": 2, "network": network}
    weights = rebuild(DQN, small, Trust(), "a file").state_dict()
    algorithm = "seqrl_lightning.algorithms.dqn:DQN"
    assert rebuild_learner(algorithm, small, weights, Trust(), "a file").obs_shape == (1, 64, 64)
    huge = {**small, "obs_shape": (1, 20_000, 20_000)}
    with pytest.raises(ConfigurationError, match=r"what the network takes for one observation, in GiB, is 1\d\d"):
        rebuild_learner(algorithm, huge, weights, Trust(), "a file")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("obs_shape", (0,), r"the observations' shape in data.env_id is \(4,\); it must be the checkpoint's \(0,\)"),
        ("n_actions", 0, "the number of actions in data.env_id is 2; it must be the checkpoint's 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_network_is_built_for_the_shapes_that_it_was_checked_with(
    name: str, value: Any, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    """Or weights without elements would stand for a network of any size."""

    def edit(contents: dict[str, Any]) -> None:
        settings, weights = contents["hyper_parameters"], contents["state_dict"]
        settings[name] = value
        spec = {"class_path": "seqrl_lightning.networks.MLP", "init_args": {"hidden_sizes": [6]}}
        learner = rebuild(DQN, {**settings_of(settings), "network": spec}, Trust(), "a file")
        contents["state_dict"] = learner.state_dict() | {key: w for key, w in weights.items() if "net" not in key}

    evil = edited(checkpoint, edit, tmp_path / "evil.ckpt")
    status, _, err = seqrl("test", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={evil}")
    assert (status, err.count("\n")) == (2, 1), err
    assert re.search(message, err)


def test_a_stack_of_absurdly_many_frames_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    evil = edited(checkpoint, set_in(*DATA, "frame_stack", value=10**9), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=r"data\.frame_stack in .* is 1000000000; it must be at most 4"):
        load_policy(evil).make_env()


# Whatever is edited

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just({"class_path": "os.system"})
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def load_if_possible(path: Path) -> tuple[Policy | None, str]:
    """The policy, and its environment made once; or the reason why there is none."""
    try:
        policy = load_policy(path)
        policy.make_env().close()
    except ConfigurationError as error:
        return None, str(error)
    return policy, ""


@pytest.fixture(scope="module")
def policy(checkpoint: Path) -> Policy:
    return load_policy(checkpoint)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_edit_is_refused_in_a_line_or_changes_nothing(
    data: st.DataObject, checkpoint: Path, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any value of the file replaced by any other, with a checksum that fits or without."""
    called: list[Any] = []
    monkeypatch.setattr("os.system", called.append)
    files = {path for folder in (tmp_path, checkpoint.parent) for path in folder.rglob("*")}
    contents = read_checkpoint(checkpoint, mmap=False)
    parts = {key: contents[key] for key in ("hyper_parameters", "datamodule_hyper_parameters", "policy", "state_dict")}
    place = data.draw(st.sampled_from(list(_places(parts))))
    value = data.draw(SCALARS)
    is_sealed = data.draw(st.booleans())
    path = tmp_path / "edited.ckpt"
    save_edited(contents, set_in(*place, value=value), path, is_sealed)
    again, refusal = load_if_possible(path)
    if again is not None:
        observations = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
        assert np.array_equal(again.act(observations), policy.act(observations))
    assert "\n" not in refusal
    path.unlink()
    assert not called
    assert {path for folder in (tmp_path, checkpoint.parent) for path in folder.rglob("*")} == files


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(
    position: float, bit: int, checkpoint: Path, policy: Policy, tmp_path: Path
) -> None:
    whole = checkpoint.read_bytes()
    content = bytearray(whole)
    content[int(position * len(whole))] ^= 1 << bit
    path = tmp_path / "flipped.ckpt"
    path.write_bytes(content)
    again, refusal = load_if_possible(path)
    if again is not None:
        weights = policy.module.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in again.module.state_dict().items())
    assert "\n" not in refusal


def test_an_environment_takes_no_more_memory_than_the_limit(checkpoint: Path, tmp_path: Path) -> None:
    huge = {"class_path": "gymnasium.wrappers.ReshapeObservation", "init_args": {"shape": [4]}}
    delay = {"class_path": "gymnasium.wrappers.FrameStackObservation", "init_args": {"stack_size": 300_000_000}}
    path = edited(checkpoint, set_in(*DATA, "wrappers", value=[huge, delay]), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match="can't"):
        load_policy(path, max_gib=1).make_env()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"context_length": 10**9}, "more parameters and buffers than it holds"),
        ({"num_layers": 10**9}, "more parameters and buffers than it holds"),
        ({"hidden_size": 10**6}, "more parameters and buffers than it holds"),
    ],
)
def test_a_network_that_would_remember_too_much_is_refused(
    more: dict[str, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spec(**init_args: int) -> dict[str, Any]:
        network = {"class_path": "seqrl_lightning.networks.Transformer", "init_args": init_args}
        return {"obs_shape": (4,), "n_actions": 2, "network": network}

    small = {"hidden_size": 8, "num_heads": 2, "num_layers": 1}
    module = rebuild(DQN, spec(**small), Trust(), "a file")
    weights = module.state_dict()
    algorithm = "seqrl_lightning.algorithms.dqn:DQN"
    again = rebuild_learner(algorithm, spec(**small), weights, Trust(), "a file")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.state_dict().items())
    with pytest.raises(ConfigurationError, match=rf"the network of a file doesn't fit its weights .*{reason}"):
        rebuild_learner(algorithm, spec(**{**small, **more}), weights, Trust(), "a file")
    monkeypatch.setattr("seqrl_lightning.recipe._MAX_GIB", -1.0)
    with pytest.raises(ConfigurationError, match="what the network takes for one observation"):
        rebuild_learner(algorithm, spec(**small), weights, Trust(), "a file")


def test_lightnings_own_way_to_load_is_as_strict(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: called.append(args))
    learner = DQN.load_from_checkpoint(checkpoint)
    weights = load_policy(checkpoint).module.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in learner.state_dict().items())
    assert ReplayDataModule.load_from_checkpoint(checkpoint, num_envs=2).num_envs == 2
    elsewhere = edited(checkpoint, set_in(*DATA, "mmap_dir", value=str(tmp_path / "theirs")), tmp_path / "evil.ckpt")
    assert ReplayDataModule.load_from_checkpoint(elsewhere).hparams["mmap_dir"] is None
    ReplayDataModule.load_from_checkpoint(elsewhere, mmap_dir=str(tmp_path / "ours"))
    assert (tmp_path / "ours").exists()
    assert not (tmp_path / "theirs").exists()
    evil = edited(checkpoint, lambda c: network(c).update(linear=popen(tmp_path / "ran")), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=r"names 'subprocess\.Popen'"):
        DQN.load_from_checkpoint(evil)
    evil = edited(checkpoint, set_in(*DATA, "env_id", value="antigravity:Own-v0"), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match="names 'antigravity'"):
        ReplayDataModule.load_from_checkpoint(evil)
    for name in MAKERS:
        evil = edited(checkpoint, task_within(f"seqrl_lightning.envs.{name}"), tmp_path / "evil.ckpt")
        with pytest.raises(ConfigurationError, match=f"names 'seqrl_lightning.envs.{name}'"):
            ReplayDataModule.load_from_checkpoint(evil)
    assert "antigravity" not in sys.modules
    assert not called


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("kind", ["escaped", "named", "LambdaLR", "MultiplicativeLR", "CyclicLR"])
def test_a_parser_sees_no_name_in_a_text(
    kind: str, own_module: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line's parser reads the file's settings after they were checked, and knows more types."""
    called: list[Any] = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: called.append(args))
    linear = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "device": popen(tmp_path / "ran")}}
    text = json.dumps(linear).replace("class_path", "class\\u005fpath") if kind == "escaped" else "their_module.factory"
    name = kind if kind.endswith("LR") else "StepLR"
    argument = {"LambdaLR": "lr_lambda", "MultiplicativeLR": "lr_lambda", "CyclicLR": "scale_fn"}.get(kind, "step_size")
    scheduler = {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": {argument: text}}
    evil = edited(checkpoint, set_in(*MODEL, "lr_scheduler", value=scheduler), tmp_path / "evil.ckpt")
    for command in ("test", "fit"):
        arguments = [command, *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={evil}"]
        status, _, err = seqrl(*arguments)
        assert (status, err.count("\n")) == (2, 1), err
    assert not called
    assert not own_module.exists()


ANY_SETTING = """
from typing import Any
from seqrl_lightning.networks import MLP

GOT = []

class OwnNet(MLP):
    def __init__(self, obs_shape, out_shape, note=None, free: Any = None, more: dict[str, Any] | None = None, **rest):
        super().__init__(obs_shape, out_shape, hidden_sizes=(6,))
        GOT.append((note, free, more))
"""
HOSTILE_MODULE = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()
class Class: pass
def function(*args): pass
"""
NO_NAMES = ["evi", "evil file", "a-b evil", "layer norm"]
ESCAPED = {
    "json": '{"class\\u005fpath": "hostile_module.Class"}',
    # What is no date ends one reader of YAML with an error; another one takes the rest for a class.
    "timestamp": '"class\\x5fpath": hostile_module.Class\n"init\\x5fargs":\n  k: 2001-99-99\n',
    "float": '{"class\\u005fpath": "hostile_module.Class", "init_args": {"a": 1_0.e+99}}',
}
NAMES = [
    *("evil", "a-b/evil.yaml", "./evil.yaml", "@evil", "@./evil.yaml", "file:evil.yaml", "!include evil.yaml"),
    *("!!python/name:hostile_module.function", "hostile_module:function"),
    *("${oc.env:HOME}", "${hostile_module.function}"),
    *ESCAPED.values(),
    "evil.yaml",
    "hostile_module.function",
    "!!python/object/apply:subprocess.Popen [[true]]",
    '{"class_path": "subprocess.Popen", "init_args": {"args": "true"}}',
    {"class_path": "hostile_module.Class"},
    {"x.class_path": "hostile_module.Class"},
    {"x": ["evil", {"class_path": "hostile_module.Class"}]},
]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("value", [NO_NAMES, *NAMES], ids=repr)
def test_no_parser_follows_a_text_in_any_setting(
    value: Any, own_module: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths, tags, interpolations, functions and class paths, in settings of an own network that may be anything."""
    monkeypatch.chdir(tmp_path)
    for name in ("evil", "evil.yaml"):
        (tmp_path / name).write_text('{"class_path": "hostile_module.Class"}')
    (tmp_path / "hostile_module.py").write_text(HOSTILE_MODULE)
    (tmp_path / "their_module.py").write_text(ANY_SETTING)
    called: list[Any] = []
    opened: list[str] = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: called.append(args))
    really_open = open

    def noted_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(str(file))
        return really_open(file, *args, **kwargs)

    init_args = {"note": value, "free": value, "more": {"a": value}}
    spec = {"class_path": "their_module.OwnNet", "init_args": init_args}
    path = edited(checkpoint, set_in(*MODEL, "network", value=spec), tmp_path / "own.ckpt")
    arguments = [argument for argument in TINY if "network" not in argument]
    arguments += ["--model.network=their_module.OwnNet", f"--trainer.default_root_dir={tmp_path}"]
    monkeypatch.setattr("builtins.open", noted_open)
    status, _, err = seqrl("test", *arguments, f"--ckpt_path={path}")
    if value is NO_NAMES:
        assert status == 0, err
        assert sys.modules["their_module"].GOT[-1] == tuple(init_args.values())
    else:
        assert (status, err.count("\n")) == (2, 1), err
    assert opened
    assert not [name for name in opened if "evil" in name]
    assert not called
    assert not (tmp_path / "hostile_module.imported").exists()


@pytest.mark.parametrize("key", ["class_path", "_class_path"])
def test_a_class_path_is_one_at_any_depth(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a file names 'os\.system'"):
        Trust().require_names({"a": [{key: "os.system"}]}, "a file")
    Trust().require_names({f"{key}_of": "os.system", 1: "os.system", "a.b": "os.system"}, "a file")


@pytest.mark.parametrize("key", ["x.class_path", "class_path.x", "x.init_args", "x.init_args.y", "x.dict_kwargs"])
def test_keys_that_a_parser_takes_apart_are_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="names of settings have no dots"):
        Trust().require_names({"a": [{key: "torch.nn.Linear"}]}, "a file")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("linear", "reason"),
    [
        (
            {
                "device.class_path": "seqrl_lightning.networks.MLP",
                "device.init_args": {"obs_shape": [4], "out_shape": [2], "head": "notes.yaml"},
            },
            "names of settings have no dots",
        ),
        ({"device.x": 1}, "they must have names"),
        ({"size": 1}, r"gives Linear \['size'\]; it must give it settings that it has"),
        ({"device": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2}}}, "it must be a number, a text"),
        ({"dtype": "notes.yaml"}, "names 'notes.yaml'"),
        ({"dtype": "notes"}, "names 'notes'"),
    ],
)
def test_the_settings_of_a_layer_that_nothing_is_built_of_are_checked_all_the_same(
    linear: dict[str, Any], reason: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parser would build them, and open a file by such a name."""
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {mark}", "shell": True}}
    for name in ("notes.yaml", "notes"):
        Path(name).write_text(json.dumps({"class_path": "torch.nn.Linear", "init_args": {"device": popen}}))
    spec = {"class_path": "torch.nn.Linear", "init_args": linear}
    evil = edited(checkpoint, set_in(*MODEL, "network", "init_args", "linear", value=spec), tmp_path / "evil.ckpt")
    status, _, err = seqrl("test", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={evil}")
    assert (status, err.count("\n")) == (2, 1), err
    assert re.search(reason, err)
    assert not mark.exists()


def test_a_parser_builds_the_learner_that_was_checked(checkpoint: Path, tmp_path: Path) -> None:
    other = set_in(*MODEL, "_class_path", value="seqrl_lightning.algorithms.SARSA")
    evil = edited(checkpoint, other, tmp_path / "evil.ckpt")
    status, _, err = seqrl("test", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={evil}")
    assert (status, err.count("\n")) == (2, 1), err
    assert "its algorithm, seqrl_lightning.algorithms.dqn:DQN" in err


def test_a_task_without_its_version_is_the_newest(checkpoint: Path, tmp_path: Path) -> None:
    gym.register("Lazy-v0", "antigravity:Env")
    try:
        evil = edited(checkpoint, set_in(*DATA, "env_id", value="Lazy"), tmp_path / "evil.ckpt")
        with pytest.raises(ConfigurationError, match="names 'Lazy'"):
            load_policy(evil).make_env()
    finally:
        gym.registry.pop("Lazy-v0")
    assert "antigravity" not in sys.modules
    path = edited(checkpoint, set_in(*DATA, "env_id", value="CartPole"), tmp_path / "good.ckpt")
    with pytest.warns(UserWarning, match="latest versioned"):
        load_policy(path).make_env().close()


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "ours"), [(True, False), (False, True)])
def test_whether_to_compile_is_not_the_files_to_decide(
    theirs: bool, ours: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling starts a C++ compiler."""
    compiled: list[Any] = []
    monkeypatch.setattr("torch.compile", lambda function: (compiled.append(function), function)[1])
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    edited(last, set_in(*MODEL, "compile", value=theirs), last)
    more = [f"--model.compile={ours}", "--ckpt_path=last", "--trainer.max_steps=12"]
    status, _, err = seqrl("fit", *TINY, f"--trainer.default_root_dir={tmp_path}", *more)
    assert status == 0, err
    assert f"seqrl: model.compile: {ours} is used, not the checkpoint's {theirs}\n" in err
    assert bool(compiled) is ours


@pytest.mark.slow
def test_wrappers_and_functions_of_ones_own_resume_by_the_config(own_module: Path, tmp_path: Path) -> None:
    (tmp_path / "their_module.py").write_text(OWN_MODULE + "\nclass Wrap(gym.Wrapper):\n    pass\n")
    arguments = [argument for argument in TINY if "network" not in argument]
    arguments += ["--model.network=their_module.factory", '--data.wrappers=["their_module.Wrap"]']
    arguments += [f"--trainer.default_root_dir={tmp_path}"]
    for more in ((), ("--ckpt_path=last", "--trainer.max_steps=12")):
        status, _, err = seqrl("fit", *arguments, *more)
        assert status == 0, err


FUNCTIONS = """
from collections.abc import Callable
import math
import torch
from seqrl_lightning.networks import MLP

class OwnNet(MLP):
    def __init__(
        self, obs_shape, out_shape, act: Callable = torch.relu, scale: Callable[[float], float] = math.sqrt, gelu=None
    ):
        super().__init__(obs_shape, out_shape, hidden_sizes=(6,))
        self.act, self.scale = act, scale
        assert callable(act) and callable(scale)
    def torso(self, observation, state=None, is_first=None):
        return super().torso(self.act(observation) * self.scale(4.0), state, is_first)
"""


@pytest.mark.slow
@pytest.mark.parametrize("act", [None, "torch.tanh", "torch.nn.functional.gelu", "torch.special.expit"])
def test_a_function_as_a_setting_of_an_own_network_resumes(act: str | None, own_module: Path, tmp_path: Path) -> None:
    """Also torch's own, which are written in C, and defaults: by the config, and mostly by the module alone."""
    (tmp_path / "their_module.py").write_text(FUNCTIONS)
    arguments = [argument for argument in TINY if "network" not in argument]
    arguments += [f"--trainer.default_root_dir={tmp_path}"]
    own = ["--model.network=their_module.OwnNet", *([f"--model.network.act={act}"] if act else [])]
    assert seqrl("fit", *arguments, *own)[0] == 0
    status, _, err = seqrl("fit", *arguments, *own, "--ckpt_path=last", "--trainer.max_steps=12")
    assert status == 0, err
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    allow = ["their_module"]
    if act == "torch.special.expit":
        with pytest.raises(ConfigurationError, match=r"--allow torch\.special"):
            load_policy(last, allow=allow)
        allow += ["torch.special", "torch._C._special"]  # which defines it
    assert load_policy(last, allow=allow).act(np.ones(4, np.float32)) in (0, 1)
    status, _, err = seqrl("test", *arguments, "--ckpt_path=last", f"--allow={','.join(allow)}")
    assert status == 0, err


LISTED_FUNCTIONS = [
    "torch.relu",
    "torch.tanh",
    "torch.nn.functional.gelu",
    "torch._C._nn.gelu",
    "torch.nn.functional.silu",
]
UNLISTED_FUNCTIONS = [
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "torch.zeros",
    "torch.nn.functional.one_hot",
    "os.system",
]


def test_files_name_activation_functions_and_no_others() -> None:
    tensor = torch.tensor([-1.0, 0.5])
    for name in LISTED_FUNCTIONS:
        assert Trust().find(name, "a file")(tensor).shape == (2,)
    for name in UNLISTED_FUNCTIONS:
        with pytest.raises(ConfigurationError, match=f"a file names '{name}'"):
            Trust().find(name, "a file")


@pytest.mark.parametrize(
    "name", ["torch.special.expit", "torch.nn.functional.one_hot", "torch.nn.Hardshrink", "math.sqrt", "torch.load"]
)
def test_whoever_follows_the_advice_of_a_refusal_gets_on(name: str) -> None:
    """A function that one module hands on may be of another one."""
    allow: list[str] = []
    for _ in range(2):
        with suppress(ConfigurationError):
            assert callable(Trust(allow).find(name, "a file"))
            return
        with pytest.raises(ConfigurationError) as refusal:
            Trust(allow).find(name, "a file")
        allow += re.findall(r"--allow ([\w.]+)", str(refusal.value))
    assert callable(Trust(allow).find(name, "a file"))


def test_what_is_neither_a_class_nor_a_function_is_refused(own_module: Path) -> None:
    Path(own_module.with_suffix(".py")).write_text("import functools\nhalf = functools.partial(pow, 0.5)\n")
    with pytest.raises(ConfigurationError, match=r"names 'their_module\.half'; it must be a class or a function"):
        Trust("their_module").find("their_module.half", "a file")


@pytest.mark.parametrize("allow", [(), "__main__"])
def test_what_a_script_or_notebook_defined_is_given_from_python(allow: str, checkpoint: Path, tmp_path: Path) -> None:
    path = edited(checkpoint, set_in(*MODEL, "network", value="__main__.TheirNet"), tmp_path / "own.ckpt")
    with pytest.raises(ConfigurationError, match=r"load_policy\(\.\.\., network=TheirNet\), or move it into a module"):
        load_policy(path, allow=allow)
    made = functools.partial(MLP, hidden_sizes=(6,))
    assert load_policy(path, network=made).act(np.ones(4, np.float32)) in (0, 1)


def test_a_long_recipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="needs the extra export")
    from safetensors.torch import save_file

    path = tmp_path / "long.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"recipe": "[" + "[]," * 2**21 + "0]", "seqrl_lightning": "{}"})
    with limited_memory(0.25), pytest.raises(ConfigurationError, match="its header, with the recipe, claims 6 MiB"):
        load_policy(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ckpts", "checkpoints"])
def test_a_users_own_config_beside_checkpoints_is_no_runs(name: str, run: Path, tmp_path: Path) -> None:
    """Any folder names will do: nothing is written there, and links are not followed."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(run / "lightning_logs/version_0/checkpoints", project / name)
    (project / "venv").symlink_to(sys.prefix)
    (project / "config.yaml").write_text("seed_everything: 0\ndata: {env_id: CartPole-v1, capacity: 77}\n")
    before = {path for path in project.rglob("*") if "venv" not in path.parts}
    more = [f"--ckpt_path={project / name / 'last.ckpt'}", f"--trainer.default_root_dir={elsewhere}"]
    for command in (["test"], ["fit", "--trainer.max_steps=12"]):
        status, _, err = seqrl(command[0], *TINY, *command[1:], *more)
        assert status == 0, err
    assert {path for path in project.rglob("*") if "venv" not in path.parts} == before
    assert (elsewhere / "lightning_logs/version_1").is_dir()


def with_state(run: Path, edit: Callable[[dict[str, Any], dict[str, Any]], object], folder: Path) -> Path:
    """A copy of a run whose last checkpoint, or its sidecar, a stranger has changed; all checksums fit."""
    shutil.copytree(run, folder, dirs_exist_ok=True)
    last = folder / "lightning_logs/version_0/checkpoints/last.ckpt"
    contents = read_checkpoint(last, mmap=False)
    (name,) = contents["sidecars"]
    state = read_archive(last.parent / name, mmap=False)
    edit(contents, state)
    torch.save(state, last.parent / name)
    contents["sidecars"] = {name: checksum(last.parent / name)}
    torch.save(seal(contents), last)
    return last


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda c, s: s["callbacks"]["EnvStepLogger"].update(unlogged=[[1, 0, "=1+1", 1.0, 1, True]]),
            r"EnvStepLogger's unlogged\[0\]\.block in the checkpoint is '=1\+1'; it must be of type int",
        ),
        (
            lambda c, s: s["ReplayDataModule"]["progress"].update(block="=1+1"),
            r"the progress\.block in the checkpoint is '=1\+1'; it must be of type int",
        ),
        (
            lambda c, s: s["ReplayDataModule"]["ring"].update(
                {k: v[:0] for k, v in s["ReplayDataModule"]["ring"].items() if isinstance(v, torch.Tensor)},
                action_mask=torch.zeros((0, 1, 200_000), dtype=torch.bool),
            ),
            r"the replay memory's observation in the checkpoint is one of torch\.float32 and shape \(0, 1, 4\)",
        ),
        (
            lambda c, s: s["ReplayDataModule"]["ring"]["is_final"].fill_(True),
            "the replay memory's is_final in the checkpoint is True; it must be false in some row",
        ),
        (
            lambda c, s: s["ReplayDataModule"].update(rng="text"),
            "the datamodule's random stream in the checkpoint is 'text'; it must be of type dict",
        ),
        (lambda c, s: s.update(ReplayDataModule="text"), "ReplayDataModule in the checkpoint is 'text'; it must be of"),
        (
            lambda c, s: s.update(loops={}),
            r"a part of step=8-rank0-\w+\.replay in the checkpoint is 'loops'; it must be",
        ),
        (
            lambda c, s: c["optimizer_states"][0]["param_groups"][0].update(lr="text"),
            r"optimizer_states\[0\]\.param_groups\[0\]\.lr in the checkpoint is 'text'; it must be of type float",
        ),
        (
            lambda c, s: c["optimizer_states"][0]["param_groups"][0].update(eps=1e30),
            r"optimizer_states\[0\]\.param_groups\[0\]\.eps in the checkpoint is 1e\+30; it must be the run's 1e-08",
        ),
        (lambda c, s: c["optimizer_states"].clear(), "optimizer_states in the checkpoint is 'a list of 0'; it must be"),
        (lambda c, s: c["loops"].pop("fit_loop"), r"loops in the checkpoint is one of \['predict_loop'"),
        (
            lambda c, s: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(0)),
            r"optimizer_states\[0\]\.state\[0\]\.exp_avg in the checkpoint is one of torch\.float32 and shape \(0,\)",
        ),
        (
            lambda c, s: s["callbacks"]["GlobalRandomStreams"]["numpy"].__setitem__(2, 10**9),
            "NumPy's position in the checkpoint is 1000000000",
        ),
        (
            lambda c, s: next(v for v in s["callbacks"].values() if "kth_value" in v).update(best_model_score="9"),
            "the score 'best_model_score' in the checkpoint is '9'; it must be a tensor of one number",
        ),
    ],
)
def test_a_state_that_is_none_is_refused_in_a_line_that_names_the_file(
    edit: Callable[[dict[str, Any], dict[str, Any]], object], reason: str, run: Path, tmp_path: Path
) -> None:
    last = with_state(run, edit, tmp_path)
    status, _, err = seqrl(
        "fit", *TINY, f"--trainer.default_root_dir={tmp_path}", "--ckpt_path=last", "--trainer.max_steps=12"
    )
    assert status != 0
    refusal = err.splitlines()[-1]
    assert str(last.name) in refusal
    assert re.search(reason, refusal), refusal


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all that is no collection; of the long lists of random streams only the first words."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else None
    return [place] if items is None else [way for key, item in items for way in leaves(item, (*place, key))]


THEIRS = (None, "theirs", float("nan"), 10**30, -1, torch.zeros(3, 7), {"class_path": "os.system", "init_args": {}})


def assert_resumes_or_refuses(place: tuple[Any, ...], value: Any, run: Path, folder: Path) -> None:
    last = with_state(run, lambda *parts: set_in(*place, value=value)(parts), folder)
    last.with_name("last.previous.ckpt").unlink(missing_ok=True)
    root = [f"--trainer.default_root_dir={folder}", "--ckpt_path=last", "--trainer.max_steps=12"]
    status, _, err = seqrl("fit", *TINY, *root)
    assert status == 0 or re.fullmatch("seqrl: error: .*", err.splitlines()[-1]), (place, value, err)
    assert "Traceback" not in err, (place, value, err)
    shutil.rmtree(folder)


@pytest.mark.parametrize("num_edits", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_whatever_a_state_holds_the_run_goes_on_or_ends_in_a_line(
    num_edits: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr("os.system", called.append)
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: called.append(args))
    found: list[Any] = []
    with_state(run, lambda *parts: found.extend(parts), tmp_path / "whole")
    shutil.rmtree(tmp_path / "whole")
    places = [place for place in leaves(found) if place[1] != "sidecars"]
    draw = np.random.default_rng(num_edits)
    for _ in range(num_edits):
        place, value = places[draw.integers(len(places))], THEIRS[draw.integers(len(THEIRS))]
        assert_resumes_or_refuses(place, value, run, tmp_path / "theirs")
    assert not called
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-1, 10**30, "theirs", None, True, 1.5])
@pytest.mark.parametrize("part", ["total", "current"])
def test_a_count_of_a_loop_is_one(part: str, value: Any, checkpoint: Path, tmp_path: Path) -> None:
    place = ("loops", "fit_loop", "epoch_progress", part, "completed")
    evil = edited(checkpoint, set_in(*place, value=value), tmp_path / "evil.ckpt")
    with pytest.raises(ConfigurationError, match=rf"{'.'.join(place)} in the checkpoint is .*; it must be"):
        load_policy(evil)


def of_weights(change: Callable[[torch.Tensor], object]) -> Edit:
    """Change one of the policy's weights."""

    def edit(contents: dict[str, Any]) -> None:
        name = next(name for name in contents["state_dict"] if name.startswith("policy_net."))
        contents["state_dict"][name] = change(contents["state_dict"][name])

    return edit


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda c: c["state_dict"].update({"policy_net.more": "text"}), "state_dict.*must be a tensor"),
        (lambda c: c.pop("state_dict"), "state_dict in the checkpoint is None; it must be of type dict"),
        (lambda c: c.pop("global_step"), "global_step in the checkpoint is None; it must be of type int"),
        (lambda c: c.update(global_step="8"), "global_step in the checkpoint is '8'; it must be of type int"),
        (lambda c: c.update(hyper_parameters=[1]), "hyper_parameters in the checkpoint is"),
        (lambda c: c.update(ReplayDataModule=3), "ReplayDataModule in the checkpoint is 3"),
        (lambda c: c["ReplayDataModule"].update(progress=3), "the progress of ReplayDataModule in the checkpoint is 3"),
        (of_weights(lambda weight: weight.to(torch.complex64)), r"torch\.complex64|\.weight differs"),
        (of_weights(lambda weight: weight.long()), r"torch\.int64|\.weight differs"),
    ],
)
def test_parts_that_no_run_writes_are_refused_in_a_line_by_whoever_reads_them(
    edit: Edit, reason: str, checkpoint: Path, tmp_path: Path
) -> None:
    theirs = edited(checkpoint, edit, tmp_path / "theirs.ckpt")
    for load in (
        load_policy,
        DQN.load_from_checkpoint,
        DQN((4,), 2, network=functools.partial(MLP, hidden_sizes=[6])).start_from,
    ):
        with pytest.raises(ConfigurationError, match=reason) as refusal:
            load(theirs)
        assert "\n" not in str(refusal.value)


def test_no_run_goes_on_without_its_datamodules_part(run: Path, tmp_path: Path) -> None:
    last = with_state(run, lambda c, s: (c.pop("ReplayDataModule"), s.pop("ReplayDataModule")), tmp_path)
    status, _, err = seqrl("fit", *TINY, f"--trainer.default_root_dir={tmp_path}", f"--ckpt_path={last}")
    assert status == 2
    assert "ReplayDataModule in the checkpoint is None; it must be of type dict" in err.splitlines()[-1]


def test_a_config_that_is_a_link_out_of_the_run_is_not_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "theirs")
    config = tmp_path / "theirs/lightning_logs/version_0/config.yaml"
    config.rename(tmp_path / "elsewhere.yaml")
    config.symlink_to(tmp_path / "elsewhere.yaml")
    last = config.parent / "checkpoints/last.ckpt"
    more = [f"--ckpt_path={last}", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=12"]
    status, _, err = seqrl("fit", *TINY, *more)
    assert status == 2
    assert "config.yaml is a symbolic link out of" in err.splitlines()[-1]


def test_the_datamodules_whose_state_is_checked_are_all_that_there_are() -> None:
    assert tuple(DATA_CLASSES) == DATAMODULES


def test_a_text_of_the_users_config_that_names_nothing_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table called ``train.csv`` isn't the permission to import ``train``."""
    (tmp_path / "train.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("train.csv", "train"):
        with pytest.raises(ConfigurationError, match=f"a file names '{name}'"):
            Trust(names=[name]).find(name, "a file")
    assert "train" not in sys.modules
    assert Trust(names=["tests.test_trust.Color"]).find("tests.test_trust.Color", "a file") is Color


def test_processes_are_started_by_the_caller_alone(run: Path, tmp_path: Path) -> None:
    """Compiling starts a compiler, and ``async`` a process for each environment."""
    last = run / "lightning_logs/version_0/checkpoints/last.ckpt"

    def edit(contents: dict[str, Any]) -> None:
        contents["hyper_parameters"]["compile"] = True
        contents["datamodule_hyper_parameters"]["vectorization_mode"] = "async"

    theirs = edited(last, edit, tmp_path / "theirs.ckpt")
    assert DQN.load_from_checkpoint(theirs).hparams["compile"] is False
    assert DQN.load_from_checkpoint(theirs, compile=True).hparams["compile"] is True
    assert ReplayDataModule.load_from_checkpoint(theirs).hparams["vectorization_mode"] is None
