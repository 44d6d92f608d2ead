"""Jobs that submitit runs, by its executor for processes of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from seqrl_lightning.launch import FitRun, Job, Submitit, job
from seqrl_lightning.launch.cluster import Command, _Submitted
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

submitit = pytest.importorskip("submitit")

# Saves when it is told to end, as `seqrl fit` does, and is done after as many seconds as its first argument says.
STAND_IN = """
import os, pathlib, signal, sys, time
def end(*_):
    checkpoints = pathlib.Path(folder, "lightning_logs/version_0/checkpoints")
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / "last.ckpt").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
arguments = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
folder = arguments.get("--trainer.default_root_dir", ".")
with open(arguments["--events"], "a") as events:
    print(arguments.get("--name", "run"), arguments.get("--ckpt_path", "anew"), file=events)
pathlib.Path(os.environ["SEQRL_REPORT_TO"]).write_text("env steps 5/10")
print("a line of the log")
time.sleep(0 if arguments.get("--ckpt_path") else float(arguments["--seconds"]))
sys.exit(int(arguments.get("--status", 0)))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "SEQRL", (sys.executable, "-c", STAND_IN))
    return tmp_path


def events(folder: Path) -> list[str]:
    path = folder / "events"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def make(folder: Path, name: str, seconds: float = 0.0, status: int = 0) -> Job:
    words = [f"--name={name}", f"--events={folder}/events", f"--seconds={seconds}", f"--status={status}"]
    return Job(name, words, folder / name / "fit.log")


@pytest.mark.slow
@pytest.mark.alone
def test_jobs_run_and_failures_have_their_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [make(folder, "one"), make(folder, "two", status=3), make(folder, "three")]
    assert Submitit(2, {"cluster": "local", "timeout_min": 5}).run(jobs) == 0
    assert [of_one.status for of_one in jobs] == [0, 3, 0]
    assert sorted(events(folder)) == ["one anew", "three anew", "two anew"]
    out = capsys.readouterr().out
    assert "one: env steps 5/10\n" in out
    assert "two: failed: a line of the log\n" in out


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_lets_jobs_save_and_begins_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        wait_for(lambda: events(folder))
        os.kill(os.getpid(), signal.SIGINT)

    jobs = [make(folder, "one", seconds=60), make(folder, "two")]
    thread = threading.Thread(target=interrupt)
    thread.start()
    assert Submitit(1, {"cluster": "local"}).run(jobs) == signal.SIGINT
    thread.join()
    assert events(folder) == ["one anew"]
    assert [of_one.status for of_one in jobs] == [143, None]
    assert Path("lightning_logs/version_0/checkpoints/last.ckpt").exists()
    assert "one: interrupted: env steps 5/10\n" in capsys.readouterr().out
    assert not list(folder.rglob("*.stop"))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("has_saved", [True, False])
def test_a_job_that_is_preempted_saves_and_resumes(folder: Path, has_saved: bool) -> None:
    """One that is killed before it could save fails."""
    words = [f"--events={folder}/events", "--seconds=60"]
    run = FitRun("seed 1", 1, folder / "runs", words, {"trainer": {}})
    submitted = _Submitted(Submitit(None, {"cluster": "local"})._executor, run)
    wait_for(lambda: events(folder))
    signum, of_process = ("USR2", f"_submit {folder}") if has_saved else ("KILL", f"events={folder}/events")
    subprocess.run(["pkill", f"-{signum}", "-f", of_process], check=True)  # USR2: SLURM's warning
    wait_for(submitted.has_ended)
    assert events(folder) == (["run anew", "run last"] if has_saved else ["run anew"])
    assert run.status == (0 if has_saved else -signal.SIGKILL)
    assert submitted.outcome() == f"seed 1: {'env steps 5/10' if has_saved else 'failed: killed by SIGKILL'}"


@pytest.mark.parametrize(("state", "cancels"), [("PENDING", [False]), ("RUNNING", [])])
def test_ctrl_c_cancels_what_only_waits_for_a_node(folder: Path, state: str, cancels: list[bool]) -> None:
    class Queue:
        def __init__(self) -> None:
            self.state, self.canceled = state, list[bool]()

        def submit(self, command: Command) -> "Queue":
            return self

        def cancel(self, check: bool) -> None:
            self.canceled.append(check)

    queue = Queue()
    submitted = _Submitted(cast("submitit.AutoExecutor", queue), make(folder, "one"))
    submitted.send(signal.SIGINT)
    assert queue.canceled == cancels
    assert submitted.job.stop.exists()
    submitted.send(signal.SIGINT)
    assert len(queue.canceled) == len(cancels) + 1


def test_a_job_that_was_stopped_stays_stopped_when_it_is_preempted(folder: Path) -> None:
    one = make(folder, "one")
    one.begin()
    one.stop.touch()
    Command(one).checkpoint()
    assert one.stop.exists()


@pytest.mark.slow
@pytest.mark.alone
def test_seeds_on_a_cluster(folder: Path) -> None:
    root = folder / "seeds"
    fit = ["fit", "--data.env_id=CartPole-v1", f"--trainer.default_root_dir={root}", "--agent.max_episodes=3"]
    words = [*fit, "--seeds=2", "--launcher=submitit", '--submitit={"cluster": "local"}']
    job.SEQRL = (sys.executable, "-m", "seqrl_lightning")  # the real one; the fixture puts back what was there
    status, out, err = seqrl(*words)
    assert status == 0, err
    assert out.splitlines()[-2:] == [f"{root}: seeds 1 to 2", f"seqrl analyse {root}"]
    assert len(list(root.glob("seed_*/over.json"))) == 2
    assert len(list(root.glob("seed_*/lightning_logs/version_0/episodes.csv"))) == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--launcher=submitit"], "--launcher is 'submitit'; it must be used where SLURM's `sbatch` is installed"),
        (['--submitit={"cluster": "local"}'], "--submitit is {'cluster': 'local'}; it must be left out without "),
        (["--launcher=submitit", '--submitit={"cluster": "local", "slurm_colour": 1}'], "it must be parameters of "),
        (["--launcher=submitit", '--submitit={"cluster": "pbs"}'], "it must be parameters of submitit.AutoExecutor"),
        (["--launcher=submitit", "--submitit=[1]"], "submitit is '[1]'; it must be a mapping"),
        (["--launcher=cloud"], "--launcher"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    status, _, err = seqrl("fit", "--data.env_id=CartPole-v1", "--seeds=2", *words)
    assert status == 2
    assert reason in err
    assert err.count("\n") == 1


def test_jobs_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="--jobs is 0; it must be at least 1"):
        Submitit(0, {"cluster": "local"})


@pytest.mark.slow
@pytest.mark.alone
def test_no_result_is_read_that_lay_there_before(folder: Path) -> None:
    """submitit's results are pickles: each launch has a folder that is new, and whose name nobody can know."""
    for _ in range(2):
        assert Submitit(None, {"cluster": "local"}).run([make(folder, "one")]) == 0
    folders = [path for path in (folder / "runs/submitit").iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert all(list(path.glob("*_result.pkl")) for path in folders)
    assert not list((folder / "runs/submitit").glob("*.pkl"))
