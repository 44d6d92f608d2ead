"""The format of a checkpoint: its version, its checksum, and the parts that every command relies on."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrl_lightning.checkpoints.archive import MAX_GIB, UnusableFileError, read_archive
from seqrl_lightning.trust import Trust

FORMAT = 1
"""The version that is written. It rises when what a checkpoint holds changes; ``tests/formats`` keeps one of each."""

_KEY = "seqrl_lightning"  # in the checkpoint: {"format": FORMAT, "sha256": the rest's checksum}
_SETTINGS = ("hyper_parameters", "datamodule_hyper_parameters")


def seal(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's contents with the format's version and a checksum over all of it."""
    rest = {key: value for key, value in contents.items() if key != _KEY}
    return {**rest, _KEY: note_on(rest)}


def note_on(contents: Any) -> dict[str, Any]:
    """Return what a file notes about its contents: the format's version and their checksum."""
    return {"format": FORMAT, "sha256": digest(contents)}


def read_checkpoint(
    path: Path, trust: Trust | None = None, max_gib: float = MAX_GIB, mmap: bool = True
) -> dict[str, Any]:
    """Read a checkpoint, whoever wrote it.

    Args:
        path: The file.
        trust: If given, classes that the checkpoint's settings name and files may not name are refused.
        max_gib: Larger files are refused.
        mmap: See :func:`read_archive`.

    Returns:
        The contents: tensors, numbers, texts and collections of them, as they were written.

    Raises:
        UnusableFileError: If it is missing, damaged, changed, too large, or of another format.
        ConfigurationError: If its settings name what files may not name.
    """
    contents = read_archive(path, max_gib, mmap)
    note = require_format(contents.get(_KEY) if isinstance(contents, dict) else None)
    if trust is not None:  # before the checksum: the name is what tells the most
        for key in _SETTINGS:
            trust.require_names(contents.get(key, {}), str(path))
    rest = {key: value for key, value in contents.items() if key != _KEY}
    require_unchanged(note, rest)
    return rest


def fault_in(path: Path, max_gib: float = MAX_GIB) -> str | None:
    """Return why a checkpoint can't be used, apart from its sidecars; None if it can. Every byte is read."""
    try:
        read_checkpoint(path, max_gib=max_gib)
    except UnusableFileError as error:
        return str(error)
    return None


def require_format(note: object) -> dict[str, Any]:
    """Return what a file notes about its contents, if this version reads the format.

    Raises:
        UnusableFileError: If it is of another version, or has none.
    """
    found = note.get("format") if isinstance(note, dict) else None
    if not isinstance(note, dict) or found is None:
        raise UnusableFileError(
            "it has no format version: it isn't seqrl-lightning's, or is from before 0.2, and only the version that "
            "wrote it can read it"
        )
    if found != FORMAT:
        advice = "install the version that wrote it" if isinstance(found, int) and found < FORMAT else "upgrade"
        raise UnusableFileError(f"its format is {found!r} and this version reads {FORMAT}: {advice}")
    return note


def require_unchanged(note: Mapping[str, Any], contents: Any) -> None:
    """Refuse contents that aren't those that were noted.

    Raises:
        UnusableFileError: If they aren't.
    """
    if note.get("sha256") != digest(contents):
        raise UnusableFileError("it was changed after it was written (its contents have another checksum)")


def digest(contents: Any) -> str:
    """Return the SHA-256, in hexadecimal digits, of tensors, numbers, texts and collections of them.

    It depends on nothing but the values, dtypes and shapes, and the order of what has one.
    """
    found = hashlib.sha256()
    _add(found, contents)
    return found.hexdigest()


def _add(found: "hashlib._Hash", value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        if value.numel():
            flat = value.detach().cpu().flatten().clone(memory_format=torch.contiguous_format)
            found.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        found.update(f"mapping {len(value)};".encode())
        for key, item in value.items():
            _add(found, key)
            _add(found, item)
    elif isinstance(value, list | tuple):
        found.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for item in value:
            _add(found, item)
    else:
        text = f"{type(value).__name__} {value!r}".encode()
        found.update(f"{len(text)};".encode() + text)
