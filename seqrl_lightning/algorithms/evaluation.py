"""Evaluation, which all algorithms have in common: greedy episodes, in Lightning's own loops."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule

from seqrl_lightning.collect import Policy, Step, rollout
from seqrl_lightning.metrics import EpisodeStatistics
from seqrl_lightning.types import Array, BoolArray, Cadence, EvaluationTask, State


class GreedyEvaluation(LightningModule):
    """A module whose greedy policy's episodes are played, counted and handed out."""

    needs_next_action = False
    needs_epsilon = False

    @property
    def cadence(self) -> Cadence | None:
        """The only cadence that works; None leaves it to the agent's settings."""
        return None

    def __init__(self) -> None:
        super().__init__()
        self.episode_statistics: dict[str, EpisodeStatistics] = {}

    @abstractmethod
    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """The value of each action. ``[N, *obs] -> [N, A]`` and the next state."""

    def validation_step(self, batch: EvaluationTask, batch_idx: int) -> dict[str, list[Step]]:
        """Plays greedy episodes in the datamodule's evaluation environments.

        Returns:
            ``steps``: what was chosen, for callbacks; empty for tasks that don't tell the ``correct_action``, whose
            observations may be too large to keep.
        """
        return self._evaluate(batch)

    def test_step(self, batch: EvaluationTask, batch_idx: int) -> dict[str, list[Step]]:
        """The same as ``validation_step``."""
        return self._evaluate(batch)

    def predict_step(self, batch: EvaluationTask, batch_idx: int) -> list[tuple[Step, Array]]:
        """Plays greedy episodes and returns their steps, each with the values [N, A] that it was chosen by."""
        policy = Policy(self.act_values)
        return [(step, policy.values) for step in self._rollout(policy, batch) if policy.values is not None]

    def on_validation_epoch_start(self) -> None:
        """Begins new statistics, for the same names in every process."""
        names = self.trainer.datamodule.evaluation_names()  # type: ignore[attr-defined]
        self.episode_statistics = {name: EpisodeStatistics().to(self.device) for name in names}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/return_mean`` and the like, for the block that training is in and for every block."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Logs ``test/return_mean`` and the like."""
        self._log_evaluation("test")

    def _rollout(self, policy: Policy, task: EvaluationTask) -> Iterator[Step]:
        envs = self.trainer.datamodule.eval_envs  # type: ignore[attr-defined]
        return rollout(policy.act, envs, task.seed, task.options)

    def _evaluate(self, task: EvaluationTask) -> dict[str, list[Step]]:
        steps: list[Step] = []
        earned: list[tuple[Array, BoolArray]] = []
        for step in self._rollout(Policy(self.act_values), task):
            earned.append((step.reward * step.is_playing, step.is_playing))
            if "correct_action" in step.infos:
                steps.append(step)
        returns, lengths = (torch.from_numpy(np.sum(column, axis=0)) for column in zip(*earned, strict=True))
        for name in task.names:
            self.episode_statistics[name].update(returns.to(self.device), lengths.to(self.device))
        return {"steps": steps}

    def _log_evaluation(self, stage: str) -> None:
        # While fitting, EnvStepLogger writes what is logged here, with the env steps as x axis.
        to_logger = self.trainer.state.fn != "fit"
        for name, statistics in self.episode_statistics.items():
            values: dict[str, Any] = {f"{stage}/{name}{key}": value for key, value in statistics.compute().items()}
            self.log_dict(values, logger=to_logger)
