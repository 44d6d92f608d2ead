"""Distributions over returns: a histogram with fixed bins, or quantiles."""

import torch
from torch import Tensor


def categorical_projection(probabilities: Tensor, values: Tensor, support: Tensor) -> Tensor:
    """Moves probability mass from ``values`` onto the nearest atoms of an evenly spaced ``support``.

    Bellemare et al., arXiv:1707.06887, eq. 7: mass between two atoms is shared in proportion to nearness, mass
    beyond the ends goes to the ends.

    Args:
        probabilities: [..., atoms] float, of ``values``.
        values: [..., atoms] float: ``G + gamma^n z``.
        support: [atoms] float, ascending, evenly spaced.

    Returns:
        [..., atoms] float, probabilities of ``support``.
    """
    step = (support[-1] - support[0]) / (len(support) - 1)
    # Each atom takes the mass of a value by their distance in steps: 1 where they meet, 0 from a step away on.
    distance = (values.clamp(support[0], support[-1]).unsqueeze(-2) - support.unsqueeze(-1)).abs() / step
    nearness = (1.0 - distance).clamp_(min=0.0)  # [..., atoms of support, atoms of values]
    return (nearness @ probabilities.unsqueeze(-1)).squeeze(-1)


def quantile_midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """``(2 i - 1) / 2 N`` for i = 1 to N: the fractions whose quantiles stand for a distribution.

    Dabney et al., arXiv:1710.10044, lemma 2.

    Args:
        count: N.
        device: Where to.

    Returns:
        [N] float.
    """
    return (torch.arange(count, device=device) + 0.5) / count


def quantile_huber_losses(quantiles: Tensor, fractions: Tensor, targets: Tensor, kappa: float | None) -> Tensor:
    """The quantile Huber loss: summed over the quantiles, averaged over the targets.

    Dabney et al., arXiv:1710.10044, eq. 10; arXiv:1806.06923, eq. 3.

    Args:
        quantiles: [..., N] float, the predicted quantiles.
        fractions: [..., N] or [N] float, in (0, 1): which quantiles they are.
        targets: [..., N'] float, samples of the target distribution.
        kappa: Where the loss turns from a parabola into a line; None for the plain quantile regression loss (the
            absolute error).

    Returns:
        [...] float.
    """
    error = targets.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [..., N, N']
    size = error.abs()
    huber = size if kappa is None else torch.where(size <= kappa, 0.5 * error**2 / kappa, size - 0.5 * kappa)
    weight = (fractions.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * huber).mean(-1).sum(-1)
