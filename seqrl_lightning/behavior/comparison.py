"""Comparison of models that were fitted to the same choices, and of groups of subjects."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import digamma, gammaln, logsumexp

from seqrl_lightning.behavior.fits import Fit, fit
from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.likelihood import log_likelihood
from seqrl_lightning.behavior.model import Model
from seqrl_lightning.types import FloatArray, require

_SAMPLES = 100_000  # of the frequencies of models, for exceedance probabilities
_MAX_ROUNDS = 1000
_TOLERANCE = 1e-6


def chance_log_likelihood(histories: Histories) -> FloatArray:
    """Return the log-likelihood of each subject's choices if all allowed actions are as probable, [N]."""
    total: FloatArray = np.where(histories.is_choice, -np.log(histories.allowed.sum(2)), 0.0).sum(0)
    return total


def criteria(fits: Mapping[str, Fit], histories: Histories) -> pd.DataFrame:
    """Measure each fit of each subject.

    Args:
        fits: The fits, by the model's name.
        histories: The choices they were fitted to.

    Returns:
        A row for each subject and model: ``log_likelihood``, ``AIC``, ``BIC``, ``pseudo_r2`` (McFadden's: 1 - log L /
        log L of chance), the ``p`` value of a likelihood-ratio test against chance, which holds for fits by maximum
        likelihood and is NaN for others, and ``is_best``: whether the model has the subject's lowest BIC.
    """
    chance = chance_log_likelihood(histories)
    tables = []
    for name, found in fits.items():
        ratio = 2 * (found.log_likelihood - chance)
        is_tested = found.method == "ml" and found.num_parameters > 0
        columns = {
            "subject": histories.subjects,
            "model": name,
            "log_likelihood": found.log_likelihood,
            "AIC": found.aic,
            "BIC": found.bic,
            "pseudo_r2": 1 - found.log_likelihood / np.where(chance < 0, chance, np.nan),
            "p": stats.chi2.sf(ratio, found.num_parameters) if is_tested else np.nan,
        }
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables).set_index(["subject", "model"])
    table["is_best"] = table["BIC"] == table.groupby("subject")["BIC"].transform("min")
    return table


def held_out(model: Model, histories: Histories, method: str, seed: int = 0) -> FloatArray:
    """Compute the log-likelihood of choices that the parameters were not fitted to.

    Each session or block is left out once: the parameters are fitted to the others, while the model goes through all of
    them in their order, so that it knows what the subject knew.

    Args:
        model: The model.
        histories: The choices of N subjects.
        method: As in :func:`seqrl_lightning.behavior.fits.fit`.
        seed: Seed of the fits.

    Returns:
        [N] float64: for each subject, the sum over its sessions or blocks.

    Raises:
        ConfigurationError: If a subject has fewer than two of them.
    """
    require_folds(histories)
    total = np.zeros(histories.num_subjects)
    for fold in range(int(histories.fold.max()) + 1):
        is_left_out = histories.fold == fold
        found = fit(model, histories, method, ~is_left_out, seed)
        total += log_likelihood(model, histories, found.points[None], is_left_out)[0]
    return total


def require_folds(histories: Histories) -> None:
    """Refuse a cross-validation without anything to leave out.

    Raises:
        ConfigurationError: If a subject has fewer than two sessions or blocks.
    """
    fewest = int(np.where(histories.is_choice, histories.fold, 0).max(0).min()) + 1
    require(fewest > 1, "the number of sessions or blocks of a subject", fewest, "at least 2 for --cross_validate")


class Selection(NamedTuple):
    """The frequencies of K models in the population that N subjects come from."""

    frequency: FloatArray  # [K] float64: posterior means
    exceedance: FloatArray  # [K] float64: probability that the model is the most frequent one
    protected: FloatArray  # [K] float64: the same, if the models may also be equally frequent
    equal: float  # Bayesian omnibus risk: the probability that they are


def random_effects_selection(log_evidence: FloatArray, seed: int = 0) -> Selection:
    """Select among models by random effects: different subjects may follow different ones.

    Stephan et al. (2009, 10.1016/j.neuroimage.2009.03.025), with protected exceedance probabilities (Rigoux et al.
    2014, 10.1016/j.neuroimage.2013.08.065).

    Args:
        log_evidence: [N, K] float64: the log of each model's evidence for each subject.
        seed: Seed of the samples of exceedance probabilities.

    >>> selection = random_effects_selection(np.array([[0.0, -9.0]] * 12))
    >>> selection.frequency.round(2), bool(selection.protected[0] > 0.99)
    (array([0.93, 0.07]), True)
    """
    num_models = log_evidence.shape[1]
    prior = np.ones(num_models)
    alpha = prior
    for _ in range(_MAX_ROUNDS):
        shares = _shares(log_evidence, alpha)
        before, alpha = alpha, prior + shares.sum(0)
        if np.abs(alpha - before).max() < _TOLERANCE:
            break
    shares = _shares(log_evidence, alpha)
    drawn = np.random.default_rng(seed).dirichlet(alpha, _SAMPLES)
    exceedance = np.bincount(drawn.argmax(1), minlength=num_models) / _SAMPLES
    null = float((logsumexp(log_evidence, 1) - np.log(num_models)).sum())
    equal = float(1 / (1 + np.exp(np.clip(_free_energy(log_evidence, alpha, shares) - null, -700, 700))))
    return Selection(alpha / alpha.sum(), exceedance, (1 - equal) * exceedance + equal / num_models, equal)


def _shares(log_evidence: FloatArray, alpha: FloatArray) -> FloatArray:
    """Return the probability that each subject follows each model, [N, K]."""
    logits = log_evidence + digamma(alpha) - digamma(alpha.sum())
    shares: FloatArray = np.exp(logits - logsumexp(logits, 1, keepdims=True))
    return shares


def _free_energy(log_evidence: FloatArray, alpha: FloatArray, shares: FloatArray) -> float:
    """Return the lower bound of the log-evidence that frequencies differ, from a uniform prior of them."""
    mean_log = digamma(alpha) - digamma(alpha.sum())
    energy = (shares * (log_evidence + mean_log)).sum() + gammaln(len(alpha))
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum()
    entropy += gammaln(alpha).sum() - gammaln(alpha.sum()) - ((alpha - 1) * mean_log).sum()
    return float(energy + entropy)


def compare_groups(found: Fit) -> pd.DataFrame:
    """Compare the means of groups, by Welch's t-tests on the scale without bounds.

    Args:
        found: A hierarchical fit.

    Returns:
        A row for each pair of groups and parameter: both means within the parameter's bounds (they are medians of the
        groups), their ``difference`` on the scale without bounds with its ``error``, ``t``, the degrees of freedom
        ``df`` and ``p``.
    """
    level = found.group_level
    assert level is not None
    rows = []
    for one, other in combinations(range(len(level.names)), 2):
        difference = level.mean[one] - level.mean[other]
        pair = [one, other]
        error = np.hypot(*level.mean_error[pair])
        df = error**4 / (level.mean_error[pair] ** 4 / (level.num_subjects[pair, None] - 1)).sum(0)
        for i, (name, spec) in enumerate(found.model.free.items()):
            t = difference[i] / error[i]
            medians = (float(spec.bounded(level.mean[g, i])) for g in (one, other))
            p = 2 * stats.t.sf(abs(t), df[i])
            rows.append((name, level.names[one], level.names[other], *medians, difference[i], error[i], t, df[i], p))
    measured = ["median", "median_other", "difference", "error", "t", "df", "p"]
    return pd.DataFrame(rows, columns=["parameter", "group", "other", *measured]).set_index("parameter")
