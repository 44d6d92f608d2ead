"""The table of trials: a row for every choice, with what was shown, chosen and right."""

import json
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.callbacks.writing import LogInterval, gather, leaves_files
from seqrl_lightning.collect import Step, TrialStep
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.files import UNFINISHED, add_rows, start_table, writing
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.saved_state import require_saved, saved, saved_count
from seqrl_lightning.trainer_access import run_folder
from seqrl_lightning.types import Array, BoolArray, EvaluationTask, IntArray

Row = tuple[Any, ...]


class Trial(NamedTuple):
    """A row of the table. In the file, ``q_values`` becomes one column for each action: q_0, q_1, ..."""

    episode: int  # number in this environment, from 0 (predictions: the seed)
    env: int  # number of the environment, over all processes
    trial: int  # number in the episode, from 0
    block: int | str  # whose rule held; empty where the task doesn't state it
    state: str  # the observation, as a JSON list; of several parts, an object with a list for each
    action: int  # the object or symbol that was chosen
    correct_action: int | str  # the one that was right; -1 where none counted; empty where the task doesn't state it
    reward: float  # the task's own
    terminated: int  # 1 if the episode ended with it, 0 if not
    truncated: int
    explored: int  # 1 if it was chosen at random
    q_values: Iterable[float | str]  # of the state, as the agent had them; empty where the network wasn't asked


