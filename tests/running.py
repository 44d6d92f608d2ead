"""Small runs for tests."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import TensorBoardLogger

from seqrl_lightning.__main__ import main
from seqrl_lightning.algorithms import DQN
from seqrl_lightning.callbacks import AgentCallback, GlobalRandomStreams, PriorityWriter, Sidecars, TargetSync
from seqrl_lightning.data import ReplayDataModule


def skip_without_bfloat16_lstm() -> None:
    """Skip a test where torch has no LSTM in bfloat16: oneDNN has no such primitive for some CPUs."""
    net = torch.nn.LSTM(4, 8)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            net(torch.zeros(2, 3, 4))
    except RuntimeError as error:
        pytest.skip(f"torch's LSTM: {error}")


def assert_identical(one: Any, other: Any, path: str = "") -> None:
    """Collections of tensors, numbers and texts are the same to the last bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
    if isinstance(one, list | tuple):
        assert len(one) == len(other), path
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0, equal_nan=True, msg=lambda told: f"{path}: {told}")
    elif isinstance(one, dict | list | tuple):
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_identical(one[key], other[key], f"{path}.{key}")
    else:
        assert type(one) is type(other), path
        assert one == other, (path, one, other)


def seqrl(*args: str) -> tuple[int, str, str]:
    """Calls the program. Returns its exit status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["seqrl", *args])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def fit(
    folder: Path,
    data: dict[str, Any],
    model: dict[str, Any],
    agent: dict[str, Any],
    target_sync: dict[str, Any] | None = None,
    callbacks: list[Callback] | None = None,
    module_class: type[DQN] = DQN,
    logger: bool | TensorBoardLogger = False,
    ckpt_path: str | None = None,
    **trainer_flags: Any,
) -> tuple[Trainer, LightningModule, ReplayDataModule]:
    """Trains as the CLI would, without its start-up."""
    datamodule = ReplayDataModule(**{"batches_per_epoch": 10_000, "eval_episodes": 1, **data})
    module = module_class(datamodule.obs_shape, datamodule.n_actions, **model)
    flags = {
        "max_epochs": -1,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks or []),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **trainer_flags,
    }
    trainer = Trainer(
        default_root_dir=folder,
        logger=TensorBoardLogger(folder, default_hp_metric=False) if logger is True else logger,
        callbacks=[
            GlobalRandomStreams(),
            Sidecars(),
            PriorityWriter(),
            AgentCallback(**agent),
            TargetSync(**(target_sync or {})),
            *(callbacks or []),
        ],
        **flags,
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path)
    return trainer, module, datamodule
