"""From a loss to new weights under manual optimization: by Lightning's way, or straight where that is the same."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from seqrl_lightning.algorithms.fused_adam import FusedAdamStep

_HOOKS = (
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
)


class LightningStep:
    """Zeroes the gradients, goes backward, clips, steps optimizer and scheduler: with any strategy and precision."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module
        self.optimizer: Any = module.optimizers()
        self.scheduler: Any = module.lr_schedulers()

    def __call__(self, loss: Tensor) -> None:
        """One update from ``loss`` ([] float)."""
        self.optimizer.zero_grad()
        self.module.manual_backward(loss)
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()


class PlainStep:
    """The same without Lightning's hooks around it, which take as long as a small network's forward pass.

    It fits where nobody has anything to do in them: one device, full precision, no callback that overrides one.
    """

    def __init__(self, module: LightningModule) -> None:
        self.module = module
        self.counted: Any = module.optimizers()  # Lightning's wrapper, which counts the steps
        optimizer: Any = module.optimizers(use_pl_optimizer=False)
        self.optimizer = optimizer
        self.step = FusedAdamStep(optimizer) if FusedAdamStep.fits(optimizer) else optimizer.step
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scheduler: Any = module.lr_schedulers()
        self.one = torch.ones((), device=module.device)  # the loss's own gradient

    @staticmethod
    def fits(trainer: Trainer) -> bool:
        """Whether this is the same as :class:`LightningStep`."""
        if type(trainer.strategy) is not SingleDeviceStrategy or type(trainer.precision_plugin) is not Precision:
            return False
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        overridden = any(
            is_overridden(hook, instance, parent)
            for hook in _HOOKS
            for instances, parent in ((callbacks, Callback), ([trainer.lightning_module], LightningModule))
            for instance in instances
            if hasattr(parent, hook)
        )
        return not overridden

    def __call__(self, loss: Tensor) -> None:
        """One update from ``loss`` ([] float)."""
        for parameter in self.parameters:  # what optimizer.zero_grad() does, without its profiling
            parameter.grad = None
        loss.backward(self.one)  # type: ignore[no-untyped-call]
        self.module.configure_gradient_clipping(self.optimizer)
        self.counted._on_before_step()
        self.step()
        self.counted._on_after_step()
        if self.scheduler is not None:
            self.scheduler.step()
