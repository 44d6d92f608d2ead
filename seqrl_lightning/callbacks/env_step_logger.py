"""Curves of learning and evaluation over env steps, and the table of training episodes."""

import csv
import time
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.callbacks.agent import AgentCallback, Episode
from seqrl_lightning.files import start_table
from seqrl_lightning.metrics import EpisodesToCriterion, TaskFacts

T = TypeVar("T")


class EnvStepLogger(Callback):
    """Write scalars to the loggers every ``trainer.log_every_n_steps`` batches, and each episode to a file.

    - ``train/*``: the means over the episodes that ended since the last time, the loss and the Q-values of the last
      batch, the agent's epsilon, and the speed.
    - ``learning/episodes_to_criterion/block_0`` and so on, and ``learning/savings/block_1`` and so on, from the moment
      the criterion is met (:class:`seqrl_lightning.metrics.EpisodesToCriterion`), for tasks that tell the return of a
      mastered episode (:class:`seqrl_lightning.metrics.TaskFacts`).
    - ``val/*``: the results of evaluations.
    - ``workload/*``: the amount of work done.
    - ``episodes.csv`` in the run's folder: one row for every episode (:class:`Episode`), of all processes.

    Nothing is computed between two writes.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._unlogged: list[Episode] = []  # in the file, but not yet in a mean
        self._rows = 0  # of the file
        self._criterion: EpisodesToCriterion | None = None  # None for tasks that don't tell when they are mastered

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare the criterion for the task."""
        if stage != "fit" or self._criterion is not None:
            return
        facts = TaskFacts.of(trainer.datamodule.task)  # type: ignore[attr-defined]
        if facts.mastery_return is not None:
            self._criterion = EpisodesToCriterion(facts.mastery_return, facts.num_blocks)
            self._criterion.persistent(True)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file of episodes; a resumed run keeps those up to its checkpoint."""
        self._agent = AgentCallback.of(trainer)
        self._episodes: Path | None = None
        run = trainer.log_dir  # read in every process: they agree on it by communicating
        if trainer.is_global_zero and trainer.logger is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._episodes = Path(str(run)) / "episodes.csv"
            self._rows = start_table(self._episodes, Episode._fields, self._rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = (time.perf_counter(), self._agent.total_env_steps, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the scalars every ``log_every_n_steps`` batches."""
        self._batches += 1
        if self._batches % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._write(trainer, _losses_and_values(outputs))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the results of the evaluation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._log(trainer, {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the episodes that are left."""
        self._write(trainer, {})

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the criterion; writes all episodes so far, which a resumed run can't know."""
        self._record_episodes()
        unlogged = [list(episode) for episode in self._unlogged]
        criterion = None if self._criterion is None else dict(self._criterion.state_dict())
        return {"batches": self._batches, "unlogged": unlogged, "rows": self._rows, "criterion": criterion}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._batches = state_dict["batches"]
        self._unlogged = [Episode(*episode) for episode in state_dict["unlogged"]]
        self._rows = state_dict["rows"]
        if self._criterion is not None and state_dict["criterion"] is not None:
            self._criterion.load_state_dict(state_dict["criterion"])

    def _record_episodes(self) -> None:
        """Add the episodes that ended, in all processes, to the file, to the next means and to the criterion."""
        new = chain.from_iterable(gather_from_processes(self._agent.drain_episodes()))
        episodes = sorted(new, key=lambda episode: episode.env_steps)  # in the order in which they ended
        self._unlogged += episodes
        self._rows += len(episodes)
        if self._criterion is not None:
            blocks = torch.tensor([episode.block for episode in episodes], dtype=torch.int64)
            returns = torch.tensor([episode.episode_return for episode in episodes], dtype=torch.float64)
            self._criterion.update(blocks, returns)
        if self._episodes is not None:
            with self._episodes.open("a", newline="") as file:
                csv.writer(file).writerows(episodes)

    def _write(self, trainer: Trainer, learning: dict[str, float]) -> None:
        agent = self._agent
        self._record_episodes()
        episodes, self._unlogged = self._unlogged, []
        metrics = {
            **_means(episodes),
            "workload/block": trainer.datamodule.block,  # type: ignore[attr-defined]
            **learning,
            "train/epsilon": agent.epsilon(agent.total_env_steps),
            "workload/buffer_fill": trainer.datamodule.ring.fill,  # type: ignore[attr-defined]
            "workload/env_faults": agent.total_env_faults,
            "workload/updates": trainer.global_step,
            **self._speed(trainer),
            **self._criterion_values(),
        }
        self._log(trainer, metrics)

    def _criterion_values(self) -> dict[str, float]:
        """The criterion of the blocks that have met it."""
        if self._criterion is None:
            return {}
        return {tag: float(value) for tag, value in self._criterion.compute().items() if not value.isnan()}

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        """The speed since the last time that env steps were taken; nothing if there are no new ones."""
        then, env_steps, updates = self._last
        if self._agent.total_env_steps == env_steps:
            return {}
        self._last = now, _, _ = (time.perf_counter(), self._agent.total_env_steps, trainer.global_step)
        return {
            "train/env_steps_per_second": (self._agent.total_env_steps - env_steps) / (now - then),
            "workload/updates_per_second": (trainer.global_step - updates) / (now - then),
        }

    def _log(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self._agent.total_env_steps)


def _losses_and_values(outputs: Any) -> dict[str, float]:
    """The loss and the Q-values of the last update. This is the only place where training waits for the device."""
    values, targets = outputs["state_action_values"], outputs["expected_state_action_values"]
    return {
        "train/loss": float(outputs["loss"]),
        "train/q_value_mean": float(values.mean()),
        "train/td_error_abs_mean": float((targets - values).abs().mean()),
    }


def _means(episodes: list[Episode]) -> dict[str, float]:
    if not episodes:
        return {}
    return {
        f"train/{name}": sum(getattr(episode, name) for episode in episodes) / len(episodes)
        for name in ("episode_return", "episode_length")
    }


def gather_from_processes(items: list[T]) -> list[list[T]]:
    """Gather the lists of all processes, ordered by rank."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return [items]
    gathered: list[list[T]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, items)
    return gathered
