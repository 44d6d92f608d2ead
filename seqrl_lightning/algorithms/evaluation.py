"""Evaluation of any learner: greedy episodes, in Lightning's own loops."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from seqrl_lightning.collect import Policy, Step, rollout
from seqrl_lightning.envs import Border
from seqrl_lightning.metrics import EpisodeStatistics
from seqrl_lightning.replay import Sampler
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Array, BoolArray, EvaluationTask, State


class LearningData(Protocol):
    """The part of the datamodule that learners use."""

    env_id: str
    obs_dtype: str
    num_envs: int
    capacity: int
    batch_size: int
    sampler: Sampler
    eval_envs: Border
    eval_max_steps: int

    def evaluation_names(self) -> tuple[str, ...]:
        """Return the names of an evaluation's results (see :class:`EvaluationTask`)."""


class GreedyEvaluation(LightningModule):
    """A module whose greedy policy's episodes are played, counted, and handed to callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self.episode_statistics: dict[str, EpisodeStatistics] = {}

    @property
    def data(self) -> LearningData:
        """The Trainer's datamodule."""
        return cast(LearningData, attributes_of(self.trainer).datamodule)

    @abstractmethod
    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """Value each action. ``[N, *obs] -> [N, A]`` and the next state."""

    def validation_step(self, batch: EvaluationTask, batch_idx: int) -> dict[str, list[Step]]:
        """Play greedy episodes in the datamodule's evaluation environments.

        Returns:
            ``steps``: the steps taken, for callbacks; empty for tasks that don't report the ``correct_action``, whose
            observations may be too large to keep.
        """
        return self._evaluate(batch)

    def test_step(self, batch: EvaluationTask, batch_idx: int) -> dict[str, list[Step]]:
        """Play greedy episodes, as ``validation_step`` does."""
        return self._evaluate(batch)

    def predict_step(self, batch: EvaluationTask, batch_idx: int) -> list[tuple[Step, Array]]:
        """Play greedy episodes, and return each step with the values [N, A] that its actions were chosen by."""
        policy = Policy(self.act_values)
        return [(step, policy.values) for step in self._rollout(policy, batch) if policy.values is not None]

    def on_validation_epoch_start(self) -> None:
        """Begin new statistics, under the same names in every process."""
        self.episode_statistics = {name: EpisodeStatistics().to(self.device) for name in self.data.evaluation_names()}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Log ``val/return_mean`` and the like, for the present block and for every block."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/return_mean`` and the like."""
        self._log_evaluation("test")

    def _rollout(self, policy: Policy, task: EvaluationTask) -> Iterator[Step]:
        return rollout(policy.act, self.data.eval_envs, task.seed, task.options, self.data.eval_max_steps)

    def _evaluate(self, task: EvaluationTask) -> dict[str, list[Step]]:
        steps: list[Step] = []
        num_envs = self.data.eval_envs.num_envs
        returns, lengths, is_cut = np.zeros(num_envs), np.zeros(num_envs, np.int64), np.zeros(num_envs, np.bool_)
        for step in self._rollout(Policy(self.act_values), task):
            returns += step.outcome.task_reward * step.is_playing
            lengths += step.is_playing
            is_cut = step.is_playing & ~(step.outcome.terminated | step.outcome.truncated)
            if step.shown.correct_action is not None:
                steps.append(step)
        if num_cut := int(is_cut.sum()):
            rank_zero_warn(
                f"{num_cut} of {num_envs} evaluation episodes hadn't ended after data.eval_max_steps = "
                f"{self.data.eval_max_steps} env steps. They were cut, and count with the return until then."
            )
        columns = [torch.from_numpy(column).to(self.device) for column in (returns, lengths, is_cut)]
        for name in task.names:
            self.episode_statistics[name].update(*columns)
        return {"steps": steps}

    def _log_evaluation(self, stage: str) -> None:
        # While fitting, EnvStepLogger writes what is logged here, with env steps as the x axis.
        to_logger = self.trainer.state.fn != "fit"
        for name, statistics in self.episode_statistics.items():
            values: dict[str, Any] = {f"{stage}/{name}{key}": value for key, value in statistics.compute().items()}
            self.log_dict(values, logger=to_logger)
