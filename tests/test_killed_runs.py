"""A run that is killed again and again ends as the run that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.running import assert_identical

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
CONFIG = """
seed_everything: 3
data:
  env_id: {env_id}
  num_envs: {num_envs}
  batch_size: 16
  capacity: 800
  batches_per_epoch: 100
  eval_episodes: 1
  sampler: {sampler}
model:
  class_path: DQN
  init_args: {{network: {network}}}
agent: {{warmup_env_steps: 100, env_steps_per_update: 2}}
trainer: {{max_steps: {max_steps}, log_every_n_steps: 30, enable_progress_bar: false}}
"""
PRIORITIZED = "{class_path: PrioritizedSampler, init_args: {n_step: 3}}"
WINDOWS = "{class_path: SequenceSampler, init_args: {length: 8, overlap: 4, burn_in: 2, prioritized: true, n_step: 3}}"
MLP = "{class_path: MLP, init_args: {hidden_sizes: [16]}}"
GRU = "{class_path: GRU, init_args: {hidden_size: 8}}"
ALGORITHMS = {"DQN": ("UniformSampler", MLP), "prioritized n-step": (PRIORITIZED, MLP), "R2D2": (WINDOWS, GRU)}
"""A sampler and a network."""


def start(root: Path, *args: str, command: str = "fit") -> subprocess.Popen[str]:
    """Start the program in a folder, and write into the default one, whose name is relative."""
    words = [sys.executable, "-m", "seqrl_lightning.cli", command, "--config", "config.yaml", *args]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root, env=env, start_new_session=True
    )


def last(root: Path) -> Path:
    return root / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


def state(root: Path) -> Any:
    """All that the finished run's checkpoint holds, but for what only times."""
    checkpoint = torch.load(last(root), weights_only=True)
    (name,) = checkpoint["sidecars"]
    sidecar = torch.load(last(root).parent / name, weights_only=True)
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    return [{key: checkpoint[key] for key in keys}, sidecar["callbacks"], sidecar["ReplayDataModule"]]


def checkpoints(root: Path) -> list[str]:
    """The names of the checkpoints that stay."""
    return sorted(path.name for path in last(root).parent.glob("*.ckpt"))


def curve(root: Path) -> dict[tuple[str, int], float]:
    """The last value of each tag at each step."""
    events = EventAccumulator(str(root / "lightning_logs" / "version_0"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith("_per_second")]
    return {(tag, event.step): event.value for tag in tags for event in events.Scalars(tag)}


def tables(root: Path) -> dict[str, str]:
    """Episodes, and trials where the task has them."""
    return {path.name: path.read_text() for path in (root / "lightning_logs" / "version_0").glob("*.csv")}


def saved_at(root: Path) -> float:
    """When the run saved its last checkpoint; 0 while there is none, also for the moment in which it is replaced."""
    try:
        return last(root).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def kill_and_go_on(root: Path, kills: int) -> None:
    """Kills the run ``kills`` times, each time soon after it has saved something new; then lets it finish.

    The last time it isn't killed but asked to end, twice: it saves in the middle of an epoch.
    """
    moments = random.Random(kills)
    for kill in range(kills + 1):
        before = saved_at(root)
        process = start(root, *(("--ckpt_path", "last") if before else ()))
        while saved_at(root) in (0.0, before):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.7))
        if kill < kills:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, "too late: the run was over"
            process.communicate()
            continue
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
        assert process.returncode == 143, output
        assert "Traceback" not in output
        assert "Interrupted: saved" in output
    process = start(root, "--ckpt_path", "last")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "Not bitwise" not in output


@pytest.mark.parametrize(
    ("algorithm", "env_id", "num_envs", "kills", "max_steps"),
    [
        ("prioritized n-step", "CartPole-v1", 8, 10, 3000),
        ("DQN", "CartPole-v1", 1, 2, 3000),
        ("DQN", "seqrl/Sequence-v0", 8, 2, 3000),
        ("prioritized n-step", "seqrl/Sequence-v0", 1, 2, 3000),
        ("R2D2", "seqrl/DelayedRecall-v0", 8, 2, 1500),
        ("R2D2", "CartPole-v1", 1, 2, 1500),
    ],
)
def test_a_killed_run_ends_as_if_it_had_never_been_killed(
    algorithm: str, env_id: str, num_envs: int, kills: int, max_steps: int, tmp_path: Path
) -> None:
    roots = tmp_path / "whole", tmp_path / "killed"
    sampler, network = ALGORITHMS[algorithm]
    config = CONFIG.format(env_id=env_id, num_envs=num_envs, sampler=sampler, network=network, max_steps=max_steps)
    for root in roots:
        root.mkdir()
        (root / "config.yaml").write_text(config)
    whole = start(roots[0])
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    kill_and_go_on(roots[1], kills)

    one, other = map(state, roots)
    assert_identical(one, other)
    assert checkpoints(roots[0]) == checkpoints(roots[1])
    assert tables(roots[0]) == tables(roots[1])
    assert ("trials.csv" in tables(roots[0])) == env_id.startswith("seqrl/")
    curves = list(map(curve, roots))
    assert len(curves[0]) > max_steps / 10
    assert curves[0] == curves[1]


