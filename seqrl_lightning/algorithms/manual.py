"""From a batch to new weights under manual optimization: by Lightning's way, or straight where that is the same."""

from collections.abc import Callable
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


Outputs = dict[str, Tensor]  # what ``optimize_model`` returns


class LightningStep:
    """Zeroes the gradients, goes backward, clips, steps optimizer and scheduler: with any strategy and precision."""

    def __init__(self, module: LightningModule) -> None:
        self.module: Any = module
        self.optimizer: Any = module.optimizers()
        self.scheduler: Any = module.lr_schedulers()

    def __call__(self, batch: Any) -> Outputs:
        """One update. Returns what ``optimize_model`` does, the loss detached."""
        outputs: Outputs = self.module.optimize_model(batch)
        self.optimizer.zero_grad()
        self.module.manual_backward(outputs["loss"])
        self.module.configure_gradient_clipping(self.optimizer)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return outputs | {"loss": outputs["loss"].detach()}


class PlainStep:
    """The same without Lightning's hooks around it, which take as long as a small network's forward pass.

    It fits where nobody has anything to do in them: one device, full precision, no callback that overrides one.

    Args:
        module: The learner.
        compile: Whether ``torch.compile`` makes one function of the loss and its gradient. A small network then spares
            the time that autograd takes to record and to replay operations.
    """

    def __init__(self, module: LightningModule, compile: bool) -> None:
        self.module: Any = module
        self.counted: Any = module.optimizers()  # Lightning's wrapper, which counts the steps
        optimizer: Any = module.optimizers(use_pl_optimizer=False)
        self.optimizer = optimizer
        self.step = FusedAdamStep(optimizer) if FusedAdamStep.fits(optimizer) else optimizer.step
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.scheduler: Any = module.lr_schedulers()
        self.one = torch.ones((), device=module.device)  # the loss's own gradient
        self.differentiate = compiled_differentiate(module, self.parameters) if compile else self._go_backward

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

    def __call__(self, batch: Any) -> Outputs:
        """One update. Returns what ``optimize_model`` does, the loss detached."""
        outputs = self.differentiate(batch)
        self.module.configure_gradient_clipping(self.optimizer)
        self.counted._on_before_step()
        self.step()
        self.counted._on_after_step()
        if self.scheduler is not None:
            self.scheduler.step()
        return outputs

    def _go_backward(self, batch: Any) -> Outputs:
        """Fills the parameters' gradients."""
        for parameter in self.parameters:  # what optimizer.zero_grad() does, without its profiling
            parameter.grad = None
        outputs: Outputs = self.module.optimize_model(batch)
        outputs["loss"].backward(self.one)  # type: ignore[no-untyped-call]
        return outputs | {"loss": outputs["loss"].detach()}


def compiled_differentiate(module: Any, parameters: list[Tensor]) -> Callable[[Any], Outputs]:
    """A function from a batch to what ``module.optimize_model`` returns, that fills the parameters' gradients.

    ``torch.compile`` makes one of the loss and its gradient, without autograd's records of each operation.
    """
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):  # older ones go on with autograd after the loss
        torch._dynamo.config.trace_autograd_ops = True
    learnt = [parameter for parameter in parameters if parameter.requires_grad]

    @torch.compile
    def loss_and_gradients(batch: Any) -> tuple[Outputs, list[Any]]:
        outputs = module.optimize_model(batch)
        gradients = torch.autograd.grad(outputs["loss"], learnt, allow_unused=True)
        pairs = zip(learnt, gradients, strict=True)
        laid_out = [g if g is None else torch.empty_like(p).copy_(g) for p, g in pairs]  # in memory as p is
        return {name: value.detach() for name, value in outputs.items()}, laid_out

    def differentiate(batch: Any) -> Outputs:
        outputs, gradients = loss_and_gradients(batch)
        for parameter, gradient in zip(learnt, gradients, strict=True):
            parameter.grad = gradient
        return outputs

    return differentiate
