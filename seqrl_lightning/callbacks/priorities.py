"""Write priorities back to the replay memory."""

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Batch, ConfigurationError, Update


class PriorityWriter(Callback):
    """Write the errors that ``training_step`` found as the priorities of the transitions it learned from.

    It has to come before the agent: once the agent has stored new transitions, an old slot may hold another one.

    Raises:
        ConfigurationError: If it comes after the agent.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a place after the agent."""
        callbacks = attributes_of(trainer).callbacks
        if stage == "fit" and callbacks.index(self) > callbacks.index(AgentCallback.of(trainer)):
            raise ConfigurationError("trainer.callbacks has PriorityWriter after AgentCallback; it must come before it")

    def on_train_batch_end(  # type: ignore[override]  # of Lightning's types, these two are ours
        self, trainer: Trainer, pl_module: LightningModule, outputs: Update, batch: Batch, batch_idx: int
    ) -> None:
        """Write the priorities of the slots that the batch names, if it names any."""
        if batch.slot_batch is None:
            return
        assert batch.weight_batch is not None
        errors = outputs["priority_batch"]
        num_used = errors.shape[1]  # the last training step of a run may use a part of its batches only
        is_learned_from = (batch.weight_batch[:, :num_used] > 0).to(errors.device) & errors.isfinite()
        slots = batch.slot_batch[0, :num_used].numpy()
        known_errors = errors.masked_fill(~is_learned_from, torch.nan).cpu().numpy()
        is_known = np.isfinite(known_errors).any(0)  # where an update was refused, the old priority stays
        if is_known.any():
            sampler = ReplayDataModule.of(trainer).sampler
            sampler.update_priorities(slots[is_known], known_errors[:, is_known])
