"""``seqrl fit`` as other commands call it: to train, or to see whether its settings can work."""

import gc
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.envs import discard
from seqrl_lightning.errors import essential
from seqrl_lightning.types import ConfigurationError


class Fit(SeqRLCLI):
    """``seqrl fit`` in this process.

    Args:
        arguments: What would stand behind ``seqrl fit``.
        callbacks: Callbacks besides those of every run.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, arguments: Iterable[str], callbacks: Iterable[Callback] = ()) -> None:
        self._more_callbacks = list(callbacks)
        sys.argv[1:] = ["fit", *arguments]
        try:
            super().__init__()
        except ValueError as error:  # a ConfigurationError of the model's, as jsonargparse hands it on
            if "Does not validate against" not in str(error):
                raise
            raise ConfigurationError(essential(str(error))) from error

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except BaseException:  # Lightning leaves the environments open
            for name in {"envs", "eval_envs"} & set(vars(self.datamodule)):
                discard(getattr(self.datamodule, name))
            raise

    def before_fit(self) -> None:
        """Adds the callbacks, behind all others."""
        gc.unfreeze()  # what the run before has left
        super().before_fit()
        self.trainer.callbacks.extend(self._more_callbacks)  # type: ignore[attr-defined]


class DryFit(Fit):
    """Reads the settings and builds all that they name, but trains nothing: what can't work is said at once.

    Args:
        arguments: What would stand behind ``seqrl fit``.
        begins: Whether the run begins too, in a temporary folder, and is ended before its first env step: some settings
            are only held against each other then.

    Attributes:
        settings: The whole config.
    """

    def __init__(self, arguments: Iterable[str], begins: bool = False) -> None:
        self._begins = begins
        with TemporaryDirectory() as self._folder, suppress(_Begun):
            super().__init__(arguments)

    def before_instantiate_classes(self) -> None:
        """Keeps the settings as they are, and the run away from the user's folders."""
        super().before_instantiate_classes()
        self.settings: Any = self.config["fit"].clone()
        self.config["fit"].trainer.default_root_dir = self._folder
        self.config["fit"].trainer.enable_model_summary = False

    def _run_subcommand(self, subcommand: str) -> None:
        if self._begins and self.trainer.world_size == 1:
            super()._run_subcommand(subcommand)

    def before_fit(self) -> None:
        """Sees that it ends."""
        super().before_fit()
        self.trainer.callbacks.insert(0, _Stop())  # type: ignore[attr-defined]

    def as_yaml(self) -> str:
        """The whole config, as ``seqrl fit --config`` takes it."""
        return str(self._parser("fit").dump(self.settings, skip_none=False))


class _Begun(Exception):
    """The run has begun."""


class _Stop(Callback):
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise _Begun


def name_of(configs: Sequence[Any]) -> str:
    """What runs of these config files are called: the last one's name."""
    return Path(str(configs[-1])).stem


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning from its remarks on each of many runs."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
