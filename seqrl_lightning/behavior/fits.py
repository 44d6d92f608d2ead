"""Fits of a model to all subjects at once: maximum likelihood, maximum a posteriori, and hierarchical.

All three maximize a log-likelihood plus the logarithm of a normal prior, on the scale without bounds. The prior is flat
for maximum likelihood, the model's own for maximum a posteriori, and the group's for the hierarchical fit:
expectation-maximization finds the group's mean and variance, with Laplace's approximation of each subject's posterior
(Huys et al. 2011, 10.1371/journal.pcbi.1002028, appendix).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.likelihood import log_likelihood
from seqrl_lightning.behavior.model import Model
from seqrl_lightning.behavior.newton import Maximum, Objective, derivatives, maximize, positive_definite
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray, require

METHODS = ("hierarchical", "map", "ml")
MIN_SUBJECTS = 5
"""Fewest subjects of a group whose distribution is estimated."""

_REACH = 5.0  # how far from the mean of the prior that it starts from a fit goes, in standard deviations
_DRAWS = 24  # from the prior, of which the best is the start of a fit
_MAX_ROUNDS = 200  # of expectation-maximization
_STEPS_A_ROUND = 3  # of Newton's method
_TOLERANCE = 5e-3  # of a round's gain in the log-evidence of all subjects
_LEAST_VARIANCE = 1e-4
_UNDETERMINED = 10.0  # standard error on the scale without bounds, beyond which the likelihood is flat


@dataclass(frozen=True)
class Prior:
    """A normal distribution of each subject's parameters, on the scale without bounds."""

    mean: FloatArray  # [N, P] float64
    sd: FloatArray  # [N, P] float64; infinite where it is flat

    def log_density(self, points: FloatArray, subjects: Array) -> FloatArray:
        """Return the logarithm of the density at points [K, M, P] as [K, M]; flat directions add 0."""
        mean, sd = self.mean[subjects], self.sd[subjects]
        is_flat = np.isinf(sd)
        terms = -0.5 * ((points - mean) / sd) ** 2 - np.log(np.where(is_flat, 1.0, sd * np.sqrt(2 * np.pi)))
        total: FloatArray = terms.sum(-1)
        return total


@dataclass(frozen=True)
class GroupLevel:
    """The normal distributions of the parameters in G groups, on the scale without bounds."""

    names: tuple[str, ...]  # G
    mean: FloatArray  # [G, P] float64
    sd: FloatArray  # [G, P] float64
    mean_error: FloatArray  # [G, P] float64: standard errors of the means
    num_subjects: IntArray  # [G] int64


@dataclass(frozen=True)
class Fit:
    """A model, fitted to N subjects."""

    model: Model
    method: str
    subjects: tuple[str, ...]
    num_choices: IntArray  # [N] int64: those that counted
    points: FloatArray  # [N, P] float64: the parameters, on the scale without bounds
    covariance: FloatArray  # [N, P, P] float64: of the parameters on that scale, by Laplace's approximation
    log_likelihood: FloatArray  # [N] float64
    log_evidence: FloatArray  # [N] float64: of the marginal likelihood, by Laplace's approximation; NaN for ml
    group_level: GroupLevel | None = None

    @property
    def num_parameters(self) -> int:
        """P."""
        return len(self.model.free)

    @property
    def parameters(self) -> pd.DataFrame:
        """The parameters of each subject, a row for each."""
        columns = {name: spec.bounded(self.points[:, i]) for i, (name, spec) in enumerate(self.model.free.items())}
        return pd.DataFrame(columns, index=pd.Index(self.subjects, name="subject"))

    @property
    def standard_errors(self) -> pd.DataFrame:
        """The standard errors of :attr:`parameters`, by the delta method; NaN where the choices don't determine it."""
        errors = np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))
        errors = np.where(errors < _UNDETERMINED, errors, np.nan)
        specs = enumerate(self.model.free.items())
        columns = {name: spec.slope(self.points[:, i]) * errors[:, i] for i, (name, spec) in specs}
        return pd.DataFrame(columns, index=pd.Index(self.subjects, name="subject"))

    @property
    def aic(self) -> FloatArray:
        """Akaike's information criterion of each subject, [N]: 2 P - 2 log L."""
        return 2 * self.num_parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> FloatArray:
        """The Bayesian information criterion of each subject, [N]: P log(choices) - 2 log L."""
        criterion: FloatArray = self.num_parameters * np.log(self.num_choices) - 2 * self.log_likelihood
        return criterion

    @property
    def integrated_bic(self) -> float:
        """The integrated BIC of a hierarchical fit: (means and variances) log(all choices) - 2 log evidence."""
        num_hyper = 0 if self.group_level is None else 2 * self.group_level.mean.size
        return float(num_hyper * np.log(self.num_choices.sum()) - 2 * self.log_evidence.sum())


