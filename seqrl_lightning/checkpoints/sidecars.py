"""Sidecars: a file for each process, with the parts of a checkpoint that are large or differ between processes.

A checkpoint names its sidecars, which lie beside it, and their checksums. New ones get new names; then the checkpoint
takes its place, then the old ones are deleted: whenever the program is killed, a whole checkpoint remains.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from seqrl_lightning.checkpoints.archive import MAX_GIB, read_archive, write_archive
from seqrl_lightning.checkpoints.format import NOT_IN_SIDECARS, read_checkpoint, seal
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.files import UNFINISHED, checksum, sync_folder, writing
from seqrl_lightning.saved_state import StateError, require_saved, saved
from seqrl_lightning.types import RunError, require

SUFFIX = ".replay"
"""The suffix of sidecars' names."""

_KEY = "sidecars"  # in the checkpoint: {file name: checksum}, in the order of the ranks
_NAME = re.compile(rf"[\w=.-]+\{SUFFIX}")
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # of ModelCheckpoint's state
_SCORES = ("best_model_score", "current_score", "kth_value")
_LARGE = ("ring", "sampler")  # the part of the datamodule's state that only the sidecar holds


def write_sidecar(folder: Path, step: int, rank: int, state: Mapping[str, Any]) -> tuple[Path, str]:
    """Write a process's sidecar under a new name.

    Returns:
        The file and its checksum, which :meth:`SidecarIO.save_checkpoint` finds under ``sidecars`` in the checkpoint.

    Raises:
        RunError: If it can't be written.
    """
    path = folder / f"step={step}-rank{rank}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    write_archive(path, dict(state))
    return path, checksum(path)


