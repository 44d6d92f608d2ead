"""Folders that one process claims."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqrl_lightning.files import FolderLock, is_in_use, start_table
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

OWNER = """
import os, sys, time
from pathlib import Path
from seqrl_lightning.files import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:  # like an environment's process
    time.sleep(3)
    os._exit(0)
print("claimed", flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has claimed ``version_0`` and has a child."""
    folder = tmp_path / "lightning_logs" / "version_0"
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.wait()


def test_a_claim_ends_with_its_process(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    folder = tmp_path / "lightning_logs" / "version_0"
    assert is_in_use(folder)
    with pytest.raises(ConfigurationError, match=f"version_0 is in use by process {owner.pid} on .*; it must be ended"):
        FolderLock(folder)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert not is_in_use(folder)  # though its child lives
    with FolderLock(folder):
        assert not is_in_use(folder)  # by another process
    assert not is_in_use(tmp_path / "nowhere")


@pytest.mark.slow
@pytest.mark.alone
def test_a_second_run_in_a_folder_is_refused_before_it_changes_anything(
    owner: subprocess.Popen[str], tmp_path: Path
) -> None:
    run = tmp_path / "lightning_logs" / "version_0"
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_text("being written")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    status, _, err = seqrl(
        "fit", "--data.env_id=CartPole-v1", f"--trainer.default_root_dir={tmp_path}", "--ckpt_path=last"
    )
    assert status == 2
    assert f"version_0 is in use by process {owner.pid}" in err
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_table_is_cut_down_to_its_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    assert start_table(path, ["a", "b"], 3) == 0
    assert path.read_bytes() == b"a,b\r\n"
    path.write_text('x,y\n1,"2\n3"\n4,5\n6,7\n')
    assert start_table(path, ["a", "b"], 2) == 2
    assert path.read_bytes() == b'a,b\r\n1,"2\n3"\r\n4,5\r\n'
    assert start_table(path, ["a", "b"], 10**12) == 2
    assert start_table(path, ["a", "b"]) == 0
    assert path.read_bytes() == b"a,b\r\n"


@pytest.mark.parametrize("content", [b"a\n" + b"1," * 2**19 + b"\n", b"a\n" + b"1" * 200_000, b"a\n\xff\xff\n"])
def test_a_table_that_no_run_wrote_is_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"episodes\.csv isn't a table as a run writes it: ") as told:
        start_table(path, ["a"], 5)
    assert "\n" not in str(told.value)
    assert path.read_bytes() == content


def test_rows_behind_those_that_are_kept_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_bytes(b"a\n1\n2\n" + b"3" * 2**21)
    assert start_table(path, ["a"], 2) == 2
