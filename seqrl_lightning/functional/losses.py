"""Losses between predicted and target values."""

import torch
import torch.nn.functional as F
from torch import Tensor


def huber_losses(prediction: Tensor, target: Tensor, delta: float | None) -> Tensor:
    """Return the Huber loss of each error e: ``e^2 / 2`` where ``|e| <= delta``, else ``delta * (|e| - delta / 2)``.

    Args:
        prediction: [...] float.
        target: [...] float, of the same shape.
        delta: The error at which the parabola turns into a line; None for half the squared error everywhere.

    Returns:
        [...] float.

    >>> huber_losses(torch.tensor([0.5, -3.0]), torch.zeros(2), delta=1.0)
    tensor([0.1250, 2.5000])
    """
    assert prediction.shape == target.shape
    if delta is None:
        return 0.5 * F.mse_loss(prediction, target, reduction="none")
    return F.huber_loss(prediction, target, delta=delta, reduction="none")


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of ``weight * losses`` over entries with a weight (0 if none has one), or the plain mean.

    Args:
        losses: [...] float.
        weight: [...] float, 0 for entries that don't count; or None.

    Returns:
        [] float.

    >>> weighted_mean(torch.tensor([1.0, 3.0, 8.0]), torch.tensor([1.0, 0.5, 0.0]))
    tensor(1.2500)
    """
    if weight is None:
        return losses.mean()
    assert losses.shape == weight.shape
    return (losses * weight).sum() / torch.count_nonzero(weight).clamp(min=1)
