"""Writes what learning and evaluation measured, with the env steps as x axis."""

import csv
import time
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.callbacks.agent import AgentCallback, Episode
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.files import start_table
from seqrl_lightning.trainer_access import attributes_of

T = TypeVar("T")


class EnvStepLogger(Callback):
    """Writes scalars to the loggers every ``trainer.log_every_n_steps`` batches, and each episode to a file.

    - ``train/*``: whether it learns: the mean over the episodes that finished since the last time, the last batch's
      loss and Q-values, the agent's epsilon, speed.
    - ``val/*``: what an evaluation logged.
    - ``workload/*``: how much was done.
    - ``episodes.csv`` in the run's folder: one row for every episode (:class:`Episode`), of all processes.

    Nothing is computed between two writes, so that it costs nothing.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._unlogged: list[Episode] = []  # in the file, but not yet in a mean
        self._rows = 0  # of the file

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the file of episodes; a run that goes on keeps those up to its checkpoint."""
        self._agent = AgentCallback.of(trainer)
        self._data = ReplayDataModule.of(trainer)
        self._episodes: Path | None = None
        run = trainer.log_dir  # asked for in every process: they agree on it
        if trainer.is_global_zero and trainer.logger is not None and not attributes_of(trainer).fast_dev_run:
            self._episodes = Path(str(run)) / "episodes.csv"
            self._rows = start_table(self._episodes, Episode._fields, self._rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._last = (time.perf_counter(), self._data.progress.env_steps, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes, every ``log_every_n_steps`` batches."""
        self._batches += 1
        if self._batches % attributes_of(trainer).log_every_n_steps == 0:
            self._write(trainer, _learning(outputs))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what the evaluation logged."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._log(trainer, {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the episodes that are left."""
        self._write(trainer, {})

    def state_dict(self) -> dict[str, Any]:
        """Where it is between two writes. Brings the file up to here: a run that goes on knows no earlier episodes."""
        self._take_down_episodes()
        unlogged = [list(episode) for episode in self._unlogged]
        return {"batches": self._batches, "unlogged": unlogged, "rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self._batches = state_dict["batches"]
        self._unlogged = [Episode(*episode) for episode in state_dict["unlogged"]]
        self._rows = state_dict["rows"]

    def _take_down_episodes(self) -> None:
        of_all = chain.from_iterable(of_all_processes(self._agent.drain_episodes()))
        episodes = sorted(of_all, key=lambda episode: episode.env_steps)  # in the order in which they ended
        self._unlogged += episodes
        self._rows += len(episodes)
        if self._episodes is not None:
            with self._episodes.open("a", newline="") as file:
                csv.writer(file).writerows(episodes)

    def _write(self, trainer: Trainer, learning: dict[str, float]) -> None:
        progress = self._data.progress
        self._take_down_episodes()
        episodes, self._unlogged = self._unlogged, []
        metrics = {
            **_means(episodes),
            "workload/block": progress.block,
            **learning,
            "train/epsilon": progress.epsilon,
            "workload/buffer_fill": self._data.ring.fill,
            "workload/env_faults": progress.env_faults,
            "workload/updates": trainer.global_step,
            **self._speed(trainer),
        }
        self._log(trainer, metrics)

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        """Speed since the last time that there were new env steps (they come in bunches)."""
        then, env_steps, updates = self._last
        if self._data.progress.env_steps == env_steps:
            return {}
        self._last = now, _, _ = (time.perf_counter(), self._data.progress.env_steps, trainer.global_step)
        return {
            "train/env_steps_per_second": (self._data.progress.env_steps - env_steps) / (now - then),
            "workload/updates_per_second": (trainer.global_step - updates) / (now - then),
        }

    def _log(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self._data.progress.env_steps)


def _learning(outputs: Any) -> dict[str, float]:
    """What the last update showed. The only place where training waits for the device."""
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


def of_all_processes(items: list[T]) -> list[list[T]]:
    """The items of each process."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return [items]
    of_all: list[list[T]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(of_all, items)
    return of_all
