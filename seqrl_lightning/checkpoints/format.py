"""The format of a checkpoint: its version, its checksum, and the parts that every command relies on."""

import hashlib
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrl_lightning.checkpoints.archive import MAX_GIB, read_archive
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.saved_state import StateError, require_saved, saved, saved_count, saved_settings
from seqrl_lightning.trust import Trust
from seqrl_lightning.types import shortened

FORMAT = 2
"""The version that is written. It rises when the contents of checkpoints change; ``tests/formats`` has one of each."""

_WITH_SAME_POLICY = (1,)  # earlier versions, whose policies are read, but whose runs can't be resumed

DATAMODULES = ("ReplayDataModule", "LoggedTrials")
"""The classes under whose name a checkpoint holds its datamodule's state."""

_PARTS: dict[str, type] = {
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "global_step": int,
    "epoch": int,
    "hyper_parameters": dict,
    "datamodule_hyper_parameters": dict,
    "policy": dict,
    "callbacks": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "sampler": dict,
    "sidecars": dict,
    "stopped_by_callback": bool,
    **dict.fromkeys(DATAMODULES, dict),
}
NOT_IN_SIDECARS = tuple(name for name in _PARTS if name not in ("callbacks", *DATAMODULES))
"""The parts that a sidecar can't replace. It holds those of the callbacks and the datamodule, of whatever class."""

_NEEDED = ("pytorch-lightning_version", "state_dict", "global_step", "epoch")
_NEEDED_TO_RESUME = ("hyper_parameters", "callbacks", "loops", "optimizer_states", "lr_schedulers")

_SETTINGS = ("hyper_parameters", "datamodule_hyper_parameters", "policy", "sampler")
_VERSION = re.compile(r"[2-9]\d{0,3}(\.\d{1,9}){1,3}((a|b|rc|\.dev|\.post)\d{1,9})*(\+[a-z0-9.]{1,40})?")  # Lightning's

_KEY = "seqrl_lightning"  # in the checkpoint: {"format": FORMAT, "sha256": the rest's checksum}


