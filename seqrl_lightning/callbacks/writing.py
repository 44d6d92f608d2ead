"""Helpers of callbacks that write: when they write, where to, and for how many processes."""

from typing import TypeVar

import torch
from lightning.pytorch import Trainer

from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.trainer_access import attributes_of

T = TypeVar("T")


class LogInterval:
    """Count training batches, and mark every ``trainer.log_every_n_steps``-th of them.

    The count belongs in a callback's state, so that a resumed run writes after the same batches.

    Attributes:
        batches: Batches so far.
    """

    def __init__(self) -> None:
        self.batches = 0

    def ends(self, trainer: Trainer) -> bool:
        """Count one more batch. Return whether an interval ends with it; never with an interval of 0."""
        self.batches += 1
        interval = attributes_of(trainer).log_every_n_steps
        return interval > 0 and self.batches % interval == 0


def leaves_files(trainer: Trainer) -> bool:
    """Return whether the run has a folder to write files into: it has a logger, and is more than a trial run."""
    return trainer.logger is not None and not attributes_of(trainer).fast_dev_run


def position(trainer: Trainer) -> int:
    """Return how far the run is, on the x axis of its curves: in env steps, or in updates where no agent takes any."""
    data = LearnerDataModule.of(trainer)
    return data.progress.env_steps if data.has_agent else trainer.global_step


def log_scalars(trainer: Trainer, scalars: dict[str, float]) -> None:
    """Write scalars to all loggers, at the run's :func:`position`."""
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=position(trainer))


def gather(items: list[T]) -> list[list[T]]:
    """Return the items of each process, in the order of the ranks."""
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return [items]
    gathered: list[list[T]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, items)
    return gathered
