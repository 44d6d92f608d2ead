"""Write priorities back to the replay memory."""

from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.replay import write_priorities
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
        """Write the priorities, if the batch was drawn by them."""
        if "priority_batch" in outputs:
            write_priorities(ReplayDataModule.of(trainer).sampler, batch, outputs["priority_batch"])
