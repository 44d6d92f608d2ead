"""Optional fast paths. Each computes what the plain code does, and applies only where the types match exactly.

``SEQRL_FAST_PATHS=0`` in the environment switches all of them off.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from lightning.pytorch import LightningModule
from torch import nn

from seqrl_lightning.speed import compiled
from seqrl_lightning.speed.numpy_forward import NumPyForward
from seqrl_lightning.speed.plain_step import PlainStep
from seqrl_lightning.types import Update

__all__ = ["NumPyForward", "PlainStep", "compiled_loss", "is_enabled", "numpy_forward", "plain_step"]

B = TypeVar("B")  # a kind of batch


def is_enabled() -> bool:
    """Whether fast paths are taken at all."""
    return os.environ.get("SEQRL_FAST_PATHS", "1") != "0"


def numpy_forward(net: nn.Module) -> NumPyForward | None:
    """Return a network's forward pass in NumPy, or None where there is none."""
    return NumPyForward.of(net) if is_enabled() else None


def plain_step(
    module: LightningModule, optimize_model: Callable[[B], Update], compile: bool = False
) -> PlainStep[B] | None:
    """Return an update without Lightning's hooks around it, or None where something depends on them.

    Args:
        module: The learner, in training.
        optimize_model: Computes the loss of a batch.
        compile: Whether to compile the loss together with its gradient.
    """
    fits = is_enabled() and PlainStep.fits(module)
    return PlainStep(module, optimize_model, compile) if fits else None


def compiled_loss(optimize_model: Callable[[B], Update]) -> Callable[[B], Update]:
    """Return ``optimize_model`` as ``torch.compile`` makes it."""
    return compiled.compiled_loss(optimize_model) if is_enabled() else optimize_model
