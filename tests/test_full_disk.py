"""A disk that is full: one line, whichever file it hits, and what was there before stays."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from seqrl_lightning.checkpoints.last import newest_checkpoint
from seqrl_lightning.files import add_rows, start_table, write_file
from seqrl_lightning.running.failures import cause_of
from seqrl_lightning.types import RunError

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from seqrl_lightning.__main__ import main
main()
"""


def test_torchs_own_error_is_told_as_the_systems(tmp_path: Path, file_sizes: Callable[[int], None]) -> None:
    path = tmp_path / "last.ckpt"
    path.write_text("before")
    file_sizes(5000)
    with pytest.raises(RunError, match=r"last\.ckpt can't be written: File too large"):
        write_file(path, lambda file: torch.save({"weights": torch.ones(5000)}, file))
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_text() == "before"


def test_what_isnt_the_systems_error_stays_what_it_is(tmp_path: Path) -> None:
    def fail(file: object) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_file(tmp_path / "file", fail)


def test_a_table_that_cant_grow_is_named(tmp_path: Path, file_sizes: Callable[[int], None]) -> None:
    path = tmp_path / "episodes.csv"
    start_table(path, ("episode", "return"))
    add_rows(path, [(0, 1.0)])
    file_sizes(1000)
    with pytest.raises(RunError, match=r"episodes\.csv can't be written: File too large"):
        add_rows(path, [(episode, 1.0) for episode in range(1, 1000)])
    assert start_table(path, ("episode", "return"), num_rows=1) == 1
    assert path.read_text().splitlines() == ["episode,return", "0,1.0"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboards_file_is_named(tmp_path: Path, file_sizes: Callable[[int], None]) -> None:
    """Its own thread writes it, and meets an error that names no file."""
    logger = TensorBoardLogger(tmp_path)
    trainer = Trainer(logger=logger, enable_checkpointing=False)
    file_sizes(1000)

    def log() -> None:
        for step in range(200):
            logger.log_metrics({"loss": 1.0}, step)
            logger.save()

    with pytest.raises(OSError, match="File too large") as caught:
        log()
    cause = cause_of(caught.value, trainer, None, None)
    assert re.fullmatch(
        rf"{logger.log_dir}/events\.out\.tfevents\..*\.\d+ can't be written: File too large", str(cause)
    )
    assert cause_of(OSError("another one"), trainer, None, None) is None


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(
    ("size", "what"), [(6_000, ".0 can't be written: File too large"), (150_000, ".replay can't be written: File too")]
)
def test_the_program_ends_with_one_line(size: int, what: str, tmp_path: Path) -> None:
    """In the file of TensorBoard's own thread, or in a sidecar."""
    arguments = [
        *("fit", "--data.env_id=CartPole-v1", "--data.capacity=60000", "--data.batches_per_epoch=500"),
        *("--trainer.max_steps=5000", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--model.network=MLP", "--model.network.hidden_sizes=[16]", "--agent.env_steps_per_update=4"),
        f"--trainer.default_root_dir={tmp_path}",
    ]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    errors = [line for line in run.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert what in errors[0]
    assert "Traceback" not in run.stderr
    if ".replay" in what:
        assert newest_checkpoint(tmp_path)  # the one before it
