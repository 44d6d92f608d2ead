"""Typed access to what Lightning's Trainer holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from seqrl_lightning.types import ConfigurationError, Learner


class TrainerAttributes(Protocol):
    """Attributes that Lightning's connectors set on every Trainer, but that its class doesn't declare."""

    callbacks: list[Callback]
    datamodule: LightningDataModule | None
    fast_dev_run: int | bool
    log_every_n_steps: int


def attributes_of(trainer: Trainer) -> TrainerAttributes:
    """Return the same Trainer, with its undeclared attributes typed."""
    return cast(TrainerAttributes, trainer)


def is_limited(trainer: Trainer) -> bool:
    """Return whether the Trainer ends a run by itself: after updates, epochs or a time, or as a trial run."""
    attributes = attributes_of(trainer)
    return (
        trainer.max_steps != -1
        or trainer.max_epochs not in (-1, None)
        or any(isinstance(callback, Timer) for callback in attributes.callbacks)
        or bool(attributes.fast_dev_run)
    )


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of a run's files: its first logger's, or ``default_root_dir`` if that logger has none.

    Ask for it in every process, so that they agree on it.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def update_of(outputs: STEP_OUTPUT) -> Mapping[str, Tensor]:
    """Return what a learner's ``training_step`` returned, by name (see :class:`~seqrl_lightning.batches.Update`)."""
    assert isinstance(outputs, Mapping)
    return outputs


def learner_of(trainer: Trainer) -> Learner:
    """Return the Trainer's module as the learner that it is.

    Raises:
        ConfigurationError: If it isn't one.
    """
    module = trainer.lightning_module
    if isinstance(module, Learner):
        return module
    raise ConfigurationError(f"model is {type(module).__name__!r}; it must be a learner, like DQN or a subclass of it")


def loops_of(trainer: Trainer) -> dict[str, Any]:
    """Return what the Trainer's loops have counted, as a checkpoint holds it."""
    return {
        "fit_loop": trainer.fit_loop.state_dict(),
        "validate_loop": trainer.validate_loop.state_dict(),
        "test_loop": trainer.test_loop.state_dict(),
        "predict_loop": trainer.predict_loop.state_dict(),
    }
