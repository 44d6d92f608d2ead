"""Optimization: how weights follow gradients."""

from collections.abc import Callable, Iterable

from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from seqrl_lightning.algorithms.finite import FiniteUpdates
from seqrl_lightning.algorithms.settings import require_positive
from seqrl_lightning.types import ConfigurationError, require

OptimizerCallable = Callable[[Iterable[Tensor], float], Optimizer]
"""Builds an optimizer from parameters and a learning rate."""


class Optimization:
    """An optimizer, its scheduler, and limits of the gradients that it steps along.

    Args:
        optimizer: Builds the optimizer from the parameters and ``learning_rate``.
        lr_scheduler: Builds a scheduler from the optimizer; None for none.
        learning_rate: Learning rate of the optimizer.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Maximum norm of the whole gradient; None for no limit.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        learning_rate: float,
        clip_grad_value: float | None,
        clip_grad_norm: float | None,
    ) -> None:
        require(learning_rate > 0, "model.learning_rate", learning_rate, "positive")
        require_positive(clip_grad_value=clip_grad_value, clip_grad_norm=clip_grad_norm)
        self.learning_rate = learning_rate
        self.clip_grad_value = clip_grad_value
        self.clip_grad_norm = clip_grad_norm
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler

    def configure(self, parameters: Iterable[Tensor]) -> OptimizerLRScheduler:
        """Build the optimizer and its scheduler, if there is one, in the form that Lightning asks for.

        Raises:
            ConfigurationError: If the optimizer can't be built, or the scheduler needs a result to step by.
        """
        try:
            optimizer = self._optimizer(parameters, self.learning_rate)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigurationError(f"model.optimizer can't be built: {error}") from error
        if self._lr_scheduler is None:
            return optimizer
        scheduler = self._lr_scheduler(optimizer)
        must_be = "one that depends on the number of updates alone, like torch.optim.lr_scheduler.LinearLR"
        is_scheduler = not isinstance(scheduler, ReduceLROnPlateau)
        require(is_scheduler, "model.lr_scheduler", type(scheduler).__name__, must_be)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def limit(self, optimizer: Optimizer, finite_updates: FiniteUpdates, precision: Precision | None) -> None:
        """Refuse gradients that aren't finite, and clip the others.

        Args:
            optimizer: The optimizer, with the gradients of its parameters.
            finite_updates: Refuses gradients, and counts them.
            precision: The Trainer's plugin; None without a Trainer.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if not isinstance(precision, MixedPrecision) or precision.scaler is None:  # a scaler skips such steps itself
            finite_updates(optimizer, parameters)
        if self.clip_grad_value is not None:
            nn.utils.clip_grad_value_(parameters, self.clip_grad_value)
        if self.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