class TrialWriter(Callback):
    """Write ``trials.csv`` into the run's folder, for tasks that state the ``correct_action``.

    Every choice of the agent is a row (:class:`Trial`), including those of an episode abandoned after a fault. If a
    task first states it in the middle of a run, rows begin with the next episode. The agent
    acts the same with and without it. A resumed run ends with the rows of one that was never interrupted.
    """

    def __init__(self) -> None:
        self._interval = LogInterval()
        self._steps: list[TrialStep] = []  # not yet written
        self._batch_ends: list[int] = []  # how many of them there were after each batch
        self._num_rows = 0  # of the file
        self._episodes: list[int] = []  # number of each environment's episode
        self._path = Path("trials.csv")  # in the run's folder, from on_fit_start on
        self._is_writer = False  # whether this process writes the file
        self._is_started = False  # whether the file was started in this fit
        self._first_env = 0  # number of this process's first environment
        self._n_actions = 0
        self._obs_shape: tuple[int, ...] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Subscribe to the agent's steps, from the first on."""
        if stage == "fit":
            self._steps = AgentCallback.of(trainer).recorder.subscribe() if leaves_files(trainer) else []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the file; it is started with the first choice."""
        data = LearnerDataModule.of(trainer)
        self._path = run_folder(trainer) / "trials.csv"  # asked for in every process, so that they agree on it
        self._is_writer = trainer.is_global_zero
        self._is_started = False
        self._first_env = trainer.global_rank * data.num_envs
        self._n_actions = data.n_actions
        self._obs_shape = data.obs_shape
        if not self._episodes:
            self._episodes = [-1] * data.num_envs
        is_for_each = len(self._episodes) == data.num_envs
        require_saved(is_for_each, "TrialWriter's episodes", self._episodes, f"{data.num_envs} numbers")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Write, every ``log_every_n_steps`` batches."""
        self._batch_ends.append(len(self._steps))
        if self._interval.ends(trainer):
            self._write()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the remaining choices."""
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the file, after bringing the file up to it: a resumed run knows no earlier choices."""
        self._write()
        return {"batches": self._interval.batches, "rows": self._num_rows, "episodes": list(self._episodes)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._interval.batches = saved_count(state_dict.get("batches"), "TrialWriter's batches")
        self._num_rows = saved_count(state_dict.get("rows"), "TrialWriter's rows")
        self._episodes = saved(state_dict.get("episodes"), list[int], "TrialWriter's episodes")

    def _write(self) -> None:
        """Write the pending rows, batch by batch, so that a save between two intervals changes no row's place."""
        bounds = pairwise([0, *self._batch_ends, len(self._steps)])
        mine = [[row for step in self._steps[a:b] for row in self._rows_of(step)] for a, b in bounds]
        self._steps.clear()
        self._batch_ends.clear()
        rows = [row for by_rank in zip(*gather(mine), strict=True) for row in chain.from_iterable(by_rank)]
        if not rows or not self._is_writer:
            return
        if not self._is_started:
            self._num_rows = start_table(self._path, header(self._n_actions), self._num_rows)
            self._is_started = True
        self._num_rows += len(rows)
        add_rows(self._path, rows)

    def _values_of(self, step: TrialStep, env: int) -> list[float | str]:
        """Return an environment's values; empty texts where the network wasn't asked (NaN beside other actors)."""
        if step.q_values is None or np.isnan(step.q_values[env]).all():
            return [""] * self._n_actions
        values: list[float | str] = step.q_values[env].tolist()
        return values

    def _rows_of(self, step: TrialStep) -> Iterable[Row]:
        for env in np.flatnonzero(step.is_trial).tolist():
            self._episodes[env] += int(step.trial[env] == 0)
            if self._episodes[env] < 0:  # the task stated a right action for the first time, in mid-episode
                continue
            yield flat(
                Trial(
                    self._episodes[env],
                    self._first_env + env,
                    int(step.trial[env]),
                    label(step.shown.block, env),
                    as_json(step.shown.observation[env], self._obs_shape),
                    int(step.action[env]),
                    label(step.shown.correct_action, env),
                    float(step.outcome.task_reward[env]),
                    int(step.outcome.terminated[env]),
                    int(step.outcome.truncated[env]),
                    int(step.explores[env]),
                    self._values_of(step, env),
                )
            )


class PredictionWriter(Callback):
    """Write ``predictions.csv`` into the run's folder: the same rows for the episodes that ``seqrl predict`` plays.

    The table has this name once it is complete; one that is broken off is deleted.
    """

    def __init__(self) -> None:
        self._path = Path("predictions.csv")  # in the run's folder, from on_predict_start on
        self._unfinished: Path | None = None  # where it is written

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the table."""
        self._path = run_folder(trainer) / "predictions.csv"
        self._unfinished = self._path.with_name(self._path.name + UNFINISHED)
        if trainer.is_global_zero:
            start_table(self._unfinished, header(LearnerDataModule.of(trainer).n_actions))
        trainer.strategy.barrier()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: list[tuple[Step, Array]],
        batch: EvaluationTask,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the episodes one after the other."""
        assert self._unfinished is not None
        episodes = range(batch.seed, batch.seed + len(outputs[0][0].action))
        add_rows(self._unfinished, played_rows(outputs, LearnerDataModule.of(trainer).obs_shape, episodes))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the complete table its name, and log it."""
        assert self._unfinished is not None
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            with writing(self._path):
                self._unfinished.replace(self._path)
        self._unfinished = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log the table's path, after the progress bar's last line."""
        if stage == "predict" and self._unfinished is None:
            rank_zero_info(f"Episodes written to {os.path.relpath(self._path)}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Delete an incomplete table."""
        if self._unfinished is not None:
            self._unfinished.unlink(missing_ok=True)


def played_rows(
    played: Iterable[tuple[Step, Array | None]],
    obs_shape: tuple[int, ...],
    episodes: Sequence[int],
    first_env: int = 0,
    explores: Sequence[BoolArray] | None = None,
) -> list[Row]:
    """Return the rows of episodes that a policy plays, one episode after the other.

    Args:
        played: The steps of N environments, each with the values [N, A] that its actions were chosen by; None for a
            table without values.
        obs_shape: Shape of one observation, as for :func:`as_json`.
        episodes: [N], the number of each environment's episode.
        first_env: Number of the first environment.
        explores: [N] of each step, whether its actions were random; None for greedy episodes.
    """
    steps = list(played)
    states_right_action = any(step.shown.correct_action is not None for step, _ in steps)
    no_right_action = -1 if states_right_action else ""  # a task may state it for the first time in mid-episode
    return [
        flat(
            Trial(
                episode,
                first_env + env,
                t,
                label(step.shown.block, env),
                as_json(step.shown.observation[env], obs_shape),
                int(step.action[env]),
                label(step.shown.correct_action, env, no_right_action),
                float(step.outcome.task_reward[env]),
                int(step.outcome.terminated[env]),
                int(step.outcome.truncated[env]),
                0 if explores is None else int(explores[t][env]),
                () if q_values is None else q_values[env].tolist(),
            )
        )
        for env, episode in enumerate(episodes)
        for t, (step, q_values) in enumerate(steps)
        if step.is_playing[env]
    ]


def header(n_actions: int) -> tuple[str, ...]:
    """Return the names of the columns; without actions, those of a table without values."""
    return (*Trial._fields[:-1], *(f"q_{action}" for action in range(n_actions)))


def flat(trial: Trial) -> Row:
    """Return the row with one value in each column."""
    return (*trial[:-1], *trial.q_values)


def label(labels: IntArray | None, env: int, default: int | str = "") -> int | str:
    """Return what the task states about an environment; ``default`` if it states nothing."""
    return default if labels is None else int(labels[env])


def as_json(observation: Array, shape: tuple[int, ...]) -> str:
    """Return an observation as JSON: a list, or an object with a list for each of its parts.

    Args:
        observation: The observation.
        shape: Its shape; of packed parts, a :class:`~seqrl_lightning.parts.PackedShape`.
    """
    if isinstance(shape, PackedShape):
        return json.dumps({name: part.tolist() for name, part in shape.unpack(observation).items()})
    return _as_json(observation.tobytes(), observation.dtype.str, observation.shape)


@lru_cache(maxsize=4096)  # most tasks have few states
def _as_json(values: bytes, dtype: str, shape: tuple[int, ...]) -> str:
    return json.dumps(np.frombuffer(values, dtype).reshape(shape).tolist())
