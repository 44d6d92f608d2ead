"""Keep each process's replay memory, agent and random streams in a separate file."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.checkpoints.format import find_fault, read_checkpoint
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.checkpoints.sidecars import SUFFIX, SidecarIO, best_in_folder, sidecars_of, write_sidecar
from seqrl_lightning.files import delete_unfinished
from seqrl_lightning.saved_state import StateError, require_saved, saved
from seqrl_lightning.trainer_access import attributes_of, run_folder
from seqrl_lightning.types import RunError


class Sidecars(Callback):
    """Write each process's replay memory, agent and random streams into a sidecar of the checkpoint.

    The checkpoint alone suffices to evaluate; a run that is resumed needs the sidecars of all its processes.

    Args:
        max_gib: Larger files are refused when they are read.
    """

    def __init__(self, max_gib: float = MAX_GIB) -> None:
        self._max_gib = max_gib
        self._folder = Path()  # of the run's checkpoints
        self._resumed_updates: int | None = None  # of the checkpoint that the run is resumed from

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the Trainer read and write checkpoints with their sidecars."""
        self._folder = run_folder(trainer) / "checkpoints"
        trainer.strategy.checkpoint_io = SidecarIO(
            trainer.global_rank, trainer.world_size, stage == "fit", self._folder, self._max_gib
        )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the progress of the resumed run; let each ``ModelCheckpoint`` continue from the best ones in its folder.

        Raises:
            RunError: If the checkpoint's record of them is invalid.
        """
        self._resumed_updates = checkpoint["global_step"]
        path = Path(str(trainer.ckpt_path))
        try:
            states = saved(checkpoint["callbacks"], dict, "the callbacks' state")
            for key, state in states.items():  # Lightning saves none that is empty
                require_saved(bool(saved(state, dict, f"{key}'s state")), f"{key}'s state", state, "of some keys")
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                    state = states[callback.state_key] = _best_of(callback, states[callback.state_key], path)
                    callback.current_score = state.get("current_score")  # Lightning saves it only
        except StateError as error:
            raise RunError(f"{path} can't be used: {error}") from error

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete a killed run's leftovers: unfinished files, and checkpoints and sidecars that no file refers to."""
        if trainer.is_global_zero:
            savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)]
            if self._resumed_updates is not None:
                for saver in savers:
                    self._delete_later_ones(trainer, saver, self._resumed_updates)
            for folder in {self._folder, *(Path(saver.dirpath or self._folder) for saver in savers)}:
                delete_unfinished(folder)
                _delete_unnamed_sidecars(folder, self._max_gib)
            delete_unfinished(self._folder.parent)

    def _delete_later_ones(self, trainer: Trainer, callback: ModelCheckpoint, updates: int) -> None:
        """Delete the checkpoints that ``callback`` saved after the one that the run is resumed from.

        It has no record of them, and would save them again under other names.
        """
        template = callback.filename or "{epoch}-{step}"
        name = re.compile(".*".join(map(re.escape, re.split(r"\{.*?\}", template))) + r"(-v\d+)?\.ckpt")
        known = {Path(path).name for path in (*callback.best_k_models, callback.best_model_path)}
        for path in Path(callback.dirpath or self._folder).glob("*.ckpt"):
            if path.name in known or not name.fullmatch(path.name):
                continue
            with suppress(UnusableFileError):  # it may belong to another program
                if read_checkpoint(path, max_gib=self._max_gib)["global_step"] > updates:
                    trainer.strategy.remove_checkpoint(path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write this process's sidecar.

        Raises:
            RunError: If any process can't write its sidecar.
        """
        data = type(attributes_of(trainer).datamodule).__qualname__
        state = {"callbacks": checkpoint["callbacks"], data: checkpoint[data]}
        try:
            path, found = write_sidecar(self._folder, trainer.global_step, trainer.global_rank, state)
            written = (str(path), found, "")
        except RunError as error:
            written = ("", "", str(error))
        by_rank = [written]
        if trainer.world_size > 1:
            by_rank = [written] * trainer.world_size
            torch.distributed.all_gather_object(by_rank, written)
        for rank, (_, _, refusal) in enumerate(by_rank):
            if refusal:
                raise RunError(refusal if trainer.world_size == 1 else f"rank {rank}: {refusal}")
        checkpoint["sidecars"] = {name: found for name, found, _ in by_rank}


def _best_of(callback: ModelCheckpoint, state: object, loaded: Path) -> dict[str, Any]:
    """Return the state from which a ``ModelCheckpoint`` continues; in a new folder, it starts from scratch.

    Lightning compares the folders' names, which differ where one is relative or the run was moved.

    Args:
        callback: The ``ModelCheckpoint``, which already knows its folder.
        state: Its saved state.
        loaded: The checkpoint that holds the state.
    """
    state, fresh = saved(state, dict, "ModelCheckpoint's state"), callback.state_dict()
    require_saved(
        state.keys() == fresh.keys(), "a key of ModelCheckpoint's state", sorted(state), f"of {sorted(fresh)}"
    )
    folder = os.fspath(callback.dirpath or "")
    before = {loaded.parent.resolve(), Path(str(state.get("dirpath"))).resolve()}
    if Path(folder).resolve() not in before:
        return fresh
    found = best_in_folder(state, folder)
    scores: dict[str, Tensor] = found["best_k_models"]
    if scores:  # the worst of them is the next to be deleted
        worst = (max if callback.mode == "min" else min)(scores, key=lambda name: float(scores[name]))
        found |= {"kth_best_model_path": worst, "kth_value": scores[worst]}
    return found


def _delete_unnamed_sidecars(folder: Path, max_gib: float) -> None:
    checkpoints = list(folder.glob("*.ckpt"))
    if any(find_fault(path, max_gib) for path in checkpoints):
        return  # it is unknown which files belong to them
    named = {sidecar for path in checkpoints for sidecar in sidecars_of(path, max_gib)}
    for path in folder.glob(f"*{SUFFIX}"):
        if path not in named:
            path.unlink()
