"""The table of probes: the choices of the greedy policy, evaluation by evaluation."""

from itertools import chain
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from seqrl_lightning.algorithms.evaluation import steps_of
from seqrl_lightning.callbacks.trials import Row, header, played_rows
from seqrl_lightning.callbacks.writing import gather, leaves_files
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.files import add_rows, start_table
from seqrl_lightning.saved_state import saved_count
from seqrl_lightning.trainer_access import run_folder
from seqrl_lightning.types import EvaluationTask


class ProbeWriter(Callback):
    """Write ``probes.csv`` into the run's folder, for tasks that state the ``correct_action``.

    Every choice of the evaluations under the current rule is a row: the run's ``env_steps`` at the evaluation, and the
    columns of ``trials.csv`` without Q-values, where ``episode`` counts the probes in each environment. The run is the
    same with and without it, and a resumed run ends with the rows of one that was never interrupted.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []  # of the evaluation under way
        self._num_rows = 0  # of the file
        self._num_probes = 0  # in each environment
        self._path: Path | None = None  # of the file; None where none is written
        self._is_started = False  # whether the file was started in this fit

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the file; it is started with the first evaluation."""
        folder = run_folder(trainer)  # asked for in every process, so that they agree on it
        self._path = folder / "probes.csv" if leaves_files(trainer) else None
        self._is_started = False

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: EvaluationTask,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the choices under the current rule."""
        if self._path is None or trainer.sanity_checking or "" not in batch.names or not (steps := steps_of(outputs)):
            return
        data = LearnerDataModule.of(trainer)
        num_envs = len(steps[0].action)
        played = [(step, None) for step in steps]
        rows = played_rows(played, data.obs_shape, [self._num_probes] * num_envs, trainer.global_rank * num_envs)
        self._rows += [(data.progress.env_steps, *row) for row in rows]
        self._num_probes += 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the choices of all processes."""
        rows = list(chain.from_iterable(gather(self._rows)))
        self._rows = []
        if not rows or self._path is None or not trainer.is_global_zero:
            return
        if not self._is_started:
            self._num_rows = start_table(self._path, ("env_steps", *header(n_actions=0)), self._num_rows)
            self._is_started = True
        self._num_rows += len(rows)
        add_rows(self._path, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the file."""
        return {"rows": self._num_rows, "probes": self._num_probes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._num_rows = saved_count(state_dict.get("rows"), "ProbeWriter's rows")
        self._num_probes = saved_count(state_dict.get("probes"), "ProbeWriter's probes")
