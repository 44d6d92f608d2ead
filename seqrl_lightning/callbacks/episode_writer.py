"""Writes the episodes that ``seqrl predict`` plays."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from seqrl_lightning.types import EvaluationTask

_FIELDS = ("seed", "block", "step", "state", "action", "reward", "terminated", "truncated", "correct_action")


class EpisodeWriter(Callback):
    """Writes ``predictions.csv`` into the run's folder: one row for every step of the episodes that were played.

    ``seed`` tells the episodes apart, ``state`` is the observation as a JSON list; ``block`` and ``correct_action`` are
    what the task's ``info`` held when the action was chosen (empty for tasks that don't tell).
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the table."""
        self._path = Path(str(trainer.log_dir or trainer.default_root_dir)) / "predictions.csv"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(_FIELDS)

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
        for env in range(len(outputs[0].action)):
            for t, step in enumerate(outputs):
                if step.is_playing[env]:
                    self._writer.writerow(
                        (
                            batch.seed + env,
                            _info(step.infos, "block", env),
                            t,
                            json.dumps(np.asarray(step.observation[env]).tolist()),
                            int(step.action[env]),
                            float(step.reward[env]),
                            bool(step.terminated[env]),
                            bool(step.truncated[env]),
                            _info(step.infos, "correct_action", env),
                        )
                    )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the table and says where it is."""
        self._file.close()
        rank_zero_info(f"Episodes written to {self._path}")


def _info(infos: dict[str, Any], key: str, env: int) -> Any:
    return infos[key][env] if key in infos else ""
