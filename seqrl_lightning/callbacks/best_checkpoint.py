"""Restart the search for the best checkpoint where the rule of the task changes."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.saved_state import saved_count


class BestOfBlock(Callback):
    """Make each ``ModelCheckpoint`` keep the best checkpoint of the current block.

    The policy that was best before a switch may be worthless after it, but its return might never be beaten. At the
    first evaluation of a block, the checkpoint becomes the best one, whatever came before. The best checkpoints of
    earlier blocks stay on the disk. Where ``monitor`` names a block, like ``val/block_0/return_mean``, its rule never
    changes, and the search continues.
    """

    def __init__(self) -> None:
        self._block: int | None = None  # of the last evaluation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the best checkpoints of another block; Lightning calls ``ModelCheckpoint`` after this."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        block = LearnerDataModule.of(trainer).progress.block
        if self._block is not None and block != self._block:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and "block_" not in (callback.monitor or "block_"):
                    _forget_best(callback)
        self._block = block

    def state_dict(self) -> dict[str, Any]:
        """Return the block of the last evaluation."""
        return {"block": self._block}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        block = state_dict.get("block")  # None before the first evaluation
        self._block = None if block is None else saved_count(block, "BestOfBlock's block")


def _forget_best(callback: ModelCheckpoint) -> None:
    callback.best_k_models = {}
    callback.best_model_path = callback.kth_best_model_path = ""
    callback.best_model_score = None
