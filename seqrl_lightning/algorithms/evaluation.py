"""Evaluation of any learner: greedy episodes, in Lightning's own loops."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from lightning.pytorch import LightningModule
from torch import Tensor

from seqrl_lightning.collect import Policy, Step, rollout
from seqrl_lightning.envs import EnvFault
from seqrl_lightning.metrics import EpisodeStatistics
from seqrl_lightning.replay import Sampler
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Array, BoolArray, EvaluationTask, State

T = TypeVar("T")


class LearningData(Protocol):
    """The part of the datamodule that learners use."""

    env_id: str
    obs_dtype: str
    num_envs: int
    capacity: int
    batch_size: int
    sampler: Sampler
    eval_envs: VectorEnv[Any, Any, Any]

    def on_eval_fault(self, fault: EnvFault) -> int:
        """Go on after a fault in an evaluation. Returns the seed from which its episodes are played anew."""

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

        def play(steps: Iterator[Step]) -> list[tuple[Step, Array]]:
            return [(step, policy.values) for step in steps if policy.values is not None]

        return self._play(policy, batch, play)

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

    def _play(self, policy: Policy, task: EvaluationTask, play: Callable[[Iterator[Step]], T]) -> T:
        """Return what ``play`` makes of the task's episodes; of others, from another seed, if an environment breaks."""
        seed = task.seed
        while True:
            policy.reset()
            try:
                return play(rollout(policy.act, self.data.eval_envs, seed, task.options))
            except EnvFault as fault:
                seed = self.data.on_eval_fault(fault)

    def _evaluate(self, task: EvaluationTask) -> dict[str, list[Step]]:
        steps, returns, lengths = self._play(Policy(self.act_values), task, _summary)
        for name in task.names:
            self.episode_statistics[name].update(returns.to(self.device), lengths.to(self.device))
        return {"steps": steps}

    def _log_evaluation(self, stage: str) -> None:
        # While fitting, EnvStepLogger writes what is logged here, with env steps as the x axis.
        to_logger = self.trainer.state.fn != "fit"
        for name, statistics in self.episode_statistics.items():
            values: dict[str, Any] = {f"{stage}/{name}{key}": value for key, value in statistics.compute().items()}
            self.log_dict(values, logger=to_logger)


def _summary(played: Iterator[Step]) -> tuple[list[Step], Tensor, Tensor]:
    """Return the steps of tasks that tell the correct action, and the return and length of each episode, [N]."""
    steps: list[Step] = []
    rewards: list[tuple[Array, BoolArray]] = []
    for step in played:
        rewards.append((step.reward * step.is_playing, step.is_playing))
        if "correct_action" in step.infos:
            steps.append(step)
    returns, lengths = (torch.from_numpy(np.sum(column, axis=0)) for column in zip(*rewards, strict=True))
    return steps, returns, lengths