class SidecarIO(TorchCheckpointIO):
    """Lightning's plugin to read and write checkpoint files, here with the sidecars that they name.

    Args:
        rank: The process.
        world_size: The number of processes.
        resumes: Whether a checkpoint is loaded to resume its run, rather than to evaluate it.
        folder: The run's folder of checkpoints, from which ``ModelCheckpoint`` deletes superseded best ones.
        max_gib: Larger files are refused when they are read.
    """

    def __init__(self, rank: int, world_size: int, resumes: bool, folder: Path, max_gib: float = MAX_GIB) -> None:
        self._rank = rank
        self._world_size = world_size
        self._resumes = resumes
        self._max_gib = max_gib
        self._saved_in = {folder.resolve()}  # where checkpoints may be deleted

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write the checkpoint and put its sidecars beside it; ``last.ckpt`` leaves its predecessor.

        Raises:
            RunError: If it can't be written; the one before it is still there then.
        """
        path = Path(path)
        self._saved_in.add(path.parent.resolve())
        sidecars = {_moved_beside(path, Path(name)): found for name, found in checkpoint.get(_KEY, {}).items()}
        small = {key: _without_large(value) for key, value in checkpoint.items()}
        new = path.with_name(f"{path.name}.new{UNFINISHED}")
        needless: list[Path] = []
        with writing(path):
            write_archive(new, seal({**small, _KEY: sidecars}))
            if path.exists():
                keep = predecessor_of(path) if path.name == "last.ckpt" else path
                needless = sidecars_of(keep, self._max_gib)
                path.replace(keep)
            new.replace(path)
            sync_folder(path.parent)
            for sidecar in needless:
                sidecar.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the checkpoint and, to resume its run, this process's sidecar.

        Raises:
            RunError: If one of them is missing or damaged.
            ConfigurationError: If the checkpoint is of another number of processes.
        """
        path = Path(path)
        try:
            checkpoint = read_checkpoint(path, max_gib=self._max_gib, mmap=False, to_resume=self._resumes)
            if self._resumes:
                checkpoint.update(self._read_sidecar(path, checkpoint))
        except UnusableFileError as error:
            raise RunError(f"{path} can't be used: {error}") from error
        return checkpoint

    def _read_sidecar(self, path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        sidecars = named_sidecars(checkpoint)
        if not sidecars:
            return {}
        wanted = f"the {len(sidecars)} that the checkpoint was saved by: each resumes with its own replay memory"
        require(self._world_size == len(sidecars), "number of processes (trainer.devices)", self._world_size, wanted)
        name, found = list(sidecars.items())[self._rank]
        if (fault := _find_fault_in_sidecar(path.parent / name, found)) is not None:
            raise UnusableFileError(fault)
        try:
            state = saved(read_archive(path.parent / name, self._max_gib, mmap=False), dict, f"{name}'s content")
            for key, value in state.items():  # nothing that was checked in the checkpoint is replaced
                must_be = "callbacks, or the datamodule"
                require_saved(key not in NOT_IN_SIDECARS, f"a part of {name}", key, must_be)
                saved(value, dict, key)
        except StateError as error:
            raise UnusableFileError(str(error)) from error
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint and its sidecars, in a folder in which this process has saved one; nothing else."""
        path = Path(path)
        if (
            path.parent.resolve() not in self._saved_in
            or path.suffix != ".ckpt"
            or not path.is_file()
            or path.is_symlink()
        ):
            return
        sidecars = sidecars_of(path, self._max_gib)
        path.unlink()
        for sidecar in sidecars:
            sidecar.unlink(missing_ok=True)


def best_in_folder(state: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Return a ``ModelCheckpoint``'s saved state in which every file is one of ``folder``'s.

    ``ModelCheckpoint`` deletes the files in its state by their whole paths, which could be any files. A run also finds
    its own files in this way if its folder was moved, or is given by another name.

    Args:
        state: The saved state.
        folder: The ``ModelCheckpoint``'s folder, named as it names it itself.

    Raises:
        StateError: If it isn't such a state.
    """

    def here(name: str) -> str:
        path = Path(folder) / Path(name).name
        is_own = bool(name) and path.suffix == ".ckpt" and path.is_file() and not path.is_symlink()
        return os.path.join(folder, path.name) if is_own else ""

    scores = {**saved(state.get("best_k_models", {}), dict, "ModelCheckpoint's best_k_models")}
    named = {**scores, **{name: state[name] for name in _SCORES if state.get(name) is not None}}
    for name, score in named.items():  # compared with the next one
        require_saved(
            isinstance(score, Tensor) and score.numel() == 1, f"the score {name!r}", score, "a tensor of one number"
        )
    own = {here(saved(name, str, "a name in best_k_models")): score for name, score in scores.items()}
    paths = {key: here(saved(state.get(key, ""), str, f"ModelCheckpoint's {key}")) for key in _PATHS}
    return {**state, **paths, "best_k_models": {name: own[name] for name in own if name}, "dirpath": folder}


def predecessor_of(path: Path) -> Path:
    """Return the path at which the previous checkpoint of ``path`` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def named_sidecars(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the sidecars that a checkpoint names, with their checksums, in the order of the ranks.

    Raises:
        UnusableFileError: If one of them isn't a plain file name: a checkpoint's sidecars lie beside it. Also if
            one is expected, but none is named.
    """
    sidecars = checkpoint.get(_KEY, {})
    if _KEY in checkpoint and not sidecars:
        raise UnusableFileError("it names no sidecar, which would hold the replay memory, so that no run can continue")
    for name in sidecars if isinstance(sidecars, dict) else [sidecars]:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise UnusableFileError(f"it names the sidecar {name!r}, which is not the name of one beside it")
    return dict(sidecars)


def sidecars_of(path: Path, max_gib: float = MAX_GIB) -> list[Path]:
    """Return the existing sidecars that a checkpoint names; none if it can't be used."""
    try:
        names = named_sidecars(read_checkpoint(path, max_gib=max_gib))
    except UnusableFileError:
        return []
    return [path.parent / name for name in names]


def find_fault_in_run(path: Path, max_gib: float = MAX_GIB) -> str | None:
    """Return why a run can't be resumed from a checkpoint and its sidecars; None if it can. Every byte is read."""
    try:
        names = named_sidecars(read_checkpoint(path, max_gib=max_gib, to_resume=True))
    except UnusableFileError as error:
        return str(error)
    faults = (_find_fault_in_sidecar(path.parent / name, found) for name, found in names.items())
    return next((fault for fault in faults if fault is not None), None)


def _find_fault_in_sidecar(path: Path, found: str) -> str | None:
    if path.is_symlink():
        return f"its sidecar {path} is a symbolic link, not a file"
    if not path.is_file():
        return f"its sidecar {path} is missing"
    return None if checksum(path) == found else f"its sidecar {path} is damaged (it has another checksum)"


def _moved_beside(checkpoint: Path, sidecar: Path) -> str:
    """Move a sidecar beside its checkpoint, which needn't be in the run's own folder. Returns its name."""
    if sidecar.parent.resolve() != checkpoint.parent.resolve():
        with writing(checkpoint):
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(sidecar, checkpoint.parent / sidecar.name)
    return sidecar.name


def _without_large(value: object) -> object:
    """Return the datamodule's state without its sidecar's part; any other state unchanged."""
    if not (isinstance(value, dict) and any(key in value for key in _LARGE)):
        return value
    return {key: item for key, item in value.items() if key not in _LARGE}
