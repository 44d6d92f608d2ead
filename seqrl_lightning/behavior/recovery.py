"""Recovery of parameters and of models, in a table's own task and with its number of subjects and trials.

Wilson and Collins (2019, eLife 8:e49547), rules 4 and 5: subjects are simulated, and fitted as the real ones were.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.fits import Fit, fit
from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.simulation import simulate
from seqrl_lightning.types import FloatArray

LEAST_CORRELATION = 0.7
"""Of true and recovered parameters; below it, reports warn that a parameter can't be recovered."""


def draw_points(found: Fit, histories: Histories, seed: int) -> FloatArray:
    """Draw parameters for N subjects from the distribution that a fit found, on the scale without bounds.

    It is the subject's group's normal distribution or, without a hierarchical fit, the one with the mean and the
    standard deviation of all subjects' parameters.

    Returns:
        [N, P] float64.
    """
    noise = np.random.default_rng(seed).normal(size=found.points.shape)
    if (level := found.group_level) is not None:
        return np.asarray(level.mean[histories.group] + level.sd[histories.group] * noise)
    return np.asarray(found.points.mean(0) + found.points.std(0) * noise)


def recover_parameters(found: Fit, histories: Histories, seed: int = 0) -> pd.DataFrame:
    """Simulate the table's subjects with drawn parameters, and fit the model to them in the same way.

    Args:
        found: The model's fit to the table.
        histories: The table.
        seed: Seed of the parameters and of the simulation.

    Returns:
        A row for each subject and parameter, with the columns ``subject``, ``parameter``, ``true`` and ``found``,
        within the parameter's bounds, and ``true_unbounded`` and ``found_unbounded``.
    """
    true = draw_points(found, histories, seed)
    again = fit(found.model, simulate(found.model, histories, true, seed), found.method, seed=seed)
    tables = []
    for i, (name, spec) in enumerate(found.model.free.items()):
        table = pd.DataFrame({"subject": found.subjects, "parameter": name})
        for kind, points in (("true", true[:, i]), ("found", again.points[:, i])):
            table[kind], table[f"{kind}_unbounded"] = spec.bounded(points), points
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def summarize_recovery(recovered: pd.DataFrame) -> pd.DataFrame:
    """Summarize how well parameters are recovered.

    Args:
        recovered: As from :func:`recover_parameters`.

    Returns:
        A row for each parameter: the ``correlation`` of true and found ones and the mean ``error``, found less true,
        both on the scale without bounds, and whether it ``is_recovered``: the correlation is at least 0.7. Without
        differences between subjects, as with a single one, the correlation is NaN.
    """
    rows = {}
    for name, of_one in recovered.groupby("parameter", sort=False):
        true, found = of_one["true_unbounded"], of_one["found_unbounded"]
        varies = true.std() > 0 and found.std() > 0
        correlation = float(np.corrcoef(true, found)[0, 1]) if varies else np.nan
        rows[name] = correlation, float((found - true).mean()), correlation >= LEAST_CORRELATION
    columns = ["correlation", "error", "is_recovered"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("parameter")


def evidence(found: Fit) -> FloatArray:
    """Return what models are selected by, [N]: the log-evidence or, for maximum likelihood, -BIC / 2."""
    return -found.bic / 2 if found.method == "ml" else found.log_evidence


def recover_models(fits: Mapping[str, Fit], histories: Histories, seed: int = 0) -> pd.DataFrame:
    """Simulate the table's subjects with each model, and fit all models to each.

    Args:
        fits: The models' fits to the table, by name.
        histories: The table.
        seed: Seed of the parameters and of the simulations.

    Returns:
        The confusion matrix: a row for each simulated model and a column for each fitted one, with the fraction of
        subjects for whom it had the most :func:`evidence`.
    """
    rows = {}
    for number, (name, found) in enumerate(fits.items()):
        stream = seed + number
        simulated = simulate(found.model, histories, draw_points(found, histories, stream), stream)
        again = [evidence(fit(other.model, simulated, other.method, seed=seed)) for other in fits.values()]
        best = np.argmax(again, axis=0)
        rows[name] = np.bincount(best, minlength=len(fits)) / histories.num_subjects
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(fits)).rename_axis("simulated")


def inversion(confusion: pd.DataFrame) -> pd.DataFrame:
    """Return the probability that a row's model was simulated if a column's fits best, for equally frequent models.

    >>> inversion(pd.DataFrame([[0.9, 0.1], [0.3, 0.7]])).round(3).to_numpy().tolist()
    [[0.75, 0.125], [0.25, 0.875]]
    """
    return confusion / confusion.sum().where(lambda total: total > 0)
