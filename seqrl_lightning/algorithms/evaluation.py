"""Evaluation of any learner: greedy episodes, in Lightning's own loops."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from seqrl_lightning.collect import Policy, Step, rollout
from seqrl_lightning.envs import Border, EnvFault
from seqrl_lightning.metrics import EpisodeStatistics
from seqrl_lightning.replay import Sampler
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Array, BoolArray, EvaluationTask, FloatArray, Progress, State

T = TypeVar("T")


class LearningData(Protocol):
    """The part of the datamodule that learners use."""

    env_id: str | None
    has_agent: bool
    obs_dtype: str
    obs_is_binary: bool
    num_envs: int
    capacity: int
    batch_size: int
    sampler: Sampler
    eval_envs: Border
    eval_max_steps: int
    num_blocks: int
    tells_correct_action: bool
    progress: Progress

    def on_eval_fault(self, fault: EnvFault) -> int:
        """Continue after a fault in an evaluation. Returns the seed from which its episodes are played again."""

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

        steps = self._play(policy, batch, play)
        self._tell_of_cut(is_cut(steps[-1][0]))
        return steps

    def on_validation_epoch_start(self) -> None:
        """Begin new statistics, under the same names in every process."""
        self.episode_statistics = {name: EpisodeStatistics().to(self.device) for name in self.data.evaluation_names()}

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        """Log ``val/return_mean`` and the like, for the current block and for every block."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log ``test/return_mean`` and the like, and ``test/block``, the block whose rule these are of."""
        self._log_evaluation("test")

    def _play(self, policy: Policy, task: EvaluationTask, play: Callable[[Iterator[Step]], T]) -> T:
        """Return what ``play`` makes of the task's episodes; of others, from another seed, if an environment breaks."""
        seed, data = task.seed, self.data
        while True:
            policy.reset()
            try:
                return play(rollout(policy.act, data.eval_envs, seed, task.options, data.eval_max_steps))
            except EnvFault as fault:
                seed = data.on_eval_fault(fault)

    def _evaluate(self, task: EvaluationTask) -> dict[str, list[Step]]:
        summary = partial(_summary, keeps_steps=self.data.tells_correct_action)
        steps, *episodes = self._play(Policy(self.act_values), task, summary)
        self._tell_of_cut(episodes[-1].numpy())
        columns = [column.to(self.device) for column in episodes]
        for name in task.names:
            self.episode_statistics[name].update(*columns)
        return {"steps": steps}

    def _tell_of_cut(self, is_cut: BoolArray) -> None:
        if num_cut := np.count_nonzero(is_cut):
            rank_zero_warn(
                f"{num_cut} of {len(is_cut)} evaluation episodes hadn't ended after data.eval_max_steps = "
                f"{self.data.eval_max_steps} env steps. They were cut, and count with the return until then."
            )

    def _log_evaluation(self, stage: str) -> None:
        is_fitting = self.trainer.state.fn == "fit"  # EnvStepLogger then writes what is logged here, over env steps
        for name, statistics in self.episode_statistics.items():
            values: dict[str, Any] = {f"{stage}/{name}{key}": value for key, value in statistics.compute().items()}
            self.log_dict(values, logger=not is_fitting)
        if not is_fitting:
            self.log("step", float(self.data.progress.env_steps))  # Lightning's name for the x axis
            if self.data.num_blocks:
                self.log(f"{stage}/block", float(self.data.progress.block))


def steps_of(outputs: STEP_OUTPUT) -> list[Step]:
    """Return the steps that ``validation_step`` or ``test_step`` returned."""
    assert isinstance(outputs, Mapping)
    steps: list[Step] = outputs["steps"]
    return steps


def is_cut(last: Step) -> BoolArray:
    """Return which episodes, [N], hadn't ended with the last step of an evaluation."""
    hasnt_ended: BoolArray = last.is_playing & ~(last.outcome.terminated | last.outcome.truncated)
    return hasnt_ended


def _summary(played: Iterator[Step], keeps_steps: bool) -> tuple[list[Step], Tensor, Tensor, Tensor]:
    """Sum up episodes.

    Returns:
        The steps, if they are to be kept; the return [N] and the length [N] of each episode; and whether it was cut
        before its end [N] bool.
    """
    steps: list[Step] = []
    columns: list[tuple[FloatArray, BoolArray]] = []
    for step in played:
        columns.append((step.outcome.task_reward * step.is_playing, step.is_playing))
        if keeps_steps:
            steps.append(step)
    returns, lengths = (torch.from_numpy(np.sum(column, axis=0)) for column in zip(*columns, strict=True))
    return steps, returns, lengths, torch.from_numpy(is_cut(step))