def fit(
    model: Model, histories: Histories, method: str = "hierarchical", counted: BoolArray | None = None, seed: int = 0
) -> Fit:
    """Fit a model to all subjects.

    Args:
        model: The model.
        histories: The choices of N subjects.
        method: ``hierarchical``, ``map`` or ``ml``.
        counted: [T, N] bool: the choices to fit; by default, all. The model learns from the others, too.
        seed: Seed of the starting points.

    Raises:
        ConfigurationError: If the method isn't one, or there are too few subjects for it.
    """
    require_known("--method", method, METHODS)
    prior = _scaled_prior(model, histories)
    posterior = _Posterior(model, histories, counted, prior)
    start = posterior.best_draw(prior, seed)
    if method == "ml":
        prior = Prior(prior.mean, np.full_like(prior.sd, np.inf))
    found = posterior.maximum(prior, start)
    group_level = None
    if method == "hierarchical":
        fewest = _fewest_subjects(histories)
        must_be = f"map or ml for fewer than {MIN_SUBJECTS} subjects in a group"
        require(fewest >= MIN_SUBJECTS, "--method", method, must_be)
        found, group_level = _fit_groups(posterior, found)
    has_evidence = method != "ml" or not model.free
    return Fit(
        model,
        method,
        histories.subjects,
        posterior.num_choices,
        found.point,
        np.linalg.inv(found.curvature),
        posterior.log_likelihood(found.point),
        _log_evidence(found) if has_evidence else np.full(len(start), np.nan),
        group_level,
    )


def default_method(histories: Histories) -> str:
    """Return the method for a table: hierarchical, if each group has enough subjects."""
    return "hierarchical" if _fewest_subjects(histories) >= MIN_SUBJECTS else "map"


def _fewest_subjects(histories: Histories) -> int:
    return int(np.bincount(histories.group).min())


def own_prior(model: Model, num_subjects: int) -> Prior:
    """Return the model's own prior, for each subject."""
    mean, sd = [spec.mean for spec in model.free.values()], [spec.sd for spec in model.free.values()]
    return Prior(np.tile(mean, (num_subjects, 1)), np.tile(sd, (num_subjects, 1)))


def _scaled_prior(model: Model, histories: Histories) -> Prior:
    """Return the model's own prior, as it is for rewards of the table's size."""
    prior = own_prior(model, histories.num_subjects)
    largest = float(np.abs(histories.reward).max()) or 1.0
    is_per_reward = np.array([spec.per_reward for spec in model.free.values()], bool)
    return Prior(prior.mean - np.where(is_per_reward, np.log(largest), 0.0), prior.sd)


