"""Main effects and the interaction of two factors with two levels each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.outcomes import Outcome
from seqrl_lightning.analysis.statistics import LEVEL, MIN_SEEDS, RESAMPLES
from seqrl_lightning.types import FloatArray


class Crossing(NamedTuple):
    """Two factors with two levels each, in all four combinations."""

    factors: tuple[str, str]
    levels: tuple[tuple[str, str], tuple[str, str]]  # of the first and of the second factor
    cells: tuple[str, str, str, str]  # conditions: first levels of both; first, second; second, first; second of both


def crossing_of(groups: Groups) -> Crossing | None:
    """Return the two factors that conditions cross, two levels by two; None if they have another design.

    Args:
        groups: Runs by condition; those of an experiment know the levels of its factors.
    """
    levels_of = {name: runs[0].levels.level_of for name, runs in groups.items()}
    factors = list(next(iter(levels_of.values())))
    if len(groups) != 4 or len(factors) != 2 or any(list(levels) != factors for levels in levels_of.values()):
        return None
    first, second = (list(dict.fromkeys(levels[factor] for levels in levels_of.values())) for factor in factors)
    cell_of = {tuple(levels.values()): name for name, levels in levels_of.items()}
    if len(first) != 2 or len(second) != 2 or len(cell_of) != 4:
        return None
    cells = [cell_of[a, b] for a in first for b in second]
    return Crossing(
        (factors[0], factors[1]),
        ((first[0], first[1]), (second[0], second[1])),
        (cells[0], cells[1], cells[2], cells[3]),
    )


def effects(outcome: Outcome, crossing: Crossing) -> pd.DataFrame:
    """Estimate the main effects and the interaction by contrasts of the four conditions' means.

    Args:
        outcome: The outcome, which every run has, and which is not censored.
        crossing: The design.

    Returns:
        A row for each effect: the ``contrast`` of means, and its 95 % studentized bootstrap interval ``lower`` and
        ``upper`` (:func:`studentized_interval`); NaN with fewer than five runs in a condition. A
        main effect is the second level's mean less the first's, averaged over the other factor; the interaction is the
        effect of the first factor at the second level of the other, less that at its first.
    """
    samples = [outcome.values[cell] for cell in crossing.cells]
    (a1, a2), (b1, b2) = crossing.levels
    names = (
        f"{crossing.factors[0]}: {a2} - {a1}",
        f"{crossing.factors[1]}: {b2} - {b1}",
        f"interaction {crossing.factors[0]} x {crossing.factors[1]}",
    )
    rows = [_effect(samples, weights) for weights in ((-0.5, -0.5, 0.5, 0.5), (-0.5, 0.5, -0.5, 0.5), (1, -1, -1, 1))]
    index = pd.MultiIndex.from_product([[outcome.name], names], names=["outcome", "effect"])
    return pd.DataFrame(rows, index=index)


def _effect(samples: Sequence[FloatArray], weights: Sequence[float]) -> Mapping[str, float]:
    contrast = sum(weight * sample.mean() for weight, sample in zip(weights, samples, strict=True))
    has_interval = min(map(len, samples)) >= MIN_SEEDS
    lower, upper = studentized_interval(samples, weights) if has_interval else (np.nan, np.nan)
    return {"contrast": float(contrast), "lower": lower, "upper": upper}


def studentized_interval(samples: Sequence[FloatArray], weights: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap-t interval of a contrast of means (Efron and Tibshirani, 1993, section 12.5).

    Runs are resampled within each condition, and each resample's deviation is divided by its own standard error. With
    five runs a condition, the percentile interval of the contrast excludes 0 in 10 % of experiments without an effect,
    and this one in 3 to 7 % (``tests/analysis/test_factors.py``).

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


def _estimate(samples: Sequence[FloatArray], weights: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Return a contrast of means and its standard error, [R] each, from [R, runs] in each condition."""
    cells = list(zip(weights, samples, strict=True))
    variances = [weight**2 * sample.var(axis=1, ddof=1) / sample.shape[1] for weight, sample in cells]
    means = np.sum([weight * sample.mean(axis=1) for weight, sample in cells], axis=0)
    return means, np.sqrt(np.sum(variances, axis=0))
