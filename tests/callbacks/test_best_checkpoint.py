"""The best checkpoint is the best one of the block that the run is in."""

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.callbacks import BestOfBlock, LastCheckpoint
from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.last import best_checkpoint
from seqrl_lightning.types import ConfigurationError
from tests.running import fit

BLOCKS = [{"sequence": "ABCD", "episodes": 2}, {"sequence": "reversed"}]
DATA: dict[str, Any] = {
    "env_id": "seqrl/SequenceDistractor-v0",
    "env_kwargs": {"objects": "ABCD", "blocks": BLOCKS},
    "batch_size": 8,
    "capacity": 200,
    "batches_per_epoch": 10,
}


class WorseInLaterBlocks(DQN):
    """Scores 9 in block 0 and -1, -2, ... in the evaluations of block 1."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        progress = self.data.progress
        score = 9.0 if progress.block == 0 else -1.0 * progress.env_steps
        for name in ("val/score", "val/block_0/score"):
            self.log(name, score, logger=False)


def run(folder: Path, monitor: str, max_steps: int, ckpt_path: str | None = None) -> ModelCheckpoint:
    checkpoint = ModelCheckpoint(folder / "checkpoints", filename="{step}", monitor=monitor, mode="max")
    fit(
        folder,
        DATA,
        {},
        {"warmup_env_steps": 16},
        callbacks=[checkpoint, BestOfBlock(), LastCheckpoint()],
        module_class=WorseInLaterBlocks,
        ckpt_path=ckpt_path,
        max_steps=max_steps,
    )
    return checkpoint


def block_of(path: str | Path) -> int:
    return int(read_checkpoint(Path(path))["ReplayDataModule"]["progress"]["block"])


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_best_one_before_a_switch_gives_way_to_the_best_one_since(tmp_path: Path, is_resumed: bool) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    if is_resumed:
        assert block_of(run(tmp_path, "val/score", 10).best_model_path) == 0
    best = run(tmp_path, "val/score", 90, str(last) if is_resumed else None).best_model_path
    assert block_of(best) == 1
    assert block_of(last) == 1
    assert best_checkpoint(last) == Path(best)
    saved = list(last.parent.glob("step=*.ckpt"))
    assert sorted(map(block_of, saved)) == [0, 1]  # the best one of each block
    newer = [path for path in saved if path.stat().st_mtime > Path(best).stat().st_mtime]
    assert newer == []  # in block 1 the first evaluation was the best


def test_a_best_checkpoint_in_another_folder_is_named(tmp_path: Path) -> None:
    best = run(tmp_path, "val/score", 10).best_model_path
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    Path(best).rename(moved / Path(best).name)
    with pytest.raises(
        ConfigurationError, match=f"has no best checkpoint; the run saved it as {re.escape(best)}: give"
    ):
        best_checkpoint(tmp_path / "checkpoints" / "last.ckpt")


@pytest.mark.slow
def test_a_measure_of_one_block_has_one_best_checkpoint(tmp_path: Path) -> None:
    assert block_of(run(tmp_path, "val/block_0/score", 90).best_model_path) == 0
