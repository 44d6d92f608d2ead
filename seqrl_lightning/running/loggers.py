"""The loggers of a run: first TensorBoard's, then the others in the config, which resume their own runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from seqrl_lightning.callbacks.logger_runs import noted_runs
from seqrl_lightning.reading import read_config


def with_tensorboard(named: object, make_own: Callable[[], TensorBoardLogger]) -> list[Logger] | bool:
    """Put a TensorBoard logger first, whose folder is the run's.

    Args:
        named: The setting ``trainer.logger``: False for no logger, else a flag, a logger, or a list of them.
        make_own: Makes a TensorBoard logger where the user names none.
    """
    if named is False:
        return False
    loggers = named if isinstance(named, list) else [named] if isinstance(named, Logger) else []
    boards: list[Logger] = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    others = [logger for logger in loggers if not isinstance(logger, TensorBoardLogger)]
    return [*(boards or [make_own()]), *others]


def runs_of_loggers(run: Path, now: Mapping[str, Any]) -> list[str]:
    """Return the ids of the runs that a run's loggers keep elsewhere, if it has the same loggers now.

    Args:
        run: The run's folder.
        now: The present config, as plain values.
    """
    if not (ids := noted_runs(run)):
        return []
    trainer = read_config(run / "config.yaml").get("trainer")
    before = trainer.get("logger") if isinstance(trainer, dict) else None
    return ids if now["trainer"]["logger"] == before else []
