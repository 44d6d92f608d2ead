"""Side-cars: what is large in a checkpoint, or differs from process to process, in one file for each process.

A checkpoint names its side-cars and their checksums. New ones get new names; then the checkpoint takes its place, then
the old ones are deleted: whenever the program is killed, the checkpoint that is there is whole.
"""

import os
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from seqrl_lightning.files import UNFINISHED, checksum, sync_folder, write_file
from seqrl_lightning.types import RunError, require

_KEY = "side_cars"  # in the checkpoint: {file name, relative to the checkpoint: checksum}, in the order of the ranks
_LARGE = ("ring", "sampler")  # what only the side-car holds of the datamodule's state
_SUFFIX = ".replay"


class SideCars(Callback):
    """Puts the replay memory, the agent and the random streams of each process into a file of its own.

    The checkpoint alone suffices to evaluate; a run that goes on needs the side-cars of all its processes.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has checkpoints written and read with their side-cars."""
        folder = trainer.strategy.broadcast(trainer.log_dir or trainer.default_root_dir)
        self._folder = Path(folder) / "checkpoints"
        trainer.strategy.checkpoint_io = SideCarIO(trainer.global_rank, trainer.world_size, goes_on=stage == "fit")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Deletes what a killed run left behind: unfinished files and side-cars that no checkpoint names."""
        if trainer.is_global_zero and self._folder.is_dir():
            folders = {getattr(callback, "dirpath", None) or self._folder for callback in trainer.checkpoint_callbacks}
            checkpoints = [path for folder in {self._folder, *map(Path, folders)} for path in folder.glob("*.ckpt")]
            if not any(what_is_wrong(path, with_side_cars=False) for path in checkpoints):
                named = {side_car.resolve() for path in checkpoints for side_car in _side_cars_of(path)}
                for path in (*self._folder.glob(f"*{UNFINISHED}"), *self._folder.glob(f"*{_SUFFIX}")):
                    if path.resolve() not in named:
                        path.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes this process's side-car.

        Raises:
            RunError: If it can't be written, in whatever process.
        """
        data = type(trainer.datamodule).__qualname__  # type: ignore[attr-defined]
        state = {"callbacks": checkpoint["callbacks"], data: checkpoint[data]}
        name = f"step={trainer.global_step}-rank{trainer.global_rank}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        try:
            write_file(self._folder / name, lambda file: torch.save(state, file))
            written = (str(self._folder / name), checksum(self._folder / name), "")
        except RunError as error:
            written = ("", "", str(error))
        of_all = [written]
        if trainer.world_size > 1:
            of_all = [written] * trainer.world_size
            torch.distributed.all_gather_object(of_all, written)
        for rank, (_, _, refusal) in enumerate(of_all):
            if refusal:
                raise RunError(refusal if trainer.world_size == 1 else f"rank {rank}: {refusal}")
        checkpoint[_KEY] = {path: digest for path, digest, _ in of_all}


class SideCarIO(TorchCheckpointIO):
    """Lightning's way to read and write checkpoint files, with the side-cars that they name.

    Args:
        rank: The process.
        world_size: How many processes there are.
        goes_on: Whether a checkpoint is loaded to go on from it, rather than to evaluate it.
    """

    def __init__(self, rank: int, world_size: int, goes_on: bool) -> None:
        self._rank = rank
        self._world_size = world_size
        self._goes_on = goes_on

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes the checkpoint; ``last.ckpt`` leaves the one before it as ``last.previous.ckpt``.

        Raises:
            RunError: If it can't be written; the one before is still there then.
        """
        path = Path(path)
        side_cars = {os.path.relpath(name, path.parent): digest for name, digest in checkpoint.get(_KEY, {}).items()}
        small = {key: _without_large(value) for key, value in checkpoint.items()}
        new = path.with_name(f"{path.name}.new{UNFINISHED}")
        write_file(new, lambda file: torch.save({**small, _KEY: side_cars}, file))
        needless: list[Path] = []
        if path.exists():
            keep = previous_of(path) if path.name == "last.ckpt" else path
            needless = _side_cars_of(keep)
            path.replace(keep)
        new.replace(path)
        sync_folder(path.parent)
        for side_car in needless:
            side_car.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = lambda storage, _: storage, weights_only: Any = None
    ) -> dict[str, Any]:
        """Reads the checkpoint and, to go on from it, this process's side-car.

        Raises:
            RunError: If one of them is missing or broken.
            ConfigurationError: If the checkpoint is of another number of processes.
        """
        if (reason := what_is_wrong(Path(path), with_side_cars=False)) is not None:
            raise RunError(f"{path} can't be used: {reason}")
        checkpoint = super().load_checkpoint(path, map_location, weights_only)
        side_cars = list(checkpoint.get(_KEY, {}).items())
        if self._goes_on and side_cars:
            would_do = f"the {len(side_cars)} that the checkpoint was saved by: each goes on with its own replay memory"
            require(
                self._world_size == len(side_cars), "number of processes (trainer.devices)", self._world_size, would_do
            )
            name, digest = side_cars[self._rank]
            if (reason := _wrong_side_car(Path(path).parent / name, digest)) is not None:
                raise RunError(f"{path} can't be gone on from: {reason}")
            checkpoint.update(torch.load(Path(path).parent / name, map_location, weights_only=True))
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes the checkpoint and its side-cars."""
        side_cars = _side_cars_of(Path(path)) if Path(path).is_file() else []
        super().remove_checkpoint(path)
        for side_car in side_cars:
            side_car.unlink(missing_ok=True)


def previous_of(path: Path) -> Path:
    """Where the checkpoint is kept that was at ``path`` before."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def what_is_wrong(path: Path, with_side_cars: bool = True) -> str | None:
    """Why a checkpoint can't be used; None if it can. Every byte is looked at."""
    if not path.is_file():
        return "it is missing"
    try:
        with zipfile.ZipFile(path) as archive:
            if (record := archive.testzip()) is not None:
                return f"it is damaged ({record} has another checksum)"
        checkpoint = torch.load(path, weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged file leads to
        return f"it is damaged ({' '.join(str(error).split()) or type(error).__name__})"
    side_cars = checkpoint.get(_KEY, {}).items() if with_side_cars else ()
    reasons = (_wrong_side_car(path.parent / name, digest) for name, digest in side_cars)
    return next((reason for reason in reasons if reason is not None), None)


def _wrong_side_car(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return f"its side-car {path} is missing"
    return None if checksum(path) == digest else f"its side-car {path} is damaged (it has another checksum)"


def _side_cars_of(path: Path) -> list[Path]:
    if what_is_wrong(path, with_side_cars=False) is not None:
        return []
    return [path.parent / name for name in torch.load(path, weights_only=True, mmap=True).get(_KEY, {})]


def _without_large(value: Any) -> Any:
    """The datamodule's state without what its side-car holds; anything else as it is."""
    is_datamodule = isinstance(value, dict) and any(key in value for key in _LARGE)
    return {key: item for key, item in value.items() if key not in _LARGE} if is_datamodule else value
