"""Jobs that Ray runs, in processes of this machine."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from seqrl_lightning.launch import RayTasks, job
from seqrl_lightning.types import ConfigurationError
from tests.commands.test_cluster import STAND_IN, events, make, wait_for
from tests.running import seqrl

pytest.importorskip("ray", reason="Ray isn't installed: pip install 'seqrl-lightning[ray]'")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "SEQRL", (sys.executable, "-c", STAND_IN))
    return tmp_path


@pytest.mark.slow  # Ray takes seconds to start
@pytest.mark.alone
def test_jobs_run_fail_and_stop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [make(folder, "one"), make(folder, "two", status=3), make(folder, "three", 120), make(folder, "four")]

    def interrupt() -> None:
        wait_for(lambda: "three anew" in events(folder))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGTERM)
    assert RayTasks(1, {}).run(jobs) == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before
    assert [of_one.status for of_one in jobs] == [0, 3, 143, None]
    assert events(folder) == ["one anew", "two anew", "three anew"]
    out = capsys.readouterr().out
    assert "one: env steps 5/10\n" in out
    assert "two: failed: a line of the log\n" in out
    assert "three: interrupted: " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (['--ray={"num_cpus": 1}'], "--ray is {'num_cpus': 1}; it must be left out without --launcher ray"),
        (["--launcher=ray", '--ray={"num_cores": 1}'], "it must be an address and options of ray.remote"),
    ],
)
def test_what_does_not_work_is_refused(folder: Path, words: list[str], message: str) -> None:
    fit = ["fit", "--data.env_id=CartPole-v1", "--model=DQN", "--seeds=2", "--trainer.max_steps=1"]
    status, _, err = seqrl(*fit, *words)
    assert status != 0
    assert message in err


def test_at_least_one_job_runs_at_a_time() -> None:
    with pytest.raises(ConfigurationError, match="--jobs is 0"):
        RayTasks(0, {})
