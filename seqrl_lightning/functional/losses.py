"""Losses between predicted and target values."""

import torch
import torch.nn.functional as F
from torch import Tensor


def huber_losses(prediction: Tensor, target: Tensor, delta: float | None) -> Tensor:
    """The Huber loss of each: ``e^2 / 2`` where ``|e| <= delta``, else ``delta * (|e| - delta / 2)``.

    Args:
        prediction: [...] float.
        target: [...] float, of the same shape.
        delta: Where the parabola turns into a line; ``None`` means nowhere (half the squared error).

    Returns:
        [...] float.
    """
    if delta is None:
        return 0.5 * F.mse_loss(prediction, target, reduction="none")
    return F.huber_loss(prediction, target, delta=delta, reduction="none")


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of ``weight * losses`` over what has a weight; the plain mean without weights.

    Args:
        losses: [...] float.
        weight: [...] float, 0 for what doesn't count; or None.

    Returns:
        [] float.
    """
    return losses.mean() if weight is None else (losses * weight).sum() / torch.count_nonzero(weight)
