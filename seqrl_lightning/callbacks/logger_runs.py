"""The runs that loggers keep elsewhere, by their ids: a resumed run continues the same ones."""

import json
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from pydoc import locate
from typing import NamedTuple

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from seqrl_lightning.errors import needs_extra
from seqrl_lightning.files import write_bytes
from seqrl_lightning.reading import read_json

_FILE = "loggers.json"  # in the run's folder
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class _Kind(NamedTuple):
    logger: type[Logger]  # whose runs have ids
    id_setting: str
    package: str  # that the extra of the same name installs


_KINDS = (_Kind(MLFlowLogger, "run_id", "mlflow"), _Kind(WandbLogger, "id", "wandb"))


def note_runs(loggers: Iterable[Logger], folder: Path) -> None:
    """Write the ids of the loggers' runs into a run's folder."""
    ids = [str(logger.version) for logger in loggers if _kind_of(type(logger)) is not None]
    if ids:
        write_bytes(folder / _FILE, json.dumps(ids).encode())


def noted_runs(folder: Path) -> list[str]:
    """Return the ids that :func:`note_runs` wrote; none if it wrote none."""
    path = folder / _FILE
    ids = read_json(path) if path.exists() else None
    if not isinstance(ids, list) or not all(isinstance(one, str) and _ID.fullmatch(one) for one in ids):
        return []
    return ids


def prepare_loggers(named: object, ids: Iterable[str] = ()) -> object:
    """Return the setting ``trainer.logger`` with the ids of runs that are resumed.

    Args:
        named: The setting: a flag, a logger, or its settings, or a list of such.
        ids: The runs' ids, in the order of the loggers; a logger whose settings name a run keeps that one.

    Raises:
        ConfigurationError: If a logger's package isn't installed.
    """
    waiting = iter(ids)
    return [_prepared(one, waiting) for one in named] if isinstance(named, list) else _prepared(named, waiting)


def _prepared(named: object, ids: Iterator[str]) -> object:
    if not isinstance(named, Namespace) or (kind := _kind_of(locate(named.class_path))) is None:
        return named
    with needs_extra(kind.package):
        import_module(kind.package)
    prepared: Namespace = named.clone()
    prepared.init_args[kind.id_setting] = prepared.init_args.get(kind.id_setting) or next(ids, None)
    return prepared


def _kind_of(cls: object) -> _Kind | None:
    return next((kind for kind in _KINDS if isinstance(cls, type) and issubclass(cls, kind.logger)), None)
