"""The end of a run that fails: one line that names the cause."""

import time
import traceback
from pathlib import Path
from subprocess import Popen

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from seqrl_lightning.errors import refusal_in
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import RunError, one_line


def cause_of(error: Exception, trainer: Trainer, checkpoint: str | None, resumed_updates: int | None) -> str | None:
    """Return the cause of a run's error, in one line.

    Args:
        error: The error.
        trainer: It has run.
        checkpoint: The checkpoint that the run started from; None for none.
        resumed_updates: Updates of the network that the run had made before; None for a new run.

    Returns:
        The line; None if the error itself names the cause, or the cause isn't known.
    """
    if isinstance(error, RunError | MisconfigurationException) or refusal_in(error) is not None:
        return None
    reason = one_line(error)
    if isinstance(error, OSError) and error.filename is None and _is_of_tensorboard(error):
        return f"{_event_file(trainer)} can't be written: {error.strerror or reason}"
    if isinstance(error, RuntimeError) and "onnection" in reason and trainer.world_size > 1:
        return f"rank {trainer.global_rank}: {lost_process(trainer)} was lost, so the run ends ({reason})"
    if isinstance(error, StateError):
        return f"{checkpoint} can't be used: {reason}; give another checkpoint, or start a new run without one"
    if resumed_updates is not None and trainer.global_step <= resumed_updates:
        what = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        return f"the run can't continue from {checkpoint} (SEQRL_TRACEBACK=1 shows where): {what}"
    return None


def _is_of_tensorboard(error: OSError) -> bool:
    """Return whether TensorBoard's writer failed; it fails in its own thread, and the next write raises its error."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).startswith("tensorboard.") for frame in frames)


def _event_file(trainer: Trainer) -> Path:
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    return max(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime, default=folder)


def exit_refused(error: SystemExit) -> BaseException:
    """Return the error for ``sys.exit(0)`` in a class of the run: it must not look like success."""
    if isinstance(error, EndedBySignal) or error.code not in (None, 0):
        return error
    return RunError("a class of the run (its task, a wrapper, a network) called sys.exit(), which ends nothing")


def end_connections() -> None:
    """Close connections to other processes before Python ends: gloo's threads abort it if they hold tensors later."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def lost_process(trainer: Trainer) -> str:
    """Return which process of the run has ended, as far as this one can tell."""
    started = _started_by(trainer)
    for _ in range(20):  # its connection breaks before the system reports its end
        for rank, process in enumerate(started, start=1):
            if process.poll():
                return f"rank {rank} (process {process.pid}, status {process.returncode})"
        time.sleep(0.1)
    return "another process" if started or trainer.global_rank == 0 else "rank 0, or another process,"


def _started_by(trainer: Trainer) -> list[Popen[bytes]]:
    launcher = trainer.strategy.launcher  # the other launchers start none, or wait for them themselves
    return launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
