"""Update without Lightning's hooks: an update of an MLP 128-128 takes 0.76 of the time (with the short Adam step)."""

from collections.abc import Callable
from typing import Generic, cast

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from seqrl_lightning.batches import BatchT, Update, loss_of
from seqrl_lightning.speed.compiled import compiled_differentiate
from seqrl_lightning.speed.fused_adam import FusedAdamStep
from seqrl_lightning.trainer_access import attributes_of

_MODULE_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
_MODULE_STEPS = ("backward", "optimizer_step", "optimizer_zero_grad")


class PlainStep(Generic[BatchT]):
    """One update without Lightning's hooks around it, which take as long as a small network's forward pass.

    Args:
        module: A learner that it ``fits``, in training.
        optimize_model: Computes the loss of a batch.
        compile: Whether ``torch.compile`` makes one function of the loss and its gradient. A small network then saves
            the time that autograd takes to record and to replay operations.
    """

    def __init__(self, module: LightningModule, optimize_model: Callable[[BatchT], Update], compile: bool) -> None:
        self.module = module
        self.optimize_model = optimize_model
        counted, optimizer = module.optimizers(), module.optimizers(use_pl_optimizer=False)
        assert isinstance(counted, LightningOptimizer)
        assert isinstance(optimizer, Optimizer)
        self.counted, self.optimizer = counted, optimizer  # Lightning's wrapper counts the steps
        self.step = FusedAdamStep(optimizer) if FusedAdamStep.fits(optimizer) else optimizer.step
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scheduler = cast(LRScheduler | None, module.lr_schedulers())  # one, which needs no metric
        self.one = torch.ones((), device=module.device)  # the loss's own gradient
        self.differentiate: Callable[[BatchT], Update] = self._go_backward
        if compile:
            self.differentiate = compiled_differentiate(optimize_model, self.parameters)

    @classmethod
    def fits(cls, module: LightningModule) -> bool:
        """Whether nothing depends on the hooks: one device, full precision, no callback or method that uses one."""
        trainer = module.trainer
        fits = type(trainer.strategy) is SingleDeviceStrategy and cls.fits_precision(trainer.precision_plugin)
        if not fits:
            return False
        callbacks = attributes_of(trainer).callbacks
        listens = any(is_overridden(hook, callback, Callback) for hook in _MODULE_HOOKS for callback in callbacks)
        changes = any(is_overridden(hook, module, LightningModule) for hook in (*_MODULE_HOOKS, *_MODULE_STEPS))
        return not (listens or changes)

    @staticmethod
    def fits_precision(precision: Precision) -> bool:
        """Whether the Trainer leaves numbers as they are."""
        return type(precision) is Precision

    def __call__(self, batch: BatchT) -> Update:
        """Make one update. Returns what ``optimize_model`` does, with the loss detached."""
        update = self.differentiate(batch)
        self.module.configure_gradient_clipping(self.optimizer)
        self.counted._on_before_step()
        self.step()
        self.counted._on_after_step()
        if self.scheduler is not None:
            self.scheduler.step()
        return update

    def _go_backward(self, batch: BatchT) -> Update:
        """Compute the loss and fill the parameters' gradients."""
        for parameter in self.parameters:  # as optimizer.zero_grad() does, without its profiling
            parameter.grad = None
        update = self.optimize_model(batch)
        loss = loss_of(update)
        loss.backward(self.one)
        update["loss"] = loss.detach()
        return update
