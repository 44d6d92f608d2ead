"""Write priorities back to the replay memory."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from seqrl_lightning.batches import Batch
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.replay import write_priorities
from seqrl_lightning.trainer_access import update_of


class PriorityWriter(Callback):
    """Write the errors that ``training_step`` found as the priorities of the transitions it learned from.

    It has to come before the agent, which checks that: once the agent has stored new transitions, an old slot may hold
    another one.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Write the priorities, if the batch was drawn by them."""
        update = update_of(outputs)
        if "priority_batch" in update:
            write_priorities(LearnerDataModule.of(trainer).sampler, batch, update["priority_batch"])
