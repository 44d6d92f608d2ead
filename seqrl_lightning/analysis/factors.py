"""Main effects and interactions of two factors."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.outcomes import Outcome
from seqrl_lightning.analysis.statistics import LEVEL, MIN_SEEDS, RESAMPLES
from seqrl_lightning.types import FloatArray


class Crossing(NamedTuple):
    """Two factors, in all combinations of their levels."""

    factors: tuple[str, str]
    levels: tuple[Sequence[str], Sequence[str]]  # of the first and of the second factor, at least two each
    cells: Sequence[str]  # conditions: the first level of the first factor with each of the second, and so on


def crossing_of(groups: Groups) -> Crossing | None:
    """Return the two factors that conditions cross; None if they have another design.

    Args:
        groups: Runs by condition; those of an experiment know the levels of its factors.
    """
    levels_of = {name: runs[0].levels.level_of for name, runs in groups.items()}
    factors = list(next(iter(levels_of.values())))
    if len(factors) != 2 or any(list(levels) != factors for levels in levels_of.values()):
        return None
    first, second = (list(dict.fromkeys(levels[factor] for levels in levels_of.values())) for factor in factors)
    cell_of = {tuple(levels.values()): name for name, levels in levels_of.items()}
    if min(len(first), len(second)) < 2 or not len(groups) == len(cell_of) == len(first) * len(second):
        return None
    return Crossing((factors[0], factors[1]), (first, second), [cell_of[a, b] for a in first for b in second])


def effects(outcome: Outcome, crossing: Crossing) -> pd.DataFrame:
    """Estimate the main effects and the interactions by contrasts of the conditions' means.

    Args:
        outcome: The outcome, which every run has, and which is not censored.
        crossing: The design.

    Returns:
        A row for each effect: the ``contrast`` of means, and its 95 % studentized bootstrap interval ``lower`` and
        ``upper`` (:func:`studentized_interval`); NaN with fewer than five runs in a condition. A main effect is a later
        level's mean less the first's, averaged over the other factor; an interaction is such an effect of the first
        factor at a later level of the other, less that at its first.
    """
    samples = [outcome.values[cell] for cell in crossing.cells]
    rows = {name: _effect(samples, weights) for name, weights in contrasts(crossing).items()}
    index = pd.MultiIndex.from_product([[outcome.name], rows], names=["outcome", "effect"])
    return pd.DataFrame(list(rows.values()), index=index)


def contrasts(crossing: Crossing) -> dict[str, FloatArray]:
    """Return the weights of the conditions' means in each effect, by its name.

    Returns:
        [conditions] float64 for each main effect of the first factor, of the second, and each interaction: with k and m
        levels, (k - 1) + (m - 1) + (k - 1)(m - 1) of them.
    """
    (a, b), (first, second) = crossing.factors, crossing.levels
    differences, differences_there = _from_the_first(first), _from_the_first(second)
    mean, mean_there = np.full(len(first), 1 / len(first)), np.full(len(second), 1 / len(second))
    found = {f"{a}: {name}": np.outer(weights, mean_there) for name, weights in differences.items()}
    found |= {f"{b}: {name}": np.outer(mean, weights) for name, weights in differences_there.items()}
    found |= {
        f"interaction {a} x {b}: ({name}) x ({other})": np.outer(weights, others)
        for name, weights in differences.items()
        for other, others in differences_there.items()
    }
    return {name: weights.ravel() for name, weights in found.items()}


def _from_the_first(levels: Sequence[str]) -> dict[str, FloatArray]:
    """Return the weights of a factor's levels in the difference of each later one from the first."""
    unit = np.eye(len(levels))
    return {f"{level} - {levels[0]}": unit[i] - unit[0] for i, level in enumerate(levels) if i > 0}


def _effect(samples: Sequence[FloatArray], weights: FloatArray) -> Mapping[str, float]:
    contrast = sum(weight * sample.mean() for weight, sample in zip(weights, samples, strict=True))
    has_interval = min(map(len, samples)) >= MIN_SEEDS
    lower, upper = studentized_interval(samples, weights) if has_interval else (np.nan, np.nan)
    return {"contrast": float(contrast), "lower": lower, "upper": upper}


def studentized_interval(samples: Sequence[FloatArray], weights: FloatArray) -> tuple[float, float]:
    """Return the 95 % bootstrap-t interval of a contrast of means (Efron and Tibshirani, 1993, section 12.5).

    Runs are resampled within each condition, and each resample's deviation is divided by its own standard error. With
    five runs a condition, the percentile interval of the contrast excludes 0 in 10 % of experiments without an effect,
    and this one in 3 to 7 % (``benchmarks/statistics.py``).

    Args:
        samples: The runs of each condition, at least two.
        weights: Those of the conditions' means.
    """
    rng = np.random.default_rng(0)
    estimate, error = _estimate([sample[None] for sample in samples], weights)
    drawn = [sample[rng.integers(len(sample), size=(RESAMPLES, len(sample)))] for sample in samples]
    estimates, errors = _estimate(drawn, weights)
    is_known = errors > 0  # not where each condition drew one value only
    if not is_known.any():
        return float(estimate[0]), float(estimate[0])
    low, high = np.quantile((estimates - estimate)[is_known] / errors[is_known], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(estimate[0] - high * error[0]), float(estimate[0] - low * error[0])


def _estimate(samples: Sequence[FloatArray], weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a contrast of means and its standard error, [R] each, from [R, runs] in each condition."""
    cells = list(zip(weights, samples, strict=True))
    variances = [weight**2 * sample.var(axis=1, ddof=1) / sample.shape[1] for weight, sample in cells]
    means = np.sum([weight * sample.mean(axis=1) for weight, sample in cells], axis=0)
    return means, np.sqrt(np.sum(variances, axis=0))
