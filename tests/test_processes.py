"""Several processes that learn together (gloo, on the CPU)."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.analysis.measures import criterion_by_block
from seqrl_lightning.analysis.runs import find_runs
from seqrl_lightning.batches import Transitions
from tests.running import assert_identical

pytestmark = [pytest.mark.slow, pytest.mark.alone]
ROOT = Path(__file__).parent.parent
UPDATES = 120
NORMALIZED = {"normalize_observations": True, "normalize_rewards": True}
CONFIG = """
seed_everything: 3
data:
  env_id: seqrl/Sequence-v0
  env_kwargs: {objects: ABCD, blocks: [{sequence: ABCD, episodes: 4}, {sequence: reversed}]}
  num_envs: 2
  batch_size: 16
  capacity: 800
  batches_per_epoch: 30
  eval_episodes: 2
model:
  class_path: DQN
  init_args:
    network: {class_path: MLP, init_args: {hidden_sizes: [16]}}
    normalize_observations: true
    normalize_rewards: true
agent: {warmup_env_steps: 100, env_steps_per_update: 2}
trainer:
  log_every_n_steps: 20
  enable_progress_bar: false
  accelerator: cpu
  devices: 2
  strategy: ddp
  callbacks: [{class_path: tests.witness.Witness}]
"""


def command(root: Path, *args: Any, launcher: tuple[str, ...] = ()) -> list[str]:
    root.mkdir(exist_ok=True)
    (root / "config.yaml").write_text(CONFIG)
    paths = [f"--config={root / 'config.yaml'}", f"--trainer.default_root_dir={root}"]
    return [sys.executable, "-m", *launcher, "seqrl_lightning.cli", "fit", *paths, *map(str, args)]


def run(root: Path, *args: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *args), capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)


def seen(root: Path) -> list[Any]:
    return [torch.load(root / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a finished run of two processes."""
    root = tmp_path_factory.mktemp("whole")
    result = run(root, f"--trainer.max_steps={UPDATES}")
    assert result.returncode == 0, result.stderr
    return root


def test_two_processes_share_weights_and_nothing_else(whole: Path) -> None:
    one, other = seen(whole)
    assert_identical(one["weights"], other["weights"])
    assert not torch.equal(
        one["weights"]["policy_net.head.output.weight"], one["first_weights"]["policy_net.head.output.weight"]
    )
    (rows,) = {int(rank["weights"]["normalization.observations.norm.num_rows"]) for rank in (one, other)}
    assert rows == sum(2 * (rank["data"]["ring"]["num_added"] + 1) for rank in (one, other))  # each of both, once
    assert not torch.equal(one["data"]["ring"]["action"], other["data"]["ring"]["action"])
    assert one["data"]["rng"] != other["data"]["rng"]
    assert one["data"]["progress"]["block"] == other["data"]["progress"]["block"] == 1


def test_the_gradient_is_that_of_one_process_with_both_batches(whole: Path) -> None:
    one, other = seen(whole)
    batches = zip(one["batch"], other["batch"], strict=True)
    union = Transitions(*(None if a is None else torch.cat([a, b], dim=1) for a, b in batches))
    from seqrl_lightning.networks import MLP

    module = DQN((4,), 4, lambda *shapes: MLP(*shapes, hidden_sizes=[16]), **NORMALIZED)
    module.load_state_dict(one["first_weights"])
    module.optimize_model(module.normalization.batch(union))["loss"].backward()  # type: ignore[no-untyped-call]
    assert_identical(one["gradient"], other["gradient"])
    for parameter, gradient in zip(module.policy_net.parameters(), one["gradient"], strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert gradient.abs().max() > 0


def test_the_episodes_of_both_are_in_one_table(whole: Path) -> None:
    with (whole / "lightning_logs" / "version_0" / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["env"] for row in rows} == {"0", "1", "2", "3"}
    env_steps = [int(row["env_steps"]) for row in rows]
    assert env_steps == sorted(env_steps)
    assert sum(int(row["episode_length"]) for row in rows) == pytest.approx(2 * (100 + 2 * UPDATES), abs=60)
    assert os.listdir(whole / "lightning_logs") == ["version_0"]


def test_curves_are_of_the_environments_of_both(whole: Path) -> None:
    version = whole / "lightning_logs" / "version_0"
    (run,) = find_runs([str(version)])
    assert run.trials is not None
    assert run.trials["env"].nunique() == 4
    expected = criterion_by_block(run.episodes, run.facts)["episodes"][1]
    assert run.curve("learning/episodes_to_criterion/block_1").iloc[-1] == expected


def test_a_resumed_run_ends_alike_and_another_number_of_processes_is_refused(whole: Path, tmp_path: Path) -> None:
    result = run(tmp_path, f"--trainer.max_steps={UPDATES // 2 + 7}")
    assert result.returncode == 0, result.stderr
    refused = run(tmp_path, f"--trainer.max_steps={UPDATES}", "--trainer.devices=1", "--ckpt_path=last")
    assert refused.returncode == 2
    assert "number of processes (trainer.devices) is 1; it must be the 2" in refused.stderr.splitlines()[-1]
    result = run(tmp_path, f"--trainer.max_steps={UPDATES}", "--ckpt_path=last")
    assert result.returncode == 0, result.stderr
    for one, other in zip(seen(whole), seen(tmp_path), strict=True):
        for key in ("weights", "data"):
            assert_identical(one[key], other[key])


def test_two_nodes_are_two_processes(whole: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = (f"--trainer.max_steps={UPDATES}", "--trainer.devices=1", "--trainer.num_nodes=2")
    nodes = []
    for node in ("0", "1"):
        launcher = ("torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", f"--node_rank={node}")
        launcher += ("--master_addr=127.0.0.1", f"--master_port={port}", "-m")
        nodes.append(subprocess.Popen(command(tmp_path, *args, launcher=launcher), cwd=ROOT))
    try:
        for node in reversed(nodes):  # the first one would wait for minutes for another that has failed
            assert node.wait(timeout=300) == 0
    finally:
        for node in nodes:
            node.kill()
    for one, other in zip(seen(whole), seen(tmp_path), strict=True):
        assert_identical(one["weights"], other["weights"])


def test_connections_end_before_python_does(tmp_path: Path) -> None:
    args = command(tmp_path, "--trainer.max_steps=5", "--trainer.devices=1")[3:]
    program = "import atexit, torch; atexit.register(lambda: print(torch.distributed.is_initialized())); "
    program += f"from seqrl_lightning.cli import SeqRLCLI; SeqRLCLI({args}); print(torch.distributed.is_initialized())"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
    assert result.stdout.splitlines()[-2:] == ["True", "False"], result.stderr


@pytest.mark.parametrize("lost_rank", [1, 0])
def test_a_process_that_dies_ends_the_run(lost_rank: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--trainer.max_steps=1000000"), stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    while not list(tmp_path.glob("lightning_logs/version_0/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = [int(pid) for pid in children if "seqrl" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(child if lost_rank == 1 else process.pid, signal.SIGKILL)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)  # until both have closed it
    assert time.monotonic() - start < 60
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert (f"rank {lost_rank}" in errors) or (lost_rank == 1 and "[rank: 1] Child process" in errors)
    while is_running(child):  # a process closes its files a moment before it has ended
        assert time.monotonic() - start < 60
        time.sleep(0.1)


def test_a_signal_to_all_processes_is_no_error(tmp_path: Path) -> None:
    arguments = command(tmp_path, "--trainer.max_steps=1000000")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
    while not list(tmp_path.glob("lightning_logs/version_0/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Interrupted: saved" in errors
    assert "error" not in errors


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
