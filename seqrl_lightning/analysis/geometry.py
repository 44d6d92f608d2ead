"""The geometry of states: principal components, dimension, item subspaces and representational similarity."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import rankdata

from seqrl_lightning.analysis.decoding import Measured, shuffled
from seqrl_lightning.types import FloatArray, IntArray

_MOST_EPISODES = 150  # whose pairs are compared


class Components(NamedTuple):
    """The principal components of states."""

    scores: FloatArray  # [..., C], of each state
    explained: FloatArray  # [C], the share of the variance


def principal_components(units: FloatArray, count: int = 2) -> Components:
    """Compute the first principal components of states, ``[..., U]`` float, over all of their rows."""
    rows = units.reshape(-1, units.shape[-1])
    center = rows.mean(0)
    _, sizes, axes = np.linalg.svd(rows - center, full_matrices=False)
    return Components((units - center) @ axes[:count].T, sizes[:count] ** 2 / max((sizes**2).sum(), 1e-30))


def item_variance(units: FloatArray, labels: IntArray, num_shuffles: int, rng: np.random.Generator) -> Measured:
    """Measure the share of the variance over episodes that lies between the means of the items, at each step.

    Args:
        units: ``[E, T, U]`` float.
        labels: ``[E]`` int64, the item of each episode.
        num_shuffles: Number of times that the labels are shuffled.
        rng: The source of the shuffles.

    Returns:
        ``[T]``, from 0 to 1 (eta squared, over all units).
    """
    centered = units - units.mean(0)
    total = np.maximum((centered**2).sum((0, 2)), 1e-30)
    labelings = shuffled(labels, num_shuffles, rng)
    is_item = (labelings[..., None] == np.unique(labels)).astype(float)  # [L, E, K]
    counts = is_item[0].sum(0)
    sums = np.einsum("lek,etu->lktu", is_item, centered, optimize=True)
    shares = (sums**2 / counts[:, None, None]).sum((1, 3)) / total
    return Measured(shares[0], shares[1:])


def participation_ratio(units: FloatArray) -> FloatArray:
    """Return the effective number of dimensions of states, ``[..., n, U] -> [...]``.

    It is ``(sum of eigenvalues)^2 / sum of their squares`` of the covariance over the n rows: 1 if all lie on a line, U
    if all directions have the same variance.

    >>> participation_ratio(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).item()
    2.0
    """
    rows = units - units.mean(-2, keepdims=True)
    covariance = np.swapaxes(rows, -1, -2) @ rows
    trace = np.trace(covariance, axis1=-2, axis2=-1)
    ratio: FloatArray = trace**2 / np.maximum((covariance**2).sum((-1, -2)), 1e-30)
    return ratio


def dimension(units: FloatArray, num_shuffles: int, rng: np.random.Generator) -> Measured:
    """Measure the participation ratio over episodes at each step, beside units that are shuffled independently.

    Shuffling each unit over the episodes keeps its variance and breaks its correlations with the others.

    Args:
        units: ``[E, T, U]`` float.
        num_shuffles: Number of shuffles.
        rng: The source of the shuffles.

    Returns:
        ``[T]``, from 1 to U.
    """
    by_step = units.swapaxes(0, 1)
    null = [participation_ratio(rng.permuted(by_step, axis=1)) for _ in range(num_shuffles)]
    return Measured(participation_ratio(by_step), np.array(null))


def item_subspace(units: FloatArray, labels: IntArray) -> FloatArray:
    """Return an orthonormal basis of the differences between the items' mean states.

    Args:
        units: ``[E, U]`` float.
        labels: ``[E]`` int64.

    Returns:
        ``[U, K - 1]`` of K items, or fewer columns where the means differ in fewer dimensions.
    """
    means = np.array([units[labels == item].mean(0) for item in np.unique(labels)])
    _, sizes, axes = np.linalg.svd(means - means.mean(0), full_matrices=False)
    is_spanned = sizes[: len(means) - 1] > 1e-9 * max(sizes[0], 1e-30)
    basis: FloatArray = axes[: len(means) - 1][is_spanned].T
    return basis


def mean_angle(one: FloatArray, other: FloatArray) -> float:
    """Return the mean principal angle between two subspaces, in degrees: 0 if one lies in the other, 90 if orthogonal.

    Args:
        one: ``[U, a]``, an orthonormal basis.
        other: ``[U, b]``.
    """
    if not (one.shape[1] and other.shape[1]):
        return float("nan")
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).mean())


def subspace_angles(units: FloatArray, items: IntArray, num_shuffles: int, rng: np.random.Generator) -> Measured:
    """Measure the angles between the subspaces of the items at different positions.

    Each subspace is estimated twice, from either half of the episodes, and only different halves are compared: the
    diagonal says how well the estimates agree, and is small if there is a subspace at all.

    Args:
        units: ``[E, U]`` float, at one step.
        items: ``[P, E]`` int64, the item at each position.
        num_shuffles: Number of times that the items are shuffled over episodes.
        rng: The source of halves and shuffles.

    Returns:
        ``[P, P]`` in degrees.
    """
    is_first = rng.permutation(len(units)) % 2 == 0

    def angles(labels: IntArray) -> FloatArray:
        halves = [[item_subspace(units[half], row[half]) for row in labels] for half in (is_first, ~is_first)]
        found = np.array([[mean_angle(one, other) for other in halves[1]] for one in halves[0]])
        symmetric: FloatArray = (found + found.T) / 2
        return symmetric

    null = [angles(rng.permuted(items, axis=1)) for _ in range(num_shuffles)]
    return Measured(angles(items), np.array(null))


def similarity(units: FloatArray, items: IntArray, num_shuffles: int, rng: np.random.Generator) -> Measured:
    """Compare the distances between episodes' states with whether their items differ (Kriegeskorte et al., 2008).

    Args:
        units: ``[E, T, U]`` float.
        items: ``[P, E]`` int64, the item at each position.
        num_shuffles: Number of times that the items are shuffled over episodes.
        rng: The source of the shuffles.

    Returns:
        ``[P, T]``, Spearman's correlation, over pairs of episodes, of the distance between their states at a step with
        whether they had different items at a position.
    """
    units, items = units[:_MOST_EPISODES], items[:, :_MOST_EPISODES]
    ranks = np.array([rankdata(pdist(units[:, step])) for step in range(units.shape[1])])
    one, other = np.triu_indices(len(units), 1)
    correlations = []
    for labels in items:
        labelings = shuffled(labels, num_shuffles, rng)
        differs = (labelings[:, one] != labelings[:, other]).astype(float)
        correlations.append(_correlations(differs, ranks))  # [L, T]
    found = np.stack(correlations, axis=1)
    return Measured(found[0], found[1:])


def _correlations(one: FloatArray, other: FloatArray) -> FloatArray:
    """Pearson's correlation of all rows of one array with all rows of another, ``[a, n], [b, n] -> [a, b]``."""
    one, other = (rows - rows.mean(1, keepdims=True) for rows in (one, other))
    sizes = np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return (one @ other.T) / np.maximum(sizes, 1e-30)
