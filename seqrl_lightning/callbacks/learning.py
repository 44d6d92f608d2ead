"""Writes what the agent's choices say about learning."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics import Metric, MetricCollection

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.choices import ChoiceColumns
from seqrl_lightning.callbacks.writing import LogInterval, leaves_files, log_scalars
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.metrics import Completion, ErrorShares, PositionAccuracy, SwapInference, TrialsToCriterion

_MOST_POSITIONS = 16  # of the curves of accuracy


class LearningMetrics(Callback):
    """Writes curves over env steps, in tasks that tell the ``correct_action``, of what the agent chose in training.

    Every ``trainer.log_every_n_steps`` batches, over the episodes that ended since the last time, in all environments
    and processes, random choices included (:mod:`seqrl_lightning.metrics`):

    - ``learning/completion``, ``learning/accuracy/position_1`` ...
    - ``learning/trials_to_criterion/block_0`` ... and ``learning/savings/block_1`` ..., from when the criterion is met
    - ``errors/exploration``, ``rule_breaking``, ``perseverative``, ``distractor``: in tasks about an order of objects
    - ``errors/anticipated_swap`` and ``errors/ordinal_inference``: where the order changes from block to block

    Nothing is computed between two writes, and a run that goes on writes the same as one that was never interrupted.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the agent to keep its choices, from the first on."""
        data = ReplayDataModule.of(trainer)
        self._is_active = stage == "fit" and leaves_files(trainer) and data.tells_correct_action
        self._interval = LogInterval()
        if self._is_active:
            self._steps = AgentCallback.of(trainer).recorder.subscribe()
            self._columns = ChoiceColumns.of(data)
            self._recent, self._whole = metrics_for(data, self._columns.num_positions)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves to the device by which processes speak to each other."""
        if self._is_active:
            self._recent.to(pl_module.device)
            self._whole.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes, every ``log_every_n_steps`` batches."""
        if self._interval.ends(trainer) and self._is_active:
            self._write(trainer, pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is left."""
        if self._is_active:
            self._write(trainer, pl_module.device)

    def state_dict(self) -> dict[str, Any]:
        """The metrics, and the choices that they haven't been told of yet."""
        if not self._is_active:
            return {}
        self._take_in_steps()
        return {
            "batches": self._interval.batches,
            "waiting": torch.from_numpy(self._columns.waiting.copy()),
            "recent": dict(self._recent.state_dict()),
            "whole": dict(self._whole.state_dict()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        if self._is_active and state_dict:
            self._interval.batches = state_dict["batches"]
            self._columns.waiting = state_dict["waiting"].numpy()
            self._recent.load_state_dict(state_dict["recent"])
            self._whole.load_state_dict(state_dict["whole"])

    def _take_in_steps(self) -> None:
        self._columns.add(self._steps)
        self._steps.clear()

    def _write(self, trainer: Trainer, device: torch.device) -> None:
        self._take_in_steps()
        choices = self._columns.take_whole_episodes(device)
        values: dict[str, float] = {}
        for metrics in (self._recent, self._whole):
            metrics.update(choices)
            values.update({tag: float(value) for tag, value in metrics.compute().items()})
        self._recent.reset()
        known = {tag: value for tag, value in values.items() if value == value}  # the others are NaN
        log_scalars(trainer, known)


def metrics_for(data: Any, num_positions: int | None) -> tuple[MetricCollection, MetricCollection]:
    """The metrics that fit a datamodule's task: over the latest episodes, and over the whole run."""
    num_picks = None if num_positions is None else num_positions - 1
    recent: list[Metric] = [Completion(num_picks), PositionAccuracy(_MOST_POSITIONS)]
    if num_positions is not None:
        recent.append(ErrorShares(data.task.num_objects))
        if data.num_blocks and data.task.order_by_block is not None:
            recent.append(SwapInference(data.task.order_by_block))
    whole: list[Metric] = [TrialsToCriterion(data.num_envs, max(1, data.num_blocks), num_picks)]
    of_both = tuple(MetricCollection(list(metrics), compute_groups=False) for metrics in (recent, whole))
    for metrics in of_both:
        metrics.persistent(True)
    return of_both  # type: ignore[return-value]
