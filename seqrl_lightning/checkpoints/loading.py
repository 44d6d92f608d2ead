"""Lightning's ``load_from_checkpoint`` for files that may come from a stranger."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.rebuild import rebuild
from seqrl_lightning.trust import Allowed, Trust, settings_of, task_kwargs, task_mode
from seqrl_lightning.types import ConfigurationError

T = TypeVar("T")


def load_from_checkpoint(
    cls: type[T], path: str | Path, settings_key: str, allow: Allowed, more: Mapping[str, Any]
) -> tuple[T, dict[str, Any]]:
    """Build an object from the settings in a checkpoint.

    Args:
        cls: Its class.
        path: The checkpoint.
        settings_key: Where the checkpoint holds the settings.
        allow: Modules that the checkpoint may name, besides the package's own classes.
        more: Settings that replace those in the checkpoint.

    Returns:
        The object and the checkpoint's contents.

    Raises:
        ConfigurationError: If the file can't be used, or names an object that files may not name.
    """
    trust = Trust(allow)
    try:
        contents = read_checkpoint(Path(path), trust, mmap=False, used=settings_key, replaced=more)
    except UnusableFileError as error:
        raise ConfigurationError(f"{path} can't be used: {error}") from error
    theirs = settings_of(contents.get(settings_key, {}))
    # Settings that start processes: the checkpoint's values are ignored, the caller may give others.
    callers_own = {"compile": False, "vectorization_mode": task_mode(theirs)}
    more = {**{name: value for name, value in callers_own.items() if name in theirs}, **more}
    settings = {**theirs, **({"env_kwargs": task_kwargs(theirs)} if "env_kwargs" in theirs else {}), **more}
    names_task = settings.get("env_id") is not None and "env_id" not in more  # with a log, there may be no task
    with trust.task(settings["env_id"], str(path)) if names_task else nullcontext():
        return rebuild(cls, settings, trust, str(path)), contents
