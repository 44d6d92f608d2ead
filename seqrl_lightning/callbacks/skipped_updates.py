"""Ends a run whose updates aren't finite."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import DivergedError, require


class SkippedUpdates(Callback):
    """Reports updates that were refused because their gradient wasn't finite, and ends the run if many were.

    It looks every ``trainer.log_every_n_steps`` batches, when training waits for the device anyway. The weights are
    still good then: they are saved as ``checkpoints/before_skipped_updates.ckpt`` when the first one is found.

    Args:
        max_skipped_updates: Refused updates, since the run started or went on, after which it ends.

    Raises:
        ConfigurationError: If ``max_skipped_updates`` is negative.
    """

    def __init__(self, max_skipped_updates: int = 10) -> None:
        would_do = "at least 0"
        require(max_skipped_updates >= 0, "skipped_updates.max_skipped_updates", max_skipped_updates, would_do)
        self.max_skipped_updates = max_skipped_updates
        self._reported = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks, every ``log_every_n_steps`` batches.

        Raises:
            DivergedError: If more than ``max_skipped_updates`` were refused.
        """
        attributes = attributes_of(trainer)
        if (batch_idx + 1) % attributes.log_every_n_steps == 0 or trainer.is_last_batch:
            self._report(trainer, pl_module, outputs)

    def _report(self, trainer: Trainer, pl_module: Any, outputs: Any) -> None:
        skipped = int(pl_module.finite_updates.num_refused)
        if skipped == self._reported:
            return
        loss = float(outputs["loss"])
        message = (
            f"the gradient wasn't finite in {skipped - self._reported} of the updates before update "
            f"{trainer.global_step}, which were refused; the last loss is {loss}"
        )
        if not self._reported and trainer.checkpoint_callbacks:
            folder = trainer.strategy.broadcast(trainer.log_dir or trainer.default_root_dir)
            path = Path(folder) / "checkpoints" / "before_skipped_updates.ckpt"
            trainer.save_checkpoint(path)
            message += f"; the weights before them are in {path}"
        self._reported = skipped
        if skipped > self.max_skipped_updates:
            would_do = f"more than skipped_updates.max_skipped_updates = {self.max_skipped_updates}"
            raise DivergedError(f"{message}; that was {would_do}")
        rank_zero_warn(message)
