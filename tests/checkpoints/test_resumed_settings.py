"""Every setting, changed when a run is resumed, is refused or told by its own name."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml

from seqrl_lightning.checkpoints.changes import changes, flat, overruled
from tests.running import seqrl


class TwoParts(gym.Env[Any, Any]):
    """An observation with parts, four steps an episode."""

    observation_space = gym.spaces.Dict(a=gym.spaces.Discrete(2), b=gym.spaces.Box(0, 9, (2,), np.float32))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, size: int = 4) -> None:
        self.size = size

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.look(), float(action), self.t == self.size, False, {}

    def look(self) -> Any:
        return {"a": self.t % 2, "b": np.array([self.t, 1], np.float32)}


gym.register("tests/TwoParts-v0", TwoParts)

COMMON = (
    *("fit", "--data.env_id=tests/TwoParts-v0", "--data.batch_size=8", "--data.eval_episodes=2", "--data.capacity=64"),
    *("--agent.warmup_env_steps=32", "--data.batches_per_epoch=4", "--trainer.enable_model_summary=false"),
    *("--trainer.enable_progress_bar=false", "--agent.epsilon=LinearEpsilon", "--agent.env_steps_per_update=2"),
    *("--agent.updates_per_collect=1", "--data.num_envs=2", "--data.env_kwargs={size: 4}"),
)
KINDS = {
    "plain": ("--data.sampler=PrioritizedSampler", "--agent.exploration_bonus=RND"),
    "recurrent": ("--data.sampler=SequenceSampler", "--data.sampler.length=4", "--model.network=GRU"),
}
GROUPS = ("data", "agent", "target_sync", "priorities", "skipped_updates", "checkpoint", "model")
OTHERS: dict[str, Any] = {
    "data.env_id": "seqrl/Sequence-v0",
    "data.capacity": 128,
    "data.mmap_dir": "mapped",
    "data.trials": "trials.csv",
    "data.vectorization_mode": "async",
    "data.autoreset_mode": "NextStep",
    "data.wrappers": ["PreviousActionReward"],
    "data.flatten_observations": False,
    "data.buffer_device": "auto",
    "data.eval_episodes": 4,
    "data.eval_num_envs": 1,
    "data.sampler": "UniformSampler",
    "data.sampler.overlap": 1,
    "agent.epsilon": "ExponentialEpsilon",
    "agent.max_env_steps": 1000,
    "agent.max_episodes": 1000,
    "agent.on_env_error": "restart",
    "agent.exploration_bonus": "CountBonus",
    "agent.exploration_bonus.network": "GRU",
    "agent.exploration_bonus.network.hidden_sizes": [32],
    "agent.actors": 1,
    "agent.ray_address": "auto",
    "target_sync.tau": 0.5,
    "checkpoint.dirpath": "elsewhere",
    "checkpoint.filename": "another",
    "checkpoint.monitor": "val/episode_length_mean",
    "checkpoint.save_last": True,
    "checkpoint.mode": "min",
    "checkpoint.every_n_train_steps": 2,
    "checkpoint.train_time_interval": "0:00:10",
    "checkpoint.every_n_epochs": 2,
    "checkpoint.save_on_train_epoch_end": True,
    "model": "C51",
    "model.network": "LSTM",
    "model.network.hidden_sizes": [32],
    "model.network.encoder_size": 8,
    "model.network.head": "DuelingHead",
    "agent.exploration_bonus.network.head": "DuelingHead",
    "model.optimizer": "torch.optim.SGD",
    "model.optimizer.betas": [0.5, 0.5],
    "model.optimizer.foreach": True,
    "model.lr_scheduler": "torch.optim.lr_scheduler.LinearLR",
    "model.value_rescaling": 0.5,
    "model.clip_grad_value": 1.0,
    "model.clip_grad_norm": 1.0,
}
"""Values of another kind than numbers and flags, and numbers that depend on others."""
LAYERS = re.compile(r".*\blinear(\.(bias|device|dtype))?")
"""The settings of torch's own layer, which stand in each network and head."""
OF_DEFAULTS = ("target_sync.sync_every_updates",)
"""Settings that the default of another one depends on, which is told, too."""
NEED_MORE = ("data.trials", "agent.actors")  # a table, Ray


def run_folder(root: Path) -> Path:
    return root / "lightning_logs" / "version_0"


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run, and the command that began it."""
    root = tmp_path_factory.mktemp(request.param)
    words = [*COMMON, *KINDS[request.param]]
    status, _, err = seqrl(*words, "--trainer.max_steps=4", f"--trainer.default_root_dir={root}")
    assert status == 0, err
    return root, words


def settings(root: Path) -> dict[str, Any]:
    """The settings of a run by their full names, as its ``config.yaml`` has them."""
    config = yaml.safe_load((run_folder(root) / "config.yaml").read_text())
    return {name: value for name, value in flat(config).items() if name.partition(".")[0] in GROUPS}


def other(name: str, value: Any) -> Any:
    """Another value of a setting."""
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 or 0.5
    raise AssertionError(f"{name} is {value!r}; OTHERS must have another value for it")


def plain_name(path: str) -> str:
    """A setting's name as messages have it."""
    return re.sub(r"\.(init_args|class_path)\b", "", path)


