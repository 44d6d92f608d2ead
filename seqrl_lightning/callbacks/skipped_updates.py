"""Report skipped updates, and end a run with too many of them."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.callbacks.writing import LogInterval
from seqrl_lightning.saved_state import saved_count
from seqrl_lightning.trainer_access import run_folder, update_of
from seqrl_lightning.types import DivergedError, require


class SkippedUpdates(Callback):
    """Report updates that were skipped because their gradient wasn't finite, and end the run after too many.

    It checks every ``trainer.log_every_n_steps`` batches and at the end of an epoch, when training waits for the device
    anyway. The weights are still good then: they are saved as ``checkpoints/before_skipped_updates.ckpt`` when the
    first skipped update is found.

    Args:
        max_skipped_updates: Skipped updates, since the run started or was resumed, after which it ends.

    Raises:
        ConfigurationError: If ``max_skipped_updates`` is negative.
    """

    def __init__(self, max_skipped_updates: int = 10) -> None:
        require(max_skipped_updates >= 0, "skipped_updates.max_skipped_updates", max_skipped_updates, "at least 0")
        self.max_skipped_updates = max_skipped_updates
        self._interval = LogInterval()
        self._num_reported = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Check, every ``log_every_n_steps`` batches.

        Raises:
            DivergedError: If more than ``max_skipped_updates`` were skipped.
        """
        assert isinstance(pl_module, TrainingModule)
        if self._interval.ends(trainer) or trainer.is_last_batch:
            self._report(trainer, int(pl_module.finite_updates.num_refused), update_of(outputs))

    def state_dict(self) -> dict[str, Any]:
        """Return the position between two checks."""
        return {"batches": self._interval.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._interval.batches = saved_count(state_dict.get("batches"), "SkippedUpdates' batches")

    def _report(self, trainer: Trainer, num_skipped: int, outputs: Mapping[str, Tensor]) -> None:
        if num_skipped == self._num_reported:
            return
        message = (
            f"the gradient wasn't finite in {num_skipped - self._num_reported} of the updates before update "
            f"{trainer.global_step}, which were skipped; the last loss is {float(outputs['loss'])}"
        )
        if not self._num_reported and trainer.checkpoint_callbacks:
            path = run_folder(trainer) / "checkpoints" / "before_skipped_updates.ckpt"
            trainer.save_checkpoint(path)
            message += f"; the weights before them are in {path}"
        self._num_reported = num_skipped
        if num_skipped > self.max_skipped_updates:
            limit = f"more than skipped_updates.max_skipped_updates = {self.max_skipped_updates}"
            raise DivergedError(f"{message}; that was {limit}")
        rank_zero_warn(message)