@pytest.mark.alone
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_saves_what_workers_hold(signum: int, status: int, tmp_path: Path) -> None:
    """As a terminal or a cluster sends it: the environments' own processes wait until their state is saved."""
    roots = tmp_path / "whole", tmp_path / "half"
    config = CONFIG.format(env_id="CartPole-v1", num_envs=2, sampler="UniformSampler", network=MLP, max_steps=900)
    for root in roots:
        root.mkdir()
        (root / "config.yaml").write_text(config)
    in_processes = "--data.vectorization_mode=async"
    whole, half = (start(root, in_processes) for root in roots)
    while not last(roots[1]).exists():
        assert half.poll() is None, half.communicate()[0]
        time.sleep(0.005)
    os.killpg(half.pid, signum)
    output, _ = half.communicate(timeout=60)
    assert half.returncode == status, output
    assert "Interrupted: saved" in output
    assert "Traceback" not in output
    output, _ = start(roots[1], in_processes, "--ckpt_path", "last").communicate()
    assert "Not bitwise" not in output
    output, _ = whole.communicate()
    assert whole.returncode == 0, output
    assert_identical(*map(state, roots))


@pytest.mark.alone
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.4, 1.2])
def test_a_signal_in_the_first_seconds_is_one_line(signum: int, seconds: float, tmp_path: Path) -> None:
    config = CONFIG.format(env_id="CartPole-v1", num_envs=1, sampler="UniformSampler", network=MLP, max_steps=10**6)
    (tmp_path / "config.yaml").write_text(config)
    process = start(tmp_path)
    time.sleep(seconds)
    os.killpg(process.pid, signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (128 + signum, -signum)  # Python may end itself by the signal after Ctrl-C
    assert output.endswith(f"seqrl: ended by {'Ctrl-C' if signum == signal.SIGINT else 'SIGTERM'}\n")
    assert "Traceback" not in output


@pytest.mark.alone
@pytest.mark.parametrize(
    ("signum", "status", "line"), [(signal.SIGINT, 1, "graceful"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_in_a_prediction_leaves_no_table(signum: int, status: int, line: str, tmp_path: Path) -> None:
    config = CONFIG.format(env_id="CartPole-v1", num_envs=1, sampler="UniformSampler", network=MLP, max_steps=1)
    (tmp_path / "config.yaml").write_text(config)
    many = ("--ckpt_path=untrained", "--data.eval_episodes=9000", "--data.eval_num_envs=2")
    process = start(tmp_path, *many, "--data.vectorization_mode=async", command="predict")
    while not list(tmp_path.rglob("predictions.csv*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert line in output.splitlines()[-1]
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("predictions.csv*"))


SLOW_TASK = """
import os, time
from pathlib import Path
import gymnasium as gym
import numpy as np

def mark(name):
    with Path(os.environ["MARKS"], name).open("a") as file:
        file.write("x")

mark("import")
time.sleep(float(os.environ.get("SECONDS_OF_IMPORT", "0")))

class Slow(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.is_evaluation = seed is not None and 1_000_000 <= seed < 1_000_100
        return np.zeros(1, np.float32), {}

    def step(self, action):
        mark("evaluation" if self.is_evaluation else "step")
        time.sleep(0.002)
        return np.zeros(1, np.float32), 1.0, False, self.is_evaluation and action > 1, {}

gym.register("Slow-v0", Slow)
"""
LONG = (
    "--data.env_id=slow_task:Slow-v0",
    "--data.vectorization_mode=async",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_steps=100000",
)
EVALUATED = (*LONG, "--ckpt_path=untrained", "--data.eval_episodes=2", "--data.eval_max_steps=100000")
PHASES: dict[str, tuple[tuple[str, ...], str, int]] = {
    "start-up": (("fit", *LONG), "import", 1),
    "warm-up": (
        ("fit", *LONG, "--data.num_envs=2", "--agent.warmup_env_steps=50000", "--data.capacity=60000"),
        "step",
        1500,
    ),
    "evaluation": (
        (
            "fit",
            *LONG,
            "--agent.warmup_env_steps=10",
            "--data.batch_size=4",
            "--data.batches_per_epoch=3",
            *EVALUATED[-2:],
        ),
        "evaluation",
        20,
    ),
    **{command: ((command, *EVALUATED), "evaluation", 20) for command in ("validate", "test", "predict")},
}
"""The command, the place in which a signal comes, and how often it was passed before."""


def processes_of(session: int) -> list[str]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            name, _, rest = path.read_text().rpartition(")")
            state, _, _, its_session, *_ = rest.split()
            found += [name] * (int(its_session) == session and state != "Z")
    return found


@pytest.mark.alone
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_ends_a_command_and_its_processes_in_any_phase(
    to_all: bool, signum: int, phase: str, tmp_path: Path
) -> None:
    words, place, count = PHASES[phase]
    (tmp_path / "slow_task.py").write_text(SLOW_TASK)
    marks = tmp_path / "marks"
    marks.mkdir()
    env = {"PYTHONPATH": str(ROOT), "MARKS": str(marks), "SECONDS_OF_IMPORT": "3" if phase == "start-up" else "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrl_lightning", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=os.environ | env,
        start_new_session=True,
    )
    while not (marks / place).exists() or (marks / place).stat().st_size < count:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    (os.killpg if to_all else os.kill)(process.pid, signum)
    output, _ = process.communicate(timeout=120)
    lightning_ends_it = signum == signal.SIGINT and phase != "start-up"
    assert process.returncode == (1 if lightning_ends_it else 128 + signum), output
    if lightning_ends_it:
        last_line = "attempting graceful shutdown"
    elif phase == "evaluation":
        last_line = "Resume from the previous epoch with --ckpt_path last."
    else:
        last_line = "seqrl: ended by"
    assert last_line in output.rstrip().splitlines()[-1], output
    assert "Traceback" not in output
    assert "rror" not in output
    assert processes_of(process.pid) == []
