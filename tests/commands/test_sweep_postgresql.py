"""``seqrl sweep`` on a database server: four processes share a study, and one of them is killed."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from seqrl_lightning.commands.sweep_study import open_storage
from tests.commands.test_sweep import states, write
from tests.running import seqrl

pytest.importorskip("psycopg")

QUICK = (
    "from seqrl_lightning.commands import sweep_study as s; s.HEARTBEAT_SECONDS, s.GRACE_SECONDS = 1, 20; "
    "from seqrl_lightning.__main__ import main; main()"
)


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server of the test's own, which listens on a socket in its folder alone."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL isn't installed")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has at most 107 characters
        if user is not None:
            shutil.chown(folder, user)

        def run(*command: str) -> None:
            quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, "user": user}
            subprocess.run(command, check=True, timeout=120, **quiet)  # type: ignore[call-overload]

        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "sweeper", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
        run("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://sweeper:secret@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.mark.slow
@pytest.mark.alone
def test_four_processes_of_which_one_is_killed_share_a_study(server: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", QUICK, "sweep", *write(tmp_path), "--data.batches_per_epoch=50"]
    command += ["--trials=6", "--trainer.max_steps=100", f"--storage={server}"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    processes = [start() for _ in range(4)]
    best = tmp_path / "swept" / "best.yaml"
    while not best.exists():
        assert all(process.poll() is None for process in processes), [p.communicate()[0] for p in processes if p.poll()]
        time.sleep(0.1)
    killed, *others = processes
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    for process in (*others, start()):
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert "6 of 6 trials" in output
        assert "secret" not in output
    found = states(optuna.load_study(study_name="tiny", storage=open_storage(server)))
    assert found.count(TrialState.COMPLETE) + found.count(TrialState.PRUNED) == 6
    assert found.count(TrialState.FAIL) == len(found) - 6  # killed, or stood back at the last one


def test_an_error_hides_the_databases_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://me:secret@/?host=/nowhere&password=secret"
    status, _, err = seqrl("sweep", *write(tmp_path), "--trials=1", f"--storage={url}")
    assert status == 2
    assert "secret" not in err
    assert (
        "--storage is 'postgresql+psycopg://me:***@/?host=%2Fnowhere&password=%2A%2A%2A', which can't be opened" in err
    )
