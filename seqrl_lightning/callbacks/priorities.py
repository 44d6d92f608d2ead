"""Brings priorities back to the replay memory."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.types import ConfigurationError, TransitionBatch


class PriorityWriter(Callback):
    """Writes the errors that ``training_step`` found as the priorities of the transitions it learned from.

    It has to come before the agent: once that has stored new transitions, an old slot may hold another one.

    Raises:
        ConfigurationError: If it comes after the agent.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Sees that it comes before the agent."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if stage == "fit" and callbacks.index(self) > callbacks.index(AgentCallback.of(trainer)):
            raise ConfigurationError("trainer.callbacks has PriorityWriter after AgentCallback; it must come before it")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TransitionBatch, batch_idx: int
    ) -> None:
        """Writes the priorities, where the batch says to which slots."""
        if batch.slot_batch is None:
            return
        errors = outputs["priority_batch"]
        # The last training step of a run may have used only a part of its batches.
        used = errors.shape[1]
        assert batch.weight_batch is not None
        is_learned_from = (batch.weight_batch[:, :used] > 0).to(errors.device) & errors.isfinite()
        slots = batch.slot_batch[0, :used].numpy()
        errors = errors.masked_fill(~is_learned_from, torch.nan).cpu().numpy()
        is_known = np.isfinite(errors).any(0)  # the others' update was refused: the old priority stays
        if is_known.any():
            trainer.datamodule.sampler.update_priorities(slots[is_known], errors[:, is_known])  # type: ignore[attr-defined]
