"""Optional fast paths. Each computes what the plain code does, and applies only where the types match exactly.

``SEQRL_FAST_PATHS=0`` in the environment switches all of them off.
"""

import os
from collections.abc import Callable

from lightning.pytorch import LightningModule
from torch import nn

from seqrl_lightning.batches import BatchT, Update
from seqrl_lightning.speed import compiled
from seqrl_lightning.speed.cuda_graph import GraphedStep
from seqrl_lightning.speed.numpy_forward import NumPyForward
from seqrl_lightning.speed.plain_step import PlainStep
from seqrl_lightning.types import CompileMode, require

__all__ = ["NumPyForward", "PlainStep", "compiled_loss", "is_enabled", "numpy_forward", "plain_step"]


def is_enabled() -> bool:
    """Whether fast paths are taken at all."""
    return os.environ.get("SEQRL_FAST_PATHS", "1") != "0"


def numpy_forward(net: nn.Module) -> NumPyForward | None:
    """Return a network's forward pass in NumPy, or None where there is none."""
    return NumPyForward.of(net) if is_enabled() else None


def plain_step(
    module: LightningModule, optimize_model: Callable[[BatchT], Update], mode: CompileMode = False
) -> PlainStep[BatchT] | None:
    """Return an update without Lightning's hooks around it, or None where something depends on them.

    Args:
        module: The learner, in training.
        optimize_model: Computes the loss of a batch.
        mode: Whether to compile the loss together with its gradient, and whether to make CUDA graphs.

    Raises:
        ConfigurationError: If there can be no CUDA graphs, and ``mode`` asks for them.
    """
    if not isinstance(mode, str):
        return PlainStep(module, optimize_model, mode) if is_enabled() and PlainStep.fits(module) else None
    must_be = (
        "true or false here: CUDA graphs need trainer.devices 1, trainer.precision 32-true or bf16-mixed, and no "
        "callback that acts between an update's gradient and its step"
    )
    require(GraphedStep.fits(module), "model.compile", mode, must_be)
    return GraphedStep(module, optimize_model, mode == "compiled_cuda_graphs") if is_enabled() else None


def compiled_loss(optimize_model: Callable[[BatchT], Update]) -> Callable[[BatchT], Update]:
    """Return ``optimize_model`` as ``torch.compile`` makes it."""
    return compiled.compiled_loss(optimize_model) if is_enabled() else optimize_model
