"""Keeps ``last.ckpt``, from which a run goes on; also after a Ctrl-C."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info


class LastCheckpoint(Checkpoint):
    """Saves ``checkpoints/last.ckpt`` in the run's folder at the end of every epoch, so also at the run's.

    On the first Ctrl-C it finishes the batch, saves, and ends the run; on the second the run ends at once.
    (Lightning's ``ModelCheckpoint(save_last=True)`` only saves when one of its best checkpoints is saved too.)
    """

    def __init__(self) -> None:
        self._interrupted = False
        self._previous_handler: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fixes the path, which is the same in every process."""
        folder = trainer.strategy.broadcast(trainer.log_dir or trainer.default_root_dir)
        self.path = Path(folder) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens for Ctrl-C (SIGINT), where Python lets it: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted = True
        self._stop_listening()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and ends the run if Ctrl-C was pressed during the batch."""
        if self._interrupted:
            trainer.save_checkpoint(self.path)
            rank_zero_info(f"\nInterrupted: saved {self.path}. Go on from there with --ckpt_path last.")
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, after the epoch's evaluation."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops listening."""
        self._stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None
