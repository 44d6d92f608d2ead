"""Callbacks write at their intervals."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from seqrl_lightning.callbacks.writing import LogInterval, gather, leaves_files


def trainer(folder: Path, **flags: Any) -> Trainer:
    return Trainer(default_root_dir=folder, enable_checkpointing=False, **flags)


def test_an_interval_ends_with_every_nth_batch_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    every_third = trainer(tmp_path, logger=False, log_every_n_steps=3)
    interval = LogInterval()
    ends = [interval.ends(every_third) for _ in range(7)]
    assert ends == [False, False, True, False, False, True, False]
    resumed = LogInterval()
    resumed.batches = interval.batches
    assert [resumed.ends(every_third) for _ in range(2)] == [False, True]


def test_an_interval_of_0_never_ends(tmp_path: Path) -> None:
    never = trainer(tmp_path, logger=False, log_every_n_steps=0)
    interval = LogInterval()
    assert not any(interval.ends(never) for _ in range(5))


@pytest.mark.parametrize(
    ("flags", "leaves"),
    [({"logger": True}, True), ({"logger": False}, False), ({"logger": True, "fast_dev_run": True}, False)],
)
def test_trial_runs_and_runs_without_a_logger_leave_no_files(
    tmp_path: Path, flags: dict[str, Any], leaves: bool
) -> None:
    assert leaves_files(trainer(tmp_path, **flags)) == leaves


def test_one_process_gathers_its_own() -> None:
    assert gather([1, 2]) == [[1, 2]]
