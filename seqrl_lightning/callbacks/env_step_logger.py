"""Curves of learning and evaluation, and the table of training episodes."""

import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.writing import LogInterval, gather, leaves_files, log_scalars, position
from seqrl_lightning.collect import Episode, EpisodeLog
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.files import add_rows, start_table
from seqrl_lightning.metrics import EpisodesToCriterion
from seqrl_lightning.saved_state import require_saved, saved, saved_count, saved_tensor
from seqrl_lightning.trainer_access import run_folder, update_of

_OUTSIDE = "train/targets_outside_support"
_MAX_OUTSIDE = 0.01  # of the targets, without a warning


class _Moment(NamedTuple):
    seconds: float
    position: int
    updates: int


class EnvStepLogger(Callback):
    """Write scalars to the loggers every ``trainer.log_every_n_steps`` batches, and each episode to a file.

    - ``train/*``: the means over the episodes that ended since the last time, the loss and the Q-values of the last
      batch, the agent's epsilon, and the speed; of C51 also the part of the last batch's targets that lie outside its
      support.
    - ``learning/episodes_to_criterion/block_0`` and so on, and ``learning/savings/block_1`` and so on, from the moment
      the criterion is met (:class:`seqrl_lightning.metrics.EpisodesToCriterion`), for tasks that tell the return of a
      mastered episode (:class:`seqrl_lightning.metrics.TaskFacts`).
    - ``val/*``: the results of evaluations.
    - ``workload/*``: the amount of work done.
    - ``episodes.csv`` in the run's folder: one row for every episode (:class:`seqrl_lightning.collect.Episode`), of
      all processes.

    Nothing is computed between two writes. Curves are over env steps. Without an agent, they are over updates, and
    those of the agent and its episodes are left out.
    """

    def __init__(self) -> None:
        self._interval = LogInterval()
        self._finished: list[list[Episode]] = []  # of this process, batch by batch, not yet in the file
        self._unlogged: list[Episode] = []  # in the file, but not yet in a mean
        self._num_rows = 0  # of the file
        self._path: Path | None = None  # of the file, in the process that writes it
        self._last: _Moment | None = None  # when speed was last measured; None unless this process trains
        self._episode_log = EpisodeLog()  # the agent's, from on_fit_start on
        self._has_warned = False  # of targets outside the support
        self._criterion: EpisodesToCriterion | None = None  # None for tasks that don't tell when they are mastered

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare the criterion for the task."""
        if stage != "fit" or self._criterion is not None:
            return
        facts = LearnerDataModule.of(trainer).task_facts
        if facts.mastery_return is not None:
            self._criterion = EpisodesToCriterion(facts.mastery_return, facts.num_blocks)
            self._criterion.persistent(True)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file of episodes; a resumed run keeps those up to its checkpoint."""
        self._last = None  # a resumed run that is over doesn't train
        agent = AgentCallback.needed_by(trainer)
        folder = run_folder(trainer)  # asked for in every process, so that they agree on it
        self._path = None
        if agent is None:
            return
        self._episode_log = agent.episode_log
        if trainer.is_global_zero and leaves_files(trainer):
            self._path = folder / "episodes.csv"
            self._num_rows = start_table(self._path, Episode._fields, self._num_rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = _now(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Write the scalars every ``log_every_n_steps`` batches."""
        self._finished.append(self._episode_log.drain())
        if self._interval.ends(trainer):
            self._write(trainer, _summary_of(update_of(outputs)))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of the evaluation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            log_scalars(trainer, {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the remaining episodes."""
        self._write(trainer, {})

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the criterion, after writing all episodes so far, which a resumed run can't know."""
        self._record_episodes()
        return {
            "batches": self._interval.batches,
            "unlogged": [list(episode) for episode in self._unlogged],
            "rows": self._num_rows,
            "criterion": None if self._criterion is None else dict(self._criterion.state_dict()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._interval.batches = saved_count(state_dict.get("batches"), "EnvStepLogger's batches")
        self._unlogged = saved(state_dict.get("unlogged"), list[Episode], "EnvStepLogger's unlogged")
        self._num_rows = saved_count(state_dict.get("rows"), "EnvStepLogger's rows")
        require_saved("criterion" in state_dict, "EnvStepLogger's state", sorted(state_dict), "with criterion")
        if self._criterion is not None and state_dict["criterion"] is not None:
            criterion = saved(state_dict["criterion"], dict, "EnvStepLogger's criterion")
            for name, own in self._criterion.state_dict().items():
                saved_tensor(criterion.get(name), own.shape, own.dtype, f"EnvStepLogger's criterion, {name},")
            self._criterion.load_state_dict(criterion)

    def _write(self, trainer: Trainer, learning: dict[str, float]) -> None:
        if learning.get(_OUTSIDE, 0.0) > _MAX_OUTSIDE and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"{learning[_OUTSIDE]:.0%} of the last update's targets lie outside model.v_min to model.v_max, and "
                "are learned as the nearest of the two: the returns need a wider support."
            )
        self._record_episodes()
        episodes, self._unlogged = self._unlogged, []
        scalars = {
            **_means_of(episodes),
            **learning,
            "workload/updates": trainer.global_step,
            **_of_agent(LearnerDataModule.of(trainer)),
            **self._speed(trainer),
            **self._criterion_values(),
        }
        log_scalars(trainer, scalars)

    def _criterion_values(self) -> dict[str, float]:
        """Return the criterion of the blocks that have met it."""
        if self._criterion is None:
            return {}
        return {tag: float(value) for tag, value in self._criterion.compute().items() if not value.isnan()}

    def _record_episodes(self) -> None:
        """Add the newly ended episodes of all processes to the file, the means and the criterion.

        They come batch by batch, so that a save between two intervals changes no episode's place.
        """
        mine, self._finished = [*self._finished, self._episode_log.drain()], []
        episodes: list[Episode] = []
        for by_rank in zip(*gather(mine), strict=True):
            episodes += sorted(chain.from_iterable(by_rank), key=lambda episode: episode.env_steps)
        self._unlogged += episodes
        self._num_rows += len(episodes)
        if self._criterion is not None:
            blocks = torch.tensor([episode.block for episode in episodes], dtype=torch.int64)
            returns = torch.tensor([episode.episode_return for episode in episodes], dtype=torch.float64)
            self._criterion.update(blocks, returns)
        if self._path is not None:
            add_rows(self._path, episodes)

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        """Return the speed since the last time that there were new env steps; they come in bunches."""
        then, now = self._last, _now(trainer)
        if then is None or now.position == then.position:
            return {}
        self._last = now
        seconds = now.seconds - then.seconds
        speed = {"workload/updates_per_second": (now.updates - then.updates) / seconds}
        if LearnerDataModule.of(trainer).has_agent:
            speed["workload/env_steps_per_second"] = (now.position - then.position) / seconds
        return speed


def _now(trainer: Trainer) -> _Moment:
    return _Moment(time.perf_counter(), position(trainer), trainer.global_step)


def _of_agent(data: LearnerDataModule) -> dict[str, float]:
    """Return how far the agent is; nothing if there is none."""
    if not data.has_agent:
        return {}
    progress = data.progress
    return {
        "workload/block": progress.block,
        "train/epsilon": progress.epsilon,
        "workload/buffer_fill": data.ring.fill,
        "workload/env_faults": progress.env_faults,
    }


def _summary_of(outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Summarize the last update. This is the only place where training waits for the device."""
    values, targets = outputs["state_action_values"], outputs["expected_state_action_values"]
    summary = {
        "train/loss": float(outputs["loss"]),
        "train/q_value_mean": float(values.mean()),
        "train/td_error_abs_mean": float((targets - values).abs().mean()),
    }
    if "is_outside_support" in outputs:
        summary[_OUTSIDE] = float(outputs["is_outside_support"].float().mean())
    return summary


def _means_of(episodes: list[Episode]) -> dict[str, float]:
    if not episodes:
        return {}
    return {
        "train/episode_return": sum(episode.episode_return for episode in episodes) / len(episodes),
        "train/episode_length": sum(episode.episode_length for episode in episodes) / len(episodes),
    }
