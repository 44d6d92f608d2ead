"""The folder of a run: claimed by one process, with its config, and logged into."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from seqrl_lightning.checkpoints.last import run_of
from seqrl_lightning.files import LOCK, FolderLock, require_own_files, write_file
from seqrl_lightning.trainer_access import run_folder
from seqrl_lightning.types import require
from seqrl_lightning.versions import versions

LAST = ("checkpoints", "last.ckpt")
"""The path of the last checkpoint within a run's folder."""


class RunConfig(SaveConfigCallback):
    """Write ``config.yaml``, which starts the same run from scratch: a resumed run's names no checkpoint either.

    It begins with a comment for each package that results depend on, with its version.

    A resumed run's file replaces that of the run before once it trains: nothing refuses to continue from the
    checkpoint, and the run isn't over.

    Args:
        parser: Knows the settings.
        config: The settings.
        print_notes: Prints the notes on them, before training.
        kwargs: Those of Lightning's callback.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, print_notes: Callable[[], None], **kwargs: Any
    ) -> None:
        config = config.clone()
        self._resumes = config.ckpt_path is not None
        self._print_notes = print_notes
        config.ckpt_path = config.weights_only = None
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder, in every process; the first one writes into it."""
        self._folder = run_folder(trainer)
        if stage != "fit" or not self._resumes:
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the notes."""
        self._print_notes()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a resumed run's file."""
        super().setup(trainer, pl_module, "fit")  # does nothing if the file is written

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file whole or not at all: a signal must not leave an empty one, with which no run resumes."""
        self.parser.dump_header = versions()
        text = self.parser.dump(self.config, skip_none=False, skip_validation=True)  # it was, when it was parsed
        write_file(self._folder / self.config_filename, lambda file: file.write(text.encode()))


class RunClaim:
    """The claim of this run to its folder, which ends with this object or the process."""

    def __init__(self) -> None:
        self._lock: FolderLock | None = None
        self._missing: list[Path] = []  # folders that the claim made, the innermost first
        self._files: set[Path] = set()  # that were in the folder before

    @rank_zero_only
    def take(self, folder: Path) -> None:
        """Claim the folder, before anything in it is changed: two runs in one would mix their files.

        Raises:
            ConfigurationError: If another process has claimed it.
        """
        if self._lock is None:
            self._missing = [path for path in (folder, *folder.parents) if not path.exists()]
            self._files = set(folder.iterdir()) if folder.exists() else set()
            self._lock = FolderLock(folder)
            self._folder = folder

    @rank_zero_only
    def withdraw(self) -> None:
        """Remove the files that a start writes, and folders that are empty without them: the run was refused."""
        if self._lock is None:
            return
        for pattern in _WRITTEN_AT_START:
            for path in set(self._folder.glob(pattern)) - self._files:
                path.unlink()
        for folder in self._missing:
            with suppress(OSError):  # there is something else in it
                folder.rmdir()


_WRITTEN_AT_START = (LOCK, "config.yaml", "hparams.yaml", "events.out.tfevents.*")


def require_no_other_run(folder: Path, checkpoint: str | None) -> None:
    """Refuse a new run in the folder of another one, whose files it would overwrite.

    Args:
        folder: The new run's folder.
        checkpoint: The checkpoint that it is resumed from; None for none.

    Raises:
        ConfigurationError: If there is one: without a logger, ``trainer.default_root_dir`` is the run's folder.
    """
    last = folder.joinpath(*LAST)
    resumed = None if checkpoint is None else Path(checkpoint).absolute().parent.parent
    is_free = not last.exists() or (resumed is not None and resumed.samefile(folder))
    must_be = f"a folder without a run, or --ckpt_path {last} resumes it"
    require(is_free, "trainer.default_root_dir", str(folder), must_be)


def training_logger(root: str, resumed_run: Path | None, env_steps: int) -> TensorBoardLogger:
    """Log a training run into a new folder below ``root``, or into its own if it is resumed.

    Args:
        root: The runs' ``trainer.default_root_dir``.
        resumed_run: The folder of the run that is resumed; None for a new one.
        env_steps: Env steps that the resumed run has taken; what it logged later is dropped.
    """
    if resumed_run is None:
        return TensorBoardLogger(root, default_hp_metric=False)
    return TensorBoardLogger(root, version=resumed_run.name, default_hp_metric=False, purge_step=env_steps + 1)


def evaluated_run(checkpoint: str | None) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None if it is in none, or can't be written into."""
    run = None if checkpoint is None else run_of(Path(checkpoint))
    if run is None or not os.access(run, os.W_OK):
        return None
    require_own_files(run)
    return run


def evaluation_logger(root: str, subcommand: str, run: Path | None) -> TensorBoardLogger:
    """Log an evaluation into a folder within the run that is evaluated; below ``root`` if it is in none.

    A separate folder keeps its results out of the run's curves, and TensorBoard reads both.

    Args:
        root: The runs' ``trainer.default_root_dir``.
        subcommand: Its name, which is the folder's.
        run: The run's folder (:func:`evaluated_run`).
    """
    if run is None:
        return TensorBoardLogger(root, default_hp_metric=False)
    return TensorBoardLogger(run, name="", version=subcommand, default_hp_metric=False)
