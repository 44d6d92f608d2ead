"""Losses between predicted and target values."""

import torch.nn.functional as F
from torch import Tensor


def huber_loss(prediction: Tensor, target: Tensor, delta: float | None) -> Tensor:
    """The mean Huber loss: ``e^2 / 2`` where ``|e| <= delta``, else ``delta * (|e| - delta / 2)``.

    Args:
        prediction: [...] float.
        target: [...] float, of the same shape.
        delta: Where the parabola turns into a line; ``None`` means nowhere (half the squared error).

    Returns:
        [] float.
    """
    if delta is None:
        return 0.5 * F.mse_loss(prediction, target)
    return F.huber_loss(prediction, target, delta=delta)
