"""Main effects and the interaction of two factors with two levels each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.outcomes import Outcome
from seqrl_lightning.analysis.statistics import MIN_SEEDS, bootstrap_interval
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
        A row for each effect: the ``contrast`` of means, and its 95 % percentile bootstrap interval ``lower`` and
        ``upper``, in which runs are resampled within each condition; NaN with fewer than five runs in one of them. A
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
    def contrast(*cells: FloatArray, axis: int = -1) -> FloatArray:
        means = [weight * cell.mean(axis) for weight, cell in zip(weights, cells, strict=True)]
        return np.asarray(np.sum(means, axis=0))

    has_interval = min(map(len, samples)) >= MIN_SEEDS
    lower, upper = bootstrap_interval(*samples, statistic=contrast) if has_interval else (np.nan, np.nan)
    return {"contrast": float(contrast(*samples)), "lower": float(lower), "upper": float(upper)}
