"""The table of trials: what was shown, chosen and right, a row for every choice."""

import csv
import json
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from seqrl_lightning.callbacks.agent import AgentCallback, TrialStep
from seqrl_lightning.callbacks.env_step_logger import of_all_processes
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.files import start_table
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Array, EvaluationTask


class Trial(NamedTuple):
    """A row of the table. In the file, ``q_values`` is a column for each action: q_0, q_1, ..."""

    episode: int  # its number in this environment, from 0 (predictions: its seed)
    env: int  # which of the environments, over all processes
    trial: int  # its number in the episode, from 0
    block: int | str  # whose rule held; empty where the task doesn't tell
    state: str  # the observation, as a JSON list
    action: int  # the object or symbol that was chosen
    correct_action: int | str  # the one that was right; -1 where none counted; empty where the task doesn't tell
    reward: float
    terminated: int  # 1 if the episode ended with it, 0 if not
    truncated: int
    explored: int  # 1 if it was chosen at random
    q_values: Iterable[float | str]  # of the state, as the agent had them; empty where all explored and none were asked


class TrialWriter(Callback):
    """Writes ``trials.csv`` into the run's folder, for tasks that tell the ``correct_action``.

    Every choice of the agent is a row (:class:`Trial`); those of an episode that was given up after a fault stay. What
    the agent does is not changed by it. A run that goes on has the rows of one that was never interrupted.
    """

    def __init__(self) -> None:
        self._batches = 0
        self._rows = 0  # of the file
        self._episodes: list[int] = []  # the number of each environment's episode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the agent to keep its choices, from the first on."""
        if stage == "fit":
            writes = trainer.logger is not None and not attributes_of(trainer).fast_dev_run
            self._steps = AgentCallback.of(trainer).keep_trials() if writes else []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the file; it is begun with the first choice."""
        self._path = Path(str(trainer.log_dir)) / "trials.csv"  # asked for in every process: they agree on it
        self._is_global_zero = trainer.is_global_zero
        data = ReplayDataModule.of(trainer)
        self._first_env = trainer.global_rank * data.num_envs
        self._header = header(data.n_actions)
        self._is_started = False
        if not self._episodes:
            self._episodes = [-1] * data.num_envs

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes, every ``log_every_n_steps`` batches."""
        self._batches += 1
        if self._batches % attributes_of(trainer).log_every_n_steps == 0:
            self._write()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is left."""
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """Where it is. Brings the file up to here: a run that goes on knows no earlier choices."""
        self._write()
        return {"batches": self._batches, "rows": self._rows, "episodes": list(self._episodes)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken."""
        self._batches = state_dict["batches"]
        self._rows = state_dict["rows"]
        self._episodes = list(state_dict["episodes"])

    def _write(self) -> None:
        mine = [row for step in self._steps for row in self._rows_of(step)]
        self._steps.clear()
        rows = list(chain.from_iterable(of_all_processes(mine)))
        if not rows or not self._is_global_zero:
            return
        if not self._is_started:
            self._rows = start_table(self._path, self._header, self._rows)
            self._is_started = True
        self._rows += len(rows)
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows(rows)

    def _rows_of(self, step: TrialStep) -> Iterable[tuple[Any, ...]]:
        for env in np.flatnonzero(step.is_trial).tolist():
            self._episodes[env] += int(step.trial[env] == 0)
            yield flat(
                Trial(
                    self._episodes[env],
                    self._first_env + env,
                    int(step.trial[env]),
                    told(step.told, "block", env),
                    as_text(step.observation[env]),
                    int(step.action[env]),
                    told(step.told, "correct_action", env),
                    float(step.reward[env]),
                    int(step.terminated[env]),
                    int(step.truncated[env]),
                    int(step.explores[env]),
                    [""] * (len(self._header) - len(Trial._fields) + 1)
                    if step.q_values is None
                    else step.q_values[env].tolist(),
                )
            )


class PredictionWriter(Callback):
    """Writes ``predictions.csv`` into the run's folder: the same rows for the episodes that ``seqrl predict`` plays."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the table."""
        self._path = Path(str(trainer.log_dir or trainer.default_root_dir)) / "predictions.csv"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(header(ReplayDataModule.of(trainer).n_actions))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EvaluationTask,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the episodes one after the other."""
        for env in range(len(outputs[0][0].action)):
            for t, (step, q_values) in enumerate(outputs):
                if step.is_playing[env]:
                    row = Trial(
                        batch.seed + env,
                        env,
                        t,
                        told(step.infos, "block", env),
                        as_text(step.observation[env]),
                        int(step.action[env]),
                        told(step.infos, "correct_action", env),
                        float(step.reward[env]),
                        int(step.terminated[env]),
                        int(step.truncated[env]),
                        0,
                        q_values[env].tolist(),
                    )
                    self._writer.writerow(flat(row))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the table and says where it is."""
        self._file.close()
        rank_zero_info(f"Episodes written to {self._path}")


def header(n_actions: int) -> tuple[str, ...]:
    """The names of the columns."""
    return (*Trial._fields[:-1], *(f"q_{action}" for action in range(n_actions)))


def flat(trial: Trial) -> tuple[Any, ...]:
    """The row, with a number in each column."""
    return (*trial[:-1], *trial.q_values)


def told(infos: dict[str, Any], key: str, env: int) -> int | str:
    """What the task told; empty if it didn't."""
    return int(infos[key][env]) if key in infos else ""


def as_text(observation: Array) -> str:
    """An observation as a JSON list."""
    observation = np.asarray(observation)
    return _as_text(observation.tobytes(), observation.dtype.str, observation.shape)


@lru_cache(maxsize=4096)  # most tasks have few states
def _as_text(values: bytes, dtype: str, shape: tuple[int, ...]) -> str:
    return json.dumps(np.frombuffer(values, dtype).reshape(shape).tolist())
