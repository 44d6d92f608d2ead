"""Newton's method for many small problems at once, with derivatives by central differences."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seqrl_lightning.types import Array, FloatArray

Objective = Callable[[FloatArray, Array], FloatArray]
"""The function that is maximized in each of N problems: ``(points [K, M, P], problems [M]) -> [K, M]``."""

_STEP = 1e-3  # of the differences
_MAX_MOVE = 2.0  # Euclidean length of a step
_SHARES = np.array([1.0, 0.5, 0.25, 0.1, 0.02])  # of a step that are tried
_TOLERANCE = 1e-5  # of the gain of a step, after which a problem is solved
_LEAST_CURVATURE = 1e-3


class Maximum(NamedTuple):
    """The maxima of N problems with P unknowns."""

    point: FloatArray  # [N, P] float64
    value: FloatArray  # [N] float64
    curvature: FloatArray  # [N, P, P] float64: minus the second derivatives, positive definite


def maximize(
    objective: Objective, start: FloatArray, lower: FloatArray, upper: FloatArray, max_steps: int = 100
) -> Maximum:
    """Find the maximum near a point, in each of N problems; those that are solved cost nothing more.

    Args:
        objective: The objective.
        start: [N, P] float64.
        lower: [P] float64: the least values, and
        upper: [P] float64: the largest ones.
        max_steps: Most steps.
    """
    point = start.copy()
    value = objective(point[None], np.arange(len(point)))[0]
    curvature = np.zeros((*point.shape, point.shape[1]))
    active = np.arange(len(point)) if point.shape[1] else np.arange(0)
    for _ in range(max_steps):
        if not len(active):
            break
        value[active], gradient, hessian = derivatives(objective, point[active], active)
        curvature[active] = positive_definite(-hessian)
        move = np.linalg.solve(curvature[active], gradient[..., None])[..., 0]
        move *= np.minimum(1.0, _MAX_MOVE / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-12))
        tried = np.clip(point[active] + _SHARES[:, None, None] * move, lower, upper)
        values = objective(tried, active)
        best = values.argmax(0)
        gain = values.max(0) - value[active]
        better = gain > 0
        point[active[better]] = tried[best, np.arange(len(active))][better]
        value[active] += np.maximum(gain, 0.0)
        active = active[gain > _TOLERANCE]
    return Maximum(point, value, curvature)


def derivatives(objective: Objective, point: FloatArray, problems: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute value, gradient and second derivatives of the objective in M problems, by one call of it.

    Args:
        objective: The objective.
        point: [M, P] float64.
        problems: [M] int64: their numbers.

    Returns:
        [M], [M, P] and [M, P, P] float64.
    """
    size = point.shape[1]
    unit = np.eye(size)
    first, second = np.triu_indices(size, 1)
    pairs = unit[first] + unit[second]
    offsets = np.concatenate([np.zeros((1, size)), unit, -unit, pairs, -pairs])
    values = objective(point + _STEP * offsets[:, None], problems)
    center, up, down, both_up, both_down = np.split(values, np.cumsum([1, size, size, len(pairs)]))
    hessian = np.zeros((len(point), size, size))
    hessian[:, range(size), range(size)] = ((up - 2 * center + down) / _STEP**2).T
    mixed = both_up + both_down + 2 * center - up[first] - up[second] - down[first] - down[second]
    hessian[:, first, second] = hessian[:, second, first] = (mixed / (2 * _STEP**2)).T
    return center[0], ((up - down) / (2 * _STEP)).T, hessian


def positive_definite(matrices: FloatArray) -> FloatArray:
    """Return symmetric matrices [M, P, P] whose eigenvalues are made positive, and none too small to divide by."""
    values, vectors = np.linalg.eigh(matrices)
    values = np.maximum(np.abs(values), _LEAST_CURVATURE)
    made: FloatArray = (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)
    return made
