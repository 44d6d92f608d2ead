"""Updates by hand, under manual optimization: from a batch to new weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, cast

import torch
from lightning.pytorch import LightningModule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from seqrl_lightning.batches import BatchT, Update, loss_of


class LightningStep(Generic[BatchT]):
    """One update with any strategy and precision: zero the gradients, go backward, clip, step optimizer and scheduler.

    Args:
        module: The learner.
        optimize_model: Computes the loss of a batch.
    """

    def __init__(self, module: LightningModule, optimize_model: Callable[[BatchT], Update]) -> None:
        self.module = module
        self.optimize_model = optimize_model
        self.optimizer = cast(Optimizer, module.optimizers())  # Lightning's wrapper, which is made into one
        self.scheduler = cast(LRScheduler | None, module.lr_schedulers())  # one, which needs no metric

    def __call__(self, batch: BatchT) -> Update:
        """Make one update. Returns what ``optimize_model`` does, with the loss detached."""
        update = self.optimize_model(batch)
        loss = loss_of(update)
        self.optimizer.zero_grad()
        self.module.manual_backward(loss)
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        update["loss"] = loss.detach()
        return update


@contextmanager
def without_cached_casts() -> Iterator[None]:
    """Let autocast cast weights whenever they are read, instead of once for a whole training step.

    Cached casts would be those of the weights before the step's first update. Without autocast it changes nothing.
    """
    was_enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was_enabled)


def last_of(updates: Sequence[Update]) -> Update:
    """Return the last of the K updates of a training step, with the priorities of all of them, [T, K * B]."""
    last = updates[-1]
    loss_of(last)  # under automatic optimization, Lightning checks the loss alone
    if "priority_batch" in last:
        last["priority_batch"] = torch.cat([update["priority_batch"] for update in updates], dim=1)
    return last
