"""Save ``last.ckpt``, from which a run is resumed, also on Ctrl-C and when the machine is taken away."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info


class LastCheckpoint(Checkpoint):
    """Save ``checkpoints/last.ckpt`` in the run's folder at the end of every epoch, the last one included.

    The first Ctrl-C (SIGINT) lets the batch finish, saves, and ends the run; a second one ends it at once. SIGTERM,
    which announces that a machine is taken away, does the same and ends with exit status 143; a second one has no
    effect. With several processes it suffices that one of them gets the signal. (Lightning's
    ``ModelCheckpoint(save_last=True)`` saves only when one of its best checkpoints is saved too.)
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous_handlers: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the path, which is the same in every process."""
        folder = trainer.strategy.broadcast(trainer.log_dir or trainer.default_root_dir)
        self.path = Path(folder) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals, where Python allows it: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            for which in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[which] = signal.signal(which, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._received = signum
        if signum == signal.SIGINT:
            self._stop_listening(signal.SIGINT)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end the run if a signal came during the batch.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            SystemExit: After SIGTERM.
        """
        stops = self._received is not None
        if trainer.world_size > 1:
            stops = trainer.strategy.reduce_boolean_decision(stops, all=False)
        if stops:
            trainer.save_checkpoint(self.path)
            rank_zero_info(f"\nInterrupted: saved {self.path}. Resume the run with --ckpt_path last.")
            if self._received == signal.SIGINT:
                raise KeyboardInterrupt
            # Lightning kills the other processes when one that it started exits with anything but 0.
            raise SystemExit(128 + signal.SIGTERM if trainer.is_global_zero else 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after the epoch's evaluation."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signals' handlers."""
        self._stop_listening(signal.SIGINT, signal.SIGTERM)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the handlers, except SIGTERM's if it was what ended the run: a second one must not kill it."""
        ends_by_signal = isinstance(exception, SystemExit)
        self._stop_listening(signal.SIGINT, *(() if ends_by_signal else (signal.SIGTERM,)))

    def _stop_listening(self, *signals: int) -> None:
        for which in signals:
            if which in self._previous_handlers:
                signal.signal(which, self._previous_handlers.pop(which))
