"""The logger of learning and evaluation, with the env steps as the x axis."""

import csv
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.writing import LogInterval, gather, leaves_files, log_scalars
from seqrl_lightning.collect import Episode, EpisodeLog
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.files import start_table


class _Moment(NamedTuple):
    seconds: float
    env_steps: int
    updates: int


class EnvStepLogger(Callback):
    """Writes scalars to the loggers every ``trainer.log_every_n_steps`` batches, and each episode to a file.

    - ``train/*``: how learning goes: the mean over the episodes that finished since the last time, the last batch's
      loss and Q-values, the agent's epsilon, speed.
    - ``val/*``: what an evaluation logged.
    - ``workload/*``: how much was done.
    - ``episodes.csv`` in the run's folder: one row for every episode (:class:`seqrl_lightning.collect.Episode`), of
      all processes.

    Nothing is computed between two writes.
    """

    def __init__(self) -> None:
        self._interval = LogInterval()
        self._unlogged: list[Episode] = []  # in the file, but not yet in a mean
        self._num_rows = 0  # of the file
        self._path: Path | None = None  # of the file, in the process that writes it
        self._last = _Moment(0.0, 0, 0)  # at which speed was last measured
        self._episode_log = EpisodeLog()  # the agent's, from on_fit_start on

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file of episodes; a resumed run keeps those up to its checkpoint."""
        self._episode_log = AgentCallback.of(trainer).episode_log
        folder = trainer.log_dir  # asked for in every process, so that they agree on it
        self._path = None
        if trainer.is_global_zero and leaves_files(trainer):
            self._path = Path(str(folder)) / "episodes.csv"
            self._num_rows = start_table(self._path, Episode._fields, self._num_rows)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._last = _now(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, every ``log_every_n_steps`` batches."""
        if self._interval.ends(trainer):
            self._write(trainer, _summary_of(outputs))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the evaluation logged."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            log_scalars(trainer, {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the remaining episodes."""
        self._write(trainer, {})

    def state_dict(self) -> dict[str, Any]:
        """Return the position between two writes, after bringing the file up to it: a resumed run knows no more."""
        self._write_episodes()
        unlogged = [list(episode) for episode in self._unlogged]
        return {"batches": self._interval.batches, "unlogged": unlogged, "rows": self._num_rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._interval.batches = state_dict["batches"]
        self._unlogged = [Episode(*episode) for episode in state_dict["unlogged"]]
        self._num_rows = state_dict["rows"]

    def _write(self, trainer: Trainer, learning: dict[str, float]) -> None:
        self._write_episodes()
        episodes, self._unlogged = self._unlogged, []
        data = ReplayDataModule.of(trainer)
        progress = data.progress
        scalars = {
            **_means_of(episodes),
            "workload/block": progress.block,
            **learning,
            "train/epsilon": progress.epsilon,
            "workload/buffer_fill": data.ring.fill,
            "workload/env_faults": progress.env_faults,
            "workload/updates": trainer.global_step,
            **self._speed(trainer),
        }
        log_scalars(trainer, scalars)

    def _write_episodes(self) -> None:
        """Append the newly finished episodes of all processes to the file, in the order in which they ended."""
        finished = chain.from_iterable(gather(self._episode_log.drain()))
        episodes = sorted(finished, key=lambda episode: episode.env_steps)
        self._unlogged += episodes
        self._num_rows += len(episodes)
        if self._path is not None:
            with self._path.open("a", newline="") as file:
                csv.writer(file).writerows(episodes)

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        """Return the speed since the last time that there were new env steps; they come in bunches."""
        then, now = self._last, _now(trainer)
        if now.env_steps == then.env_steps:
            return {}
        self._last = now
        seconds = now.seconds - then.seconds
        return {
            "train/env_steps_per_second": (now.env_steps - then.env_steps) / seconds,
            "workload/updates_per_second": (now.updates - then.updates) / seconds,
        }


def _now(trainer: Trainer) -> _Moment:
    return _Moment(time.perf_counter(), ReplayDataModule.of(trainer).progress.env_steps, trainer.global_step)


def _summary_of(outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Summarize the last update. This is the only place where training waits for the device."""
    values, targets = outputs["state_action_values"], outputs["expected_state_action_values"]
    return {
        "train/loss": float(outputs["loss"]),
        "train/q_value_mean": float(values.mean()),
        "train/td_error_abs_mean": float((targets - values).abs().mean()),
    }


def _means_of(episodes: list[Episode]) -> dict[str, float]:
    if not episodes:
        return {}
    return {
        "train/episode_return": sum(episode.episode_return for episode in episodes) / len(episodes),
        "train/episode_length": sum(episode.episode_length for episode in episodes) / len(episodes),
    }
