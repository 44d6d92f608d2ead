"""``seqrl fit --seeds N``."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrl_lightning.analysis.runs import find_runs
from seqrl_lightning.launch import FitRun, job
from seqrl_lightning.launch.fit_run import resume
from seqrl_lightning.launched import REPORT_TO, report
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

CONFIG = """
data: {env_id: CartPole-v1, batch_size: 8, capacity: 60, batches_per_epoch: 50, eval_episodes: 1}
model:
  class_path: DQN
  init_args: {network: {class_path: MLP, init_args: {hidden_sizes: [8]}}}
agent: {warmup_env_steps: 16}
trainer: {max_steps: 100, log_every_n_steps: 10}
"""

STAND_IN = """
import os, pathlib, sys, time
report = pathlib.Path(os.environ["SEQRL_REPORT_TO"])
arguments = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
seed, folder = int(arguments["--seed_everything"]), pathlib.Path(arguments["--trainer.default_root_dir"])
with (folder.parent / "events").open("a") as file:
    print("begin", seed, *([arguments["--ckpt_path"]] if "--ckpt_path" in arguments else []), file=file, flush=True)
report.write_text("env steps 5/10")
try:
    time.sleep({seconds})
    checkpoints = folder / "lightning_logs" / "version_0" / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "last.ckpt").touch()
    if {fails}:
        report.write_text("error: the disk is full")
        sys.exit(1)
except KeyboardInterrupt:
    sys.exit(1)
finally:
    with (folder.parent / "events").open("a") as file:
        print("end", seed, file=file, flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path / "seeds"


def arguments(root: Path, *more: str) -> list[str]:
    return [
        "fit", f"--config={root.parent}/tiny.yaml", "--trainer.default_root_dir", str(root), "--seeds=3", *more
    ]  # fmt: skip


def stand_in(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.3, fails: str = "False") -> None:
    """Replace ``seqrl fit`` by a small program."""
    program = STAND_IN.replace("{seconds}", str(seconds)).replace("{fails}", fails)
    monkeypatch.setattr(job, "SEQRL", (sys.executable, "-c", program))


def events(root: Path) -> list[str]:
    return (root / "events").read_text().splitlines()


def test_the_command_that_comes_next_works_with_a_task_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    root = tmp_path / "my runs"
    options = ["--data.env_id=tests.tasks:Corridor", "--agent.max_env_steps=2000"]
    status, out, err = seqrl("fit", "--seeds=1", *options, f"--trainer.default_root_dir={root}")
    assert status == 0, err
    assert out.splitlines()[-1] == f"seqrl analyse '{root}' --allow tests.tasks"


@pytest.mark.slow
@pytest.mark.alone
def test_as_many_at_a_time_as_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    status, out, err = seqrl(*arguments(root, "--jobs", "2"))
    assert status == 0, err
    assert out.splitlines()[-2:] == [f"{root}: seeds 1 to 3", f"seqrl analyse {root}"]
    at_once = [0]
    for event in events(root):
        at_once.append(at_once[-1] + (1 if event.startswith("begin") else -1))
    assert max(at_once) == 2
    assert sorted(events(root)) == [f"{what} {seed}" for what in ("begin", "end") for seed in (1, 2, 3)]

    # Another start would mix its runs with these; going on has nothing to do, but for a seed more.
    status, _, err = seqrl(*arguments(root))
    assert status == 2
    assert f"{root} holds seeds already" in err
    (root / "events").write_text("")
    assert seqrl(*arguments(root, "--ckpt_path=last", "--seeds=4"))[0] == 0
    assert events(root) == ["begin 4", "end 4"]
    (root / "events").write_text("")
    assert seqrl(*arguments(root, "--ckpt_path=last", "--trainer.max_steps=200"))[0] == 0  # goes on with all
    assert sorted(events(root))[:3] == [f"begin {seed} last" for seed in (1, 2, 3)]


def test_a_seed_that_fails_is_reported_and_the_others_go_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, fails="seed == 2")
    status, out, err = seqrl(*arguments(root))
    assert status == 1
    assert "seed 2: failed: the disk is full\n" in out
    assert "seed 3: env steps 5/10\n" in out
    assert err == f"seqrl: error: 1 of 3 seeds failed (2): see {root}/seed_*/fit.log\n"


