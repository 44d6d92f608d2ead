"""Rescaling of values, so that one loss serves rewards of any size."""

from torch import Tensor


def rescale_values(values: Tensor, epsilon: float) -> Tensor:
    """Return ``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x`` (Pohlen et al., arXiv:1805.11593, proposition A.2).

    The first term is computed as ``x / (sqrt(|x| + 1) + 1)``, which is the same and loses no digits near 0.

    Args:
        values: [...] float.
        epsilon: Positive; keeps the inverse smooth.

    Returns:
        [...] float.

    >>> import torch
    >>> rescale_values(torch.tensor([3.0, -8.0]), epsilon=0.5)
    tensor([ 2.5000, -6.0000])
    """
    return values / ((values.abs() + 1.0).sqrt() + 1.0) + epsilon * values


def unscale_values(values: Tensor, epsilon: float) -> Tensor:
    """Return the inverse of :func:`rescale_values`.

    With ``y = h(x) >= 0`` and ``u = sqrt(x + 1) - 1`` it solves ``epsilon u^2 + (1 + 2 epsilon) u - y = 0``. Taking
    the root as ``2 y / (...)`` and ``x`` as ``u (u + 2)`` loses no digits where epsilon or y is small.

    Args:
        values: [...] float.
        epsilon: As in :func:`rescale_values`.

    Returns:
        [...] float.

    >>> import torch
    >>> unscale_values(torch.tensor([2.5, -6.0]), epsilon=0.5)
    tensor([ 3., -8.])
    """
    size = values.abs()
    slope = 1.0 + 2.0 * epsilon
    u = 2.0 * size / (slope + (slope**2 + 4.0 * epsilon * size).sqrt())
    return values.sign() * u * (u + 2.0)