def outcome_of(root: Path, words: list[str], path: str, value: Any) -> str | None:
    """Resume a copy of a run with one setting changed. Returns what is wrong with the outcome; None for nothing."""
    name = plain_name(path)
    option = path.removesuffix(".class_path")
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    text = value if isinstance(value, str) else json.dumps(value)
    more = f"--trainer.default_root_dir={root}", "--ckpt_path=last", "--trainer.max_steps=6", f"--{option}={text}"
    status, _, err = seqrl(*words, *more)
    told = [line for line in err.splitlines() if line.startswith("seqrl: ") and " defaults for " not in line]
    if status == 2:
        if not told or not re.match(rf"seqrl: error: {re.escape(name)}\b[^.\w]", told[-1]) or len(told) > 1:
            return f"{path}: {told or err}"
        after = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
        return None if after == before else f"{path}: refused, and wrote {after.keys() ^ before.keys() or 'something'}"
    is_class = path.endswith(".class_path")  # another class has other defaults, each told by its own name
    its_names = f"seqrl: {re.escape(name)}{'.*' if is_class else ''}: "
    told = told[:1] if name in OF_DEFAULTS else told
    is_told = bool(told) and all(re.match(its_names, line) for line in told) and (is_class or len(told) == 1)
    return None if status == 0 and is_told else f"{path}: {status}, {told or err}"


def changed(config: Any, path: str, value: Any) -> Any:
    """The config with another value at a dotted name; another class has no settings yet."""
    key, _, rest = path.partition(".")
    inner = changed(config[key], rest, value) if rest else value
    return {"class_path": value} if path == "class_path" else {**config, key: inner}


@pytest.mark.slow_after(1)
def test_every_setting_that_changes_is_named_alone(base: tuple[Path, list[str]]) -> None:
    root, _ = base
    config = yaml.safe_load((run_folder(root) / "config.yaml").read_text())
    names = set()
    for path, value in settings(root).items():
        name = plain_name(path)
        if LAYERS.fullmatch(name):
            continue
        now = changed(config, path, other(name, value))
        found = overruled(now, config) if name.startswith("model") else changes(config, now)
        told = {change.name for change in found}
        if path.endswith(".class_path"):  # its settings differ, too
            assert name in told
            assert all(one.startswith(name) for one in told)
        else:
            assert told == {name}
        names.add(name)
    assert {"data.flatten_observations", "agent.warmup_env_steps", "model.gamma", "data.sampler.n_step"} <= names


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_setting_is_refused_or_told_by_its_own_name(
    base: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fifth, as each takes a start of the program; ``test_every_setting_that_changes_is_named_alone`` has all."""
    monkeypatch.chdir(tmp_path)
    root, words = base
    wrong = []
    for number, (path, value) in enumerate(list(settings(root).items())[::5]):
        if LAYERS.fullmatch(plain_name(path)) or path in NEED_MORE:
            continue
        copy = tmp_path / str(number)
        shutil.copytree(root, copy)
        wrong.append(outcome_of(copy, words, path, other(plain_name(path), value)))
        shutil.rmtree(copy)
    assert [line for line in wrong if line] == []


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.flatten_observations", False),
        ("agent.max_env_steps", 30),
        ("data.eval_num_envs", 3),
    ],
)
def test_a_refused_resumption_writes_nothing(
    base: tuple[Path, list[str]], path: str, value: Any, tmp_path: Path
) -> None:
    shutil.copytree(base[0], tmp_path / "copy")
    assert outcome_of(tmp_path / "copy", base[1], path, value) is None


@pytest.mark.slow
def test_a_run_that_is_over_keeps_its_config(base: tuple[Path, list[str]], tmp_path: Path) -> None:
    """With a lower limit it has nothing to do, and its ``config.yaml`` still starts the same run."""
    shutil.copytree(base[0], tmp_path / "copy")
    before = (run_folder(base[0]) / "config.yaml").read_text()
    more = f"--trainer.default_root_dir={tmp_path / 'copy'}", "--ckpt_path=last"
    assert seqrl(*base[1], *more, "--trainer.max_steps=2")[0] == 0
    assert (run_folder(tmp_path / "copy") / "config.yaml").read_text() == before
    assert seqrl(*base[1], *more, "--trainer.max_steps=5")[0] == 0
    assert "max_steps: 5" in (run_folder(tmp_path / "copy") / "config.yaml").read_text()
