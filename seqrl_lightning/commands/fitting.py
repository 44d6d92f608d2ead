"""``seqrl fit`` within other commands: to train, or to check whether settings can work."""

import gc
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.errors import refusal_in
from seqrl_lightning.trainer_access import attributes_of


class Fit(SeqRLCLI):
    """``seqrl fit`` in this process.

    Args:
        arguments: The arguments of ``seqrl fit``.
        callbacks: Callbacks in addition to those of every run.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, arguments: Iterable[str], callbacks: Iterable[Callback] = ()) -> None:
        self._more_callbacks = list(callbacks)
        sys.argv[1:] = ["fit", *arguments]
        try:
            super().__init__()
        except ValueError as error:
            if (refusal := refusal_in(error)) is None:
                raise
            raise refusal from error

    def before_fit(self) -> None:
        """Add the callbacks after all others."""
        gc.unfreeze()  # objects of a previous run can be collected now
        super().before_fit()
        attributes_of(self.trainer).callbacks.extend(self._more_callbacks)

    def after_fit(self) -> None:
        """Print no summary: the command that started the run prints its own."""


class DryFit(Fit):
    """Check settings without training: read them and build everything that they name.

    Args:
        arguments: The arguments of ``seqrl fit``.
        starts: Whether to start the run as well, in a temporary folder, and to stop it before its first env step: some
            settings are only checked against each other then.

    Attributes:
        settings: The whole config.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, arguments: Iterable[str], starts: bool = False) -> None:
        self._starts = starts
        with TemporaryDirectory() as self._folder, suppress(_Started):
            super().__init__(arguments)

    def before_instantiate_classes(self) -> None:
        """Keep a copy of the settings, and the run out of the user's folders."""
        super().before_instantiate_classes()
        self.settings: Namespace = self.config["fit"].clone()
        self.config["fit"].trainer.default_root_dir = self._folder
        self.config["fit"].trainer.enable_model_summary = False

    def _run_subcommand(self, subcommand: str) -> None:
        if self._starts and self.trainer.world_size == 1:
            super()._run_subcommand(subcommand)

    def before_fit(self) -> None:
        """Add the callback that stops the run."""
        super().before_fit()
        attributes_of(self.trainer).callbacks.insert(0, _Stop())

    def as_yaml(self) -> str:
        """Return the whole config as YAML, for ``seqrl fit --config``."""
        return str(self._parser("fit").dump(self.settings, skip_none=False))

    def as_plain(self) -> dict[str, Any]:
        """Return the whole config as numbers, texts and collections."""
        plain: dict[str, Any] = yaml.safe_load(self.as_yaml())
        return plain


class _Started(Exception):
    """The run has started."""


class _Stop(Callback):
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise _Started


def name_of(configs: Sequence[Any]) -> str:
    """Return the name of runs with these config files: that of the last file."""
    return Path(str(configs[-1])).stem
