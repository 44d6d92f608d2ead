"""Counts, means and squared deviations of rows that come bit by bit, and from several processes."""

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Number, mean and squared deviations of rows, for each element."""

    num_rows: Tensor  # [] float64
    mean: Tensor  # [*shape] float64; 0 of no rows
    m2: Tensor  # [*shape] float64, the sum of squared deviations from the mean

    @property
    def variance(self) -> Tensor:
        """The variance of each element, [*shape] float64; 1 before the first row."""
        return torch.where(self.num_rows > 0, self.m2 / self.num_rows.clamp(min=1.0), 1.0)


def moments_of(rows: Tensor) -> Moments:
    """Return the moments of ``[N, *shape]`` rows; N may be 0.

    >>> moments_of(torch.tensor([[1.0, 5.0], [3.0, 5.0]])).m2
    tensor([2., 0.], dtype=torch.float64)
    """
    rows = rows.double()
    mean = rows.sum(0) / max(1, len(rows))
    return Moments(mean.new_tensor(float(len(rows))), mean, (rows - mean).square().sum(0))


def merge_moments(one: Moments, other: Moments) -> Moments:
    """Return the moments of the rows of both (Chan, Golub and LeVeque, 1983, eq. 2.1).

    >>> a, b = moments_of(torch.tensor([1.0, 3.0])), moments_of(torch.tensor([8.0]))
    >>> [moment.item() for moment in merge_moments(a, b)]
    [3.0, 4.0, 26.0]
    """
    num_rows = one.num_rows + other.num_rows
    share = other.num_rows / num_rows.clamp(min=1.0)
    delta = other.mean - one.mean
    return Moments(num_rows, one.mean + delta * share, one.m2 + other.m2 + delta.square() * one.num_rows * share)
