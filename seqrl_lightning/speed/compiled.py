"""Compile the loss and its gradient: an update of an MLP 128-128 takes 0.72 of the time."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from seqrl_lightning.batches import BatchT, Update


def compiled_loss(optimize_model: Callable[[BatchT], Update]) -> Callable[[BatchT], Update]:
    """Compile the loss; autograd goes backward through it as ever."""
    torch.compiler.reset()  # a process compiles a function for so many learners only
    compiled: Callable[[BatchT], Update] = torch.compile(optimize_model)
    return compiled


def compiled_differentiate(
    optimize_model: Callable[[BatchT], Update], parameters: Sequence[Tensor]
) -> Callable[[BatchT], Update]:
    """Compile the loss and its gradient into one function, without autograd's records of each operation.

    Args:
        optimize_model: Computes the loss of a batch.
        parameters: The parameters to fill the gradients of.

    Returns:
        A function from a batch to what ``optimize_model`` returns, detached, which fills the parameters' gradients.
    """
    torch.compiler.reset()
    if hasattr(torch._dynamo.config, "trace_autograd_ops"):  # older versions of torch go backward outside the graph
        torch._dynamo.config.trace_autograd_ops = True
    learned = [parameter for parameter in parameters if parameter.requires_grad]

    @torch.compile
    def loss_and_gradients(batch: BatchT) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        update = cast(dict[str, Tensor], optimize_model(batch))
        gradients = torch.autograd.grad(update["loss"], learned, allow_unused=True)
        pairs = zip(learned, gradients, strict=True)
        laid_out: list[Tensor | None] = [
            g if g is None else torch.empty_like(p).copy_(g) for p, g in pairs
        ]  # in memory as p is
        return {name: value.detach() for name, value in update.items()}, laid_out

    def differentiate(batch: BatchT) -> Update:
        update, gradients = loss_and_gradients(batch)
        for parameter, gradient in zip(learned, gradients, strict=True):
            parameter.grad = gradient
        return cast(Update, update)

    return differentiate