class _Posterior:
    """The posterior of the parameters of N subjects, not farther from the mean of a prior than some of its SDs."""

    def __init__(self, model: Model, histories: Histories, counted: BoolArray | None, around: Prior) -> None:
        self.groups, self.group = histories.groups, histories.group
        self._model, self._histories = model, histories
        self._counted = histories.is_choice if counted is None else counted & histories.is_choice
        self.num_choices: IntArray = self._counted.sum(0)
        self._lower, self._upper = (around.mean[0] + reach * around.sd[0] for reach in (-_REACH, _REACH))

    def log_likelihood(self, points: FloatArray) -> FloatArray:
        """Return the log-likelihood of each subject at a point, [N, P] -> [N]."""
        return np.asarray(log_likelihood(self._model, self._histories, points[None], self._counted)[0])

    def best_draw(self, prior: Prior, seed: int) -> FloatArray:
        """Return the best of some draws from the prior for each subject, [N, P]; its mean is among them."""
        noise = np.random.default_rng(seed).normal(size=(_DRAWS, 1, prior.mean.shape[1]))
        points = np.clip(prior.mean + np.concatenate([0 * noise[:1], noise]) * prior.sd, self._lower, self._upper)
        best = log_likelihood(self._model, self._histories, points, self._counted).argmax(0)
        return np.asarray(points[best, np.arange(len(best))])

    def maximum(self, prior: Prior, start: FloatArray, max_steps: int = 100) -> Maximum:
        """Find the maximum near a point, [N, P]."""
        return maximize(self._objective(prior), start, self._lower, self._upper, max_steps)

    def exact_curvature(self, prior: Prior, found: Maximum) -> Maximum:
        """Return a maximum with the value and the curvature at its very point."""
        value, _, hessian = derivatives(self._objective(prior), found.point, np.arange(len(found.point)))
        return Maximum(found.point, value, positive_definite(-hessian))

    def _objective(self, prior: Prior) -> Objective:
        def log_posterior(points: FloatArray, subjects: Array) -> FloatArray:
            is_all = len(subjects) == len(self.group)
            histories = self._histories if is_all else self._histories.take(subjects)
            likelihood = log_likelihood(self._model, histories, points, self._counted[:, subjects])
            return np.asarray(likelihood + prior.log_density(points, subjects))

        return log_posterior


def _log_evidence(found: Maximum) -> FloatArray:
    """Return Laplace's approximation of the log of the marginal likelihood, [N]."""
    constant = 0.5 * found.point.shape[1] * np.log(2 * np.pi)
    return np.asarray(found.value + constant - 0.5 * np.linalg.slogdet(found.curvature)[1])


def _fit_groups(posterior: _Posterior, found: Maximum) -> tuple[Maximum, GroupLevel]:
    """Find each group's mean and variance by expectation-maximization, from a maximum under another prior."""
    num_groups, group = len(posterior.groups), posterior.group
    members = [group == g for g in range(num_groups)]
    reached = -np.inf
    for _ in range(_MAX_ROUNDS):
        variance = np.diagonal(np.linalg.inv(found.curvature), axis1=1, axis2=2)
        mean = np.array([found.point[those].mean(0) for those in members])
        spread = (found.point - mean[group]) ** 2 + variance
        sd = np.sqrt(np.maximum([spread[those].mean(0) for those in members], _LEAST_VARIANCE))
        prior = Prior(mean[group], sd[group])
        found = posterior.maximum(prior, found.point, _STEPS_A_ROUND)
        before, reached = reached, float(_log_evidence(found).sum())
        if reached - before < _TOLERANCE:
            break
    found = posterior.exact_curvature(prior, posterior.maximum(prior, found.point))
    errors = np.array([_mean_error(found.curvature[those], sd[g]) for g, those in enumerate(members)])
    return found, GroupLevel(posterior.groups, mean, sd, errors, np.bincount(group))


def _mean_error(curvature: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the standard errors of a group's means, [P].

    Subject i's data L_i (the likelihood's curvature) tell of the mean as much as a measurement with the covariance
    Sigma + L_i^-1, the inverse of which is Sigma^-1 - Sigma^-1 S_i Sigma^-1, where S_i is the posterior's covariance.
    The maximum of the likelihood has too small a variance Sigma: of n subjects, it finds (n - 1) / n of the true one.
    """
    num_subjects = len(curvature)
    precision = np.diag(1 / sd**2)
    information = (precision - precision @ np.linalg.inv(curvature) @ precision).sum(0)
    variance = np.diagonal(np.linalg.inv(positive_definite(information[None])[0]))
    return np.asarray(np.sqrt(variance * num_subjects / (num_subjects - 1)))
