"""Distributions over returns: a histogram over fixed atoms, or quantiles."""

import torch
from torch import Tensor


def categorical_projection(probabilities: Tensor, values: Tensor, support: Tensor) -> Tensor:
    """Move probability mass from ``values`` onto the nearest atoms of an evenly spaced ``support``.

    Bellemare et al., arXiv:1707.06887, eq. 7: two atoms share the mass between them in proportion to nearness, and
    mass beyond an end goes to that end.

    Args:
        probabilities: [..., N] float, of ``values``.
        values: [..., N] float: ``G + gamma^n z`` for each atom z.
        support: [N] float, ascending, evenly spaced.

    Returns:
        [..., N] float, probabilities of ``support``.

    The value 0.25 gives three quarters of its mass to the atom 0, and 9 lies beyond the last atom:

    >>> probabilities, values = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 1.0, 9.0])
    >>> categorical_projection(probabilities, values, torch.tensor([0.0, 1.0, 2.0]))
    tensor([0.3750, 0.3750, 0.2500])
    """
    assert probabilities.shape == values.shape
    assert support.shape == values.shape[-1:]
    step = (support[-1] - support[0]) / (len(support) - 1)
    # An atom's share of a value's mass: 1 where they coincide, 0 from a distance of one step on.
    distance = (values.clamp(support[0], support[-1]).unsqueeze(-2) - support.unsqueeze(-1)).abs() / step
    nearness = (1.0 - distance).clamp_(min=0.0)  # [..., atoms of support, atoms of values]
    return (nearness @ probabilities.unsqueeze(-1)).squeeze(-1)


def quantile_midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """Return ``(2 i - 1) / 2 N`` for i = 1 to N, the fractions whose quantiles represent a distribution.

    Dabney et al., arXiv:1710.10044, lemma 2.

    Args:
        count: N.
        device: The device of the result.

    Returns:
        [N] float.

    >>> quantile_midpoints(4)
    tensor([0.1250, 0.3750, 0.6250, 0.8750])
    """
    return (torch.arange(count, device=device) + 0.5) / count


def quantile_huber_losses(quantiles: Tensor, fractions: Tensor, targets: Tensor, kappa: float | None) -> Tensor:
    """Return the quantile Huber loss, summed over the quantiles and averaged over the targets.

    Dabney et al., arXiv:1710.10044, eq. 10; arXiv:1806.06923, eq. 3.

    Args:
        quantiles: [..., N] float, the predicted quantiles.
        fractions: [..., N] or [N] float, in (0, 1): which quantiles they are.
        targets: [..., M] float, samples of the target distribution.
        kappa: The error at which the loss turns from a parabola into a line; None for the plain quantile regression
            loss (the absolute error).

    Returns:
        [...] float.

    Targets of 1 and 2 lie above the first quantile by 1 and 2, which counts 0.25 (0.5 + 1.5) / 2, and below the second
    by 3 and 2, which counts 0.25 (2.5 + 1.5) / 2:

    >>> quantiles, fractions, targets = torch.tensor([0.0, 4.0]), torch.tensor([0.25, 0.75]), torch.tensor([1.0, 2.0])
    >>> quantile_huber_losses(quantiles, fractions, targets, kappa=1.0)
    tensor(0.7500)
    """
    assert fractions.shape[-1] == quantiles.shape[-1]
    assert targets.shape[:-1] == quantiles.shape[:-1]
    error = targets.unsqueeze(-2) - quantiles.unsqueeze(-1)  # [..., N, M]
    size = error.abs()
    huber = size if kappa is None else torch.where(size <= kappa, 0.5 * error**2 / kappa, size - 0.5 * kappa)
    weight = (fractions.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * huber).mean(-1).sum(-1)
