"""Save ``last.ckpt``, from which a run is resumed, also on Ctrl-C and when the machine is about to be preempted."""

import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_info

from seqrl_lightning.saved_state import saved
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.trainer_access import attributes_of, run_folder

SECONDS_FOR_EVALUATION = 10.0
"""Seconds that an evaluation may take after a signal."""


class LastCheckpoint(Checkpoint):
    """Save ``checkpoints/last.ckpt`` in the run's folder at the end of every epoch, the last one included.

    The first Ctrl-C (SIGINT) lets the batch finish, saves, and ends the run; a second one ends it at once. SIGTERM,
    which announces that a machine is being preempted, does the same and ends with exit status 143; a second one has no
    effect. With several processes it suffices that one of them gets the signal. (Lightning's
    ``ModelCheckpoint(save_last=True)`` saves only when one of its best checkpoints is saved too.)

    An evaluation may take another ``SECONDS_FOR_EVALUATION`` after a signal; then the run ends without saving, and is
    resumed from the epoch before.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._evaluation_limit: threading.Timer | None = None  # of an evaluation after a signal
        self._is_evaluating = False
        self._is_too_late = False  # for the evaluation to end
        self._previous_handlers: dict[int, Any] = {}
        self._is_between_epochs = False  # whether the checkpoint that is being saved is one of an epoch's end
        self._resumes_between_epochs = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether the checkpoint was saved at the end of an epoch, with no work left in it."""
        return {"is_between_epochs": self._is_between_epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._resumes_between_epochs = saved(
            state_dict.get("is_between_epochs"), bool, "LastCheckpoint's is_between_epochs"
        )

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the epoch as completed in the checkpoint at its end, because Lightning counts it only after saving."""
        if self._is_between_epochs:
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            for counts in (progress["total"], progress["current"]):
                counts["completed"] = counts["processed"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the path, which is the same in every process."""
        self.path = run_folder(trainer) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle the signals, where Python allows it: in the main thread. Begin the next epoch of a resumed run."""
        if threading.current_thread() is threading.main_thread():
            for which in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[which] = signal.signal(which, self._on_signal)
        if self._resumes_between_epochs:
            # Lightning would end the epoch once more, without its batches and its evaluation.
            trainer.fit_loop.epoch_loop.restarting = False
            trainer.fit_loop._restarting = False  # its setter refuses to where max_steps ends the run
            self._resumes_between_epochs = False
        if trainer.fit_loop.restarted_mid_epoch:
            _start_epoch_again(trainer, pl_module)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._is_too_late:
            raise EndedBySignal(128 + signum)
        self._received = signum
        if signum == signal.SIGINT:
            self._stop_listening(signal.SIGINT)
        if self._is_evaluating:
            self._limit_evaluation()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Limit the time of an evaluation that comes after a signal."""
        self._is_evaluating = True
        if self._received is not None:
            self._limit_evaluation()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the limit."""
        self._is_evaluating = False
        if self._evaluation_limit is not None:
            self._evaluation_limit.cancel()

    def _limit_evaluation(self) -> None:
        self._evaluation_limit = threading.Timer(SECONDS_FOR_EVALUATION, self._break_evaluation_off)
        self._evaluation_limit.daemon = True
        self._evaluation_limit.start()

    def _break_evaluation_off(self) -> None:
        assert self._received is not None
        self._is_too_late = True
        rank_zero_info("\nInterrupted in a long evaluation. Resume from the previous epoch with --ckpt_path last.")
        os.kill(os.getpid(), self._received)  # the main thread may be waiting for an environment

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save and end the run if a signal came, unless the batch's work isn't complete.

        After a batch whose gradient is accumulated the next one comes first, and after an epoch's last batch its
        evaluation.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            EndedBySignal: After SIGTERM.
        """
        accumulates = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        is_last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not accumulates and not is_last and self._is_to_end(trainer):
            trainer.save_checkpoint(self.path)
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after the epoch's evaluation and all other callbacks, and end the run if a signal came.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            EndedBySignal: After SIGTERM.
        """
        if attributes_of(trainer).fast_dev_run:
            return
        self._is_between_epochs = True
        trainer.save_checkpoint(self.path)
        self._is_between_epochs = False
        if self._is_to_end(trainer):
            self._end(trainer)

    def _is_to_end(self, trainer: Trainer) -> bool:
        """Return whether a process of the run has received a signal."""
        ends = self._received is not None
        return trainer.strategy.reduce_boolean_decision(ends, all=False) if trainer.world_size > 1 else ends

    def _end(self, trainer: Trainer) -> NoReturn:
        rank_zero_info(f"\nInterrupted: saved {self.path}. Resume the run with --ckpt_path last.")
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        # Lightning kills the other processes when one that it started exits with anything but 0.
        raise EndedBySignal(128 + signal.SIGTERM if trainer.is_global_zero else 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signals' handlers."""
        self._stop_listening(signal.SIGINT, signal.SIGTERM)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the handlers. After SIGTERM, keep its handler: a second one must not kill the process."""
        ends_by_signal = isinstance(exception, EndedBySignal)
        self._stop_listening(signal.SIGINT, *(() if ends_by_signal else (signal.SIGTERM,)))

    def _stop_listening(self, *signals: int) -> None:
        for which in signals:
            if which in self._previous_handlers:
                signal.signal(which, self._previous_handlers.pop(which))


def _start_epoch_again(trainer: Trainer, pl_module: LightningModule) -> None:
    """Let callbacks prepare the epoch that a resumed run is in the middle of: Lightning doesn't.

    Lightning's own callbacks may act twice at an epoch's start. Others may not, since they may count epochs, so a
    message names those without a saved state.
    """
    for callback in attributes_of(trainer).callbacks:
        kind, hook = type(callback), f"{type(callback).__name__}.on_train_epoch_start()"
        if isinstance(callback, GradientAccumulationScheduler | StochasticWeightAveraging):
            callback.on_train_epoch_start(trainer, pl_module)
        elif (
            not kind.__module__.startswith(("lightning.", "seqrl_lightning."))
            and kind.on_train_epoch_start is not Callback.on_train_epoch_start
            and kind.state_dict is Callback.state_dict
        ):
            rank_zero_info(
                f"Not bitwise, if {hook} changes what is learned: the run is resumed in mid-epoch, where the hook "
                f"isn't called again, and {kind.__name__} saves no state. To resume exactly, give it `state_dict` and "
                "`load_state_dict`."
            )
