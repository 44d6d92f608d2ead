"""A Ctrl-C that loses nothing."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info


class InterruptCheckpoint(Callback):
    """On the first Ctrl-C: finishes the batch, saves ``last.ckpt`` and ends the run. On the second: ends it at once."""

    def __init__(self) -> None:
        self._interrupted = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens for Ctrl-C (SIGINT), where Python lets it: in the main thread."""
        self._previous_handler: Any = None
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted = True
        self._stop_listening()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and ends the run if Ctrl-C was pressed during the batch; the agent has already collected."""
        if not self._interrupted:
            return
        path = _checkpoint_folder(trainer) / "last.ckpt"
        trainer.save_checkpoint(path)
        rank_zero_info(f"\nInterrupted: saved {path}. Go on from there with --ckpt_path last.")
        raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops listening."""
        self._stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        if getattr(self, "_previous_handler", None) is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None


def _checkpoint_folder(trainer: Trainer) -> Path:
    if isinstance(trainer.checkpoint_callback, ModelCheckpoint) and trainer.checkpoint_callback.dirpath:
        return Path(trainer.checkpoint_callback.dirpath)
    return Path(str(trainer.log_dir or trainer.default_root_dir)) / "checkpoints"