def test_ctrl_c_reaches_all_that_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, seconds=60)

    def interrupt() -> None:
        while not (root / "events").exists() or len(events(root)) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(signal.SIGINT)
    status, out, err = seqrl(*arguments(root, "--jobs=2"))
    thread.join()
    assert status == 130
    assert "seed 1: interrupted" in out
    assert err == "seqrl: interrupted; nothing was saved yet\n"
    assert sorted(events(root)) == ["begin 1", "begin 2", "end 1", "end 2"]  # the third never began
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds=0"], "--seeds is 0; it must be at least 1"),
        (["--jobs=0"], "--jobs is 0; it must be at least 1"),
        (
            ["--seed_everything=3"],
            "--seed_everything is given; with --seeds N, which means 1 to N, it must be left out",
        ),
        (["--ckpt_path=last"], "ckpt_path is 'last', but no seed has saved anything in "),
        (["--model.gama=1"], "model.gama is not a setting"),
    ],
)
def test_bad_input_gets_one_line(more: list[str], message: str, root: Path) -> None:
    status, _, err = seqrl(*arguments(root, *more))
    assert status == 2
    assert err.startswith("seqrl: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not root.exists()


@pytest.mark.slow
@pytest.mark.alone
def test_real_seeds_are_interrupted_go_on_and_are_read_as_one(root: Path) -> None:
    command = [sys.executable, "-m", "seqrl_lightning", *arguments(root), "--trainer.max_steps=3000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(root.glob("seed_*/lightning_logs/version_0/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("seqrl: interrupted; the same command with --ckpt_path last resumes them\n")

    result = subprocess.run([*command, "--ckpt_path=last"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    runs = find_runs([str(root)])
    assert sorted(run.seed for run in runs) == [1, 2, 3]
    assert len({tuple(run.episodes["episode_return"]) for run in runs}) == 3
    assert all(run.config["trainer"]["max_steps"] == 3000 for run in runs)
    status, out, err = seqrl("analyse", str(root))
    assert status == 0, err
    assert "3 runs of CartPole-v1 (seeds 1, 2, 3)" in Path(out.strip()).read_text()
    assert Path(out.strip()).parent == root / "analysis"


@pytest.mark.slow
@pytest.mark.alone
def test_seeds_whose_parent_is_killed_save_and_end_and_are_resumed(root: Path) -> None:
    command = [sys.executable, "-m", "seqrl_lightning", *arguments(root, "--jobs=2"), "--trainer.max_steps=100000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(root.glob("seed_*/lightning_logs/version_0/checkpoints/last.ckpt"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    command[-1] = "--trainer.max_steps=3000"
    result = subprocess.run([*command, "--ckpt_path=last"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    for run in find_runs([str(root)]):
        assert list(run.episodes["env_steps"]) == sorted(set(run.episodes["env_steps"]))  # nothing was written twice


@pytest.mark.parametrize("text", ["[" * 100_000, "no JSON", " " * 2**20])
def test_a_seeds_end_is_read_as_a_strangers(text: str, tmp_path: Path) -> None:
    seed = FitRun("seed 1", 1, tmp_path, ["--a=1"], {"a": 1, "trainer": {}})
    over = tmp_path / "seed_1" / "over.json"
    over.parent.mkdir()
    over.write_text(text)
    with pytest.raises(ConfigurationError, match=r"over\.json"):
        _ = seed.is_over
    for arguments, is_over in ((seed._config, True), ({"a": 2}, False), (["--a=1"], False)):
        over.write_text(json.dumps(arguments))
        assert seed.is_over is is_over


def test_a_report_that_cannot_be_written_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REPORT_TO, str(tmp_path / "no folder" / "fit.progress"))
    report("env steps 5/10")
    later = job.Job("later", [], tmp_path / "fit.log")
    assert later.progress == "starting"
    later.report.write_bytes("return 1 \u2026".encode()[:-1])  # a part of what is being written
    assert later.progress.startswith("return 1 ")


def test_a_run_is_over_and_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    def run(gamma: float = 0.9, episodes: int = 10) -> FitRun:
        config: dict[str, Any] = {
            "seed_everything": 0,
            "trainer": {},
            "data": {"env_id": "CartPole-v1", "env_kwargs": {}},
        }
        config |= {"model": {"init_args": {"gamma": gamma}}, "agent": {"max_episodes": episodes}}
        return FitRun("seed 2", 2, tmp_path, [], config)

    first = run()
    first.begin()
    first.end(0)
    folder = first.folder / "lightning_logs/version_0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").touch()
    (folder / "config.yaml").write_text(yaml.safe_dump(first._config))
    assert resume([run()]) == []
    (longer,) = resume([run(episodes=20)])
    assert longer.arguments[-1] == "--ckpt_path=last"
    with pytest.raises(ConfigurationError, match=r"seed_2 was started with model.gamma 0\.9; it is 0\.5 now"):
        resume([run(gamma=0.5)])


def test_a_folder_of_seeds_with_links_out_of_it_is_refused(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("precious")
    (root / "seed_1/lightning_logs/version_0/checkpoints").mkdir(parents=True)
    (root / "seed_1/lightning_logs/version_0/checkpoints/last.ckpt").touch()
    (root / "seed_1/fit.log").symlink_to(victim)
    status, _, err = seqrl(*arguments(root, "--ckpt_path=last"))
    assert status == 2
    assert "fit.log is a symbolic link out of" in err
    assert victim.read_text() == "precious"


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", ["notes.txt", "lightning_logs/version_0/checkpoints/epoch=3-step=40.ckpt"])
def test_nothing_is_deleted_that_a_run_did_not_write_or_that_may_be_wanted(root: Path, name: str) -> None:
    saved = root / "seed_1/lightning_logs/version_0/checkpoints/last.ckpt"
    kept = root / "seed_2" / name
    for path in (saved, kept, root / "seed_2/fit.log"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    status, _, err = seqrl(*arguments(root, "--ckpt_path=last"))
    assert status == 2
    assert f"has no last.ckpt to resume from, but holds {kept.name}" in err
    assert kept.exists()