def seal(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's contents with the format's version and a checksum over all of it."""
    rest = {key: value for key, value in contents.items() if key != _KEY}
    return {**rest, _KEY: format_note(rest)}


def format_note(contents: object) -> dict[str, Any]:
    """Return what a file notes about its contents: the format's version and their checksum."""
    return {"format": FORMAT, "sha256": digest(contents)}


def read_checkpoint(
    path: Path,
    trust: Trust | None = None,
    max_gib: float = MAX_GIB,
    mmap: bool = True,
    to_resume: bool = False,
    used: str = "hyper_parameters",
    replaced: Container[str] = (),
) -> dict[str, Any]:
    """Read a checkpoint, which a stranger may have written.

    Args:
        path: The file.
        trust: If given, classes that the settings under ``used`` name and files may not name are refused.
        max_gib: Larger files are refused.
        mmap: See :func:`read_archive`.
        to_resume: Whether a run is to be resumed from it, for which its format must be the current one.
        used: The key of the settings from which an object is built: the learner's, or the datamodule's.
        replaced: Settings that the caller gives, so that the names in the checkpoint's don't matter.

    Returns:
        The contents: tensors, numbers, texts and collections of them, as they were written.

    Raises:
        UnusableFileError: If it is missing, damaged, changed, too large, or of another format, or a part of it isn't
            as a run writes it.
        ConfigurationError: If its settings name an object that files may not name.
    """
    contents = read_archive(path, max_gib, mmap)
    note = require_format(contents.get(_KEY) if isinstance(contents, dict) else None, to_resume)
    if trust is not None:  # before the checksum, because the name is more telling
        settings = contents.get(used, {})
        if isinstance(settings, Mapping):
            settings = {name: value for name, value in settings.items() if name not in replaced}
        trust.require_names(settings, str(path))
    rest = {key: value for key, value in contents.items() if key != _KEY}
    require_unchanged(note, rest)
    try:
        _require_parts(rest, to_resume)
    except StateError as error:
        raise UnusableFileError(str(error)) from error
    return rest


def _require_parts(contents: Mapping[str, Any], to_resume: bool) -> None:
    """Refuse a checkpoint in which a required part is missing or of another type.

    Raises:
        StateError: If there is one.
    """
    needed = (*_NEEDED, *(_NEEDED_TO_RESUME if to_resume else ()))
    parts: dict[str, Any] = {
        name: saved(contents.get(name), _PARTS[name], name) for name in _PARTS if name in (*contents, *needed)
    }
    version = parts["pytorch-lightning_version"]
    require_saved(_VERSION.fullmatch(version) is not None, "pytorch-lightning_version", version, "2.0.0 or later")
    for name in ("global_step", "epoch"):
        saved_count(parts[name], name)
    for name in _SETTINGS:
        saved_settings(parts.get(name, {}), name)
    for name, weight in parts["state_dict"].items():
        require_saved(isinstance(weight, Tensor), f"state_dict[{name!r}]", weight, "a tensor")
    for name, count in _counts(parts.get("loops", {})):
        saved_count(count, name)
    for name in DATAMODULES:
        if name in parts:
            progress = saved(parts[name].get("progress"), dict, f"the progress of {name}")
            saved_count(progress.get("env_steps"), "the progress.env_steps")


def _counts(loops: Mapping[str, Any], where: str = "loops") -> Iterator[tuple[str, object]]:
    """Yield each number that Lightning's loops count, with its name: they check none, and add to it in mid-run."""
    for name, value in loops.items():
        inner = f"{where}.{name}"
        if name in ("total", "current"):
            yield from ((f"{inner}.{kind}", count) for kind, count in saved(value, dict, inner).items())
        elif isinstance(value, Mapping):
            yield from _counts(value, inner)


def find_fault(path: Path, max_gib: float = MAX_GIB, to_resume: bool = False) -> str | None:
    """Return why a checkpoint can't be used, apart from its sidecars; None if it can. Every byte is read."""
    try:
        read_checkpoint(path, max_gib=max_gib, to_resume=to_resume)
    except UnusableFileError as error:
        return str(error)
    return None


def require_format(note: object, to_resume: bool = False) -> dict[str, Any]:
    """Return what a file notes about its contents, if this version reads the format.

    Args:
        note: What the file notes.
        to_resume: Whether its run is to be resumed.

    Raises:
        UnusableFileError: If it is of another version, or has none.
    """
    found = note.get("format") if isinstance(note, dict) else None
    if not isinstance(note, dict) or found is None:
        raise UnusableFileError(
            "it has no format version: it isn't seqrl-lightning's, or is from before 0.2, and only the version that "
            "wrote it can read it"
        )
    if type(found) is not int or found < 1:  # True and 1.0 are equal to 1
        raise UnusableFileError(f"its format is {shortened(repr(found), 100)}, which no version writes: it was changed")
    if found in _WITH_SAME_POLICY:
        if to_resume:
            raise UnusableFileError(
                f"its format is {found} and this version resumes runs of format {FORMAT}: resume it with the version "
                "that wrote it; its policy can be used (load_policy, seqrl test, seqrl export)"
            )
    elif found != FORMAT:
        advice = "install the version that wrote it" if found < FORMAT else "upgrade"
        raise UnusableFileError(f"its format is {found} and this version reads {FORMAT}: {advice}")
    return note


def require_unchanged(note: Mapping[str, Any], contents: object) -> None:
    """Refuse contents that don't match the noted checksum.

    Raises:
        UnusableFileError: If they don't.
    """
    if note.get("sha256") != digest(contents):
        raise UnusableFileError("it was changed after it was written (its contents have another checksum)")


def digest(contents: object) -> str:
    """Return the SHA-256, in hexadecimal digits, of tensors, numbers, texts and collections of them.

    It depends only on values, dtypes, shapes, and the order of ordered collections.
    """
    found = hashlib.sha256()
    _add(found, contents)
    return found.hexdigest()


def _add(found: "hashlib._Hash", value: object) -> None:
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
