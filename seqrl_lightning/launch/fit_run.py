"""A run of ``seqrl fit`` in its own folder, from which it can be resumed."""

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

from seqrl_lightning.checkpoints.changes import changes
from seqrl_lightning.files import LOCK, is_in_use, write_bytes
from seqrl_lightning.launch.job import Job
from seqrl_lightning.reading import read_config, read_json
from seqrl_lightning.types import ConfigurationError

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_FOR_LOST = 60.0  # to save and end
_MAY_CHANGE = re.compile(
    r"seed_everything$|agent\.max_(env_steps|episodes)$|data\.(eval_|save_replay|mmap_dir)|checkpoint\b"
)
_WRITTEN_BY_RUNS = (
    *("fit.log", "fit.progress", "fit.stop", "over.json", "config.yaml", "hparams.yaml", "episodes.csv"),
    *("trials.csv", "probes.csv", "events.out.tfevents.*", "*.replay", "*.unfinished", LOCK),
)


class FitRun(Job):
    """A run of ``seqrl fit`` with one seed.

    Args:
        name: Its name in progress reports.
        seed: Its ``seed_everything``.
        root: The folder of runs that differ in their seed, which gets the run's folder, ``seed_N``.
        fit_arguments: The arguments of ``seqrl fit`` that these runs have in common.
        config: The settings that follow from them, as plain values.
    """

    def __init__(
        self, name: str, seed: int, root: Path, fit_arguments: Sequence[str], config: Mapping[str, Any]
    ) -> None:
        self.seed = seed
        self.folder = root / f"seed_{seed}"
        self._settings = [*fit_arguments, f"--seed_everything={seed}", f"--trainer.default_root_dir={self.folder}"]
        self._config = {**config, "seed_everything": seed}
        self._config["trainer"] = {**config["trainer"], "default_root_dir": None}  # a folder may be moved
        self._over = self.folder / "over.json"
        super().__init__(name, ["fit", *self._settings], self.folder / "fit.log")

    @property
    def has_saved(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any(self.folder.glob("lightning_logs/*/checkpoints/last*.ckpt"))

    @property
    def is_running(self) -> bool:
        """Whether a process, started by another command, is still at work in the folder."""
        return any(map(is_in_use, self.folder.glob("lightning_logs/*")))

    @property
    def is_over(self) -> bool:
        """Whether it ended without an error, with exactly these settings."""
        return self._over.exists() and read_json(self._over) == self._config

    def start_from(self, ckpt_path: str | None) -> None:
        """Start from a checkpoint, given as for ``seqrl fit``, or from scratch."""
        self.arguments = ["fit", *self._settings, *([f"--ckpt_path={ckpt_path}"] if ckpt_path else [])]

    def resume(self) -> None:
        """Continue from the last checkpoint; a run that has saved nothing starts from scratch, in an empty folder.

        Raises:
            ConfigurationError: If the folder would have to be deleted, and holds files that a user may want.
        """
        if self.has_saved:
            self.start_from("last")
        elif self.folder.exists():
            require_nothing_to_keep(self.folder)
            rmtree(self.folder)

    def begin(self) -> None:
        """Make the folder, and forget an earlier end."""
        super().begin()
        self._over.unlink(missing_ok=True)

    def end(self, status: int) -> None:
        """Note in the folder that the run is over."""
        super().end(status)
        if status == 0:
            write_bytes(self._over, json.dumps(self._config).encode())

    def require_same_experiment(self) -> None:
        """Refuse to continue a run with different settings, which would pass for one of these.

        Raises:
            ConfigurationError: If a setting other than a budget differs.
        """
        for path in sorted(self.folder.glob("lightning_logs/*/config.yaml")):
            for change in changes(read_config(path), self._config):
                if not _MAY_CHANGE.match(change.name):
                    raise ConfigurationError(
                        f"{self.folder} was started with {change.name} {change.before!r}; it is {change.now!r} now. "
                        "Runs keep their settings, except for budgets: give another folder, or delete this one"
                    )


def resume(runs: Iterable[FitRun]) -> list[FitRun]:
    """Resume interrupted runs (:meth:`FitRun.resume`).

    Returns:
        The runs that aren't finished.

    Raises:
        ConfigurationError: If one is still running, has other settings, or would have to be deleted and holds files
            that a user may want.
    """
    left = [run for run in runs if not run.is_over]
    wait_for_lost(left)
    for run in left:
        run.require_same_experiment()
    for run in left:
        run.resume()
    return left


def wait_for_lost(runs: Iterable[FitRun]) -> None:
    """Wait for the processes of a command that was killed: they save and end.

    Raises:
        ConfigurationError: If one of them doesn't.
    """
    deadline = time.monotonic() + _SECONDS_FOR_LOST
    while running := [run.folder for run in runs if run.is_running]:
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{running[0]} is in use by another process; it must be ended first")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def require_nothing_to_keep(folder: Path) -> None:
    """Refuse to delete a folder that holds more than the beginnings of a run.

    Raises:
        ConfigurationError: If it holds a checkpoint, or a file that no run writes.
    """
    for path in folder.rglob("*"):
        if not path.is_dir() and not any(path.match(pattern) for pattern in _WRITTEN_BY_RUNS):
            raise ConfigurationError(
                f"{folder} has no last.ckpt to resume from, but holds {path.name}; move the folder away to start the "
                "seed from scratch, or put last.ckpt back"
            )
