"""Curves of the measures of the agent's choices."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics import Metric, MetricCollection

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.choices import ChoiceBuffer
from seqrl_lightning.callbacks.writing import LogInterval, leaves_files, log_scalars
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.metrics import Completion, ErrorShares, PositionAccuracy, SwitchErrors
from seqrl_lightning.saved_state import saved_count, saved_tensor

_MAX_POSITIONS = 16  # with a curve of accuracy of their own


class LearningMetrics(Callback):
    """Write curves of the choices in training over env steps, for tasks that tell the ``correct_action``.

    Every ``trainer.log_every_n_steps`` batches, it measures the episodes that ended since the last time, in all
    environments and processes, random choices included (:mod:`seqrl_lightning.metrics`):

    - ``learning/completion``, ``learning/position_1/accuracy`` and so on;
    - ``learning/errors/exploration``, ``rule_breaking``, ``perseverative`` and ``distractor``, in tasks about an order
      of objects;
    - ``learning/errors/previous_order``, ``anticipated_swap`` and ``ordinal_inference``, where the order changes from
      block to block.

    Nothing is computed between two writes, and a resumed run writes the same as one that was never interrupted.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask the agent to keep its choices, from the first one on."""
        data = LearnerDataModule.of(trainer)
        self._is_active = stage == "fit" and leaves_files(trainer) and data.tells_correct_action
        self._interval = LogInterval()
        if self._is_active:
            self._steps = AgentCallback.of(trainer).recorder.subscribe()
            self._choices = ChoiceBuffer.of(data)
            self._metrics = metrics_for(data, self._choices.num_positions)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the metrics to the device on which processes reduce tensors."""
        if self._is_active:
            self._metrics.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Write the curves every ``log_every_n_steps`` batches."""
        if self._interval.ends(trainer) and self._is_active:
            self._write(trainer, pl_module.device)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the episodes that are left."""
        if self._is_active:
            self._write(trainer, pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the choices that have not been measured yet; the metrics are empty between two writes."""
        if not self._is_active:
            return {}
        self._buffer_steps()
        return {"batches": self._interval.batches, "pending": torch.from_numpy(self._choices.pending.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        if self._is_active and state_dict:
            self._interval.batches = saved_count(state_dict.get("batches"), "LearningMetrics' batches")
            shape = (len(self._choices.pending), None)
            pending = saved_tensor(state_dict.get("pending"), shape, torch.int64, "LearningMetrics' pending")
            self._choices.pending = pending.numpy()

    def _buffer_steps(self) -> None:
        self._choices.add(self._steps)
        self._steps.clear()

    def _write(self, trainer: Trainer, device: torch.device) -> None:
        self._buffer_steps()
        self._metrics.update(self._choices.pop_ended_episodes(device))
        values = {tag: float(value) for tag, value in self._metrics.compute().items()}
        self._metrics.reset()
        known = {tag: value for tag, value in values.items() if value == value}  # all other measures are NaN
        log_scalars(trainer, known)


def metrics_for(data: LearnerDataModule, num_positions: int | None) -> MetricCollection:
    """The metrics that fit a datamodule's task.

    Args:
        data: The datamodule.
        num_positions: Size of the one-hot position that an observation begins with; None if it shows none.
    """
    facts = data.task_facts._replace(num_positions=num_positions)
    metrics: list[Metric] = [Completion(facts.num_picks), PositionAccuracy(_MAX_POSITIONS)]
    if num_positions is not None and facts.num_objects is not None:
        metrics.append(ErrorShares(facts.num_objects))
        if data.num_blocks and facts.order is not None:
            metrics.append(SwitchErrors(facts.order))
    return MetricCollection(metrics, compute_groups=False)
