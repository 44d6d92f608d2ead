"""The probability of choices under a model, for all subjects at once: the only loop is over trials."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.histories import NO_ACTION, Histories, Trial
from seqrl_lightning.behavior.model import Latents, Model, Parameters, Size
from seqrl_lightning.types import BoolArray, ConfigurationError, FloatArray, require

_LEAST = 1e-12  # of a probability, so that none has an infinite logarithm


class Learners:
    """B subjects that follow a model: they choose by its probabilities, and learn.

    What every model can have is added here: perseveration and lapses.

    Args:
        model: The model.
        p: Its parameters, [B] float64 each.
        size: The sizes of what it remembers.
    """

    def __init__(self, model: Model, p: Parameters, size: Size) -> None:
        self._model, self._p = model, p
        with self._method("begin"):
            self._memory = model.begin(size)
        self._last = np.full((size.subjects, size.states), -1) if "perseveration" in p else None

    def probabilities(self, trial: Trial) -> FloatArray:
        """Return the probability of each action in a trial, [B, A] float64.

        Raises:
            ConfigurationError: If the model's can't be computed, are of another shape, negative, or not finite.
        """
        with self._method("probabilities"):
            chosen = np.asarray(self._model.probabilities(self._memory, self._p, trial))
        if chosen.shape != trial.allowed.shape:
            self._refuse(f"of shape {chosen.shape}", f"[B, A] = {trial.allowed.shape}")
        if (chosen < 0).any():
            self._refuse(f"{chosen.min():.3g} in one place", "from 0 to 1 everywhere")
        if self._last is not None:
            is_last = np.arange(chosen.shape[1]) == self._last[trial.row, trial.state][:, None]
            chosen = np.where(is_last, np.exp(self._p["perseveration"])[:, None] * chosen, chosen)
        chosen = np.where(trial.allowed, np.maximum(chosen, _LEAST), 0.0)
        total = chosen.sum(1, keepdims=True)
        if not np.isfinite(total).all():
            self._refuse("not all finite", "so for all parameters within their bounds")
        chosen /= total
        if "lapse" in self._p:
            lapse = self._p["lapse"][:, None]
            chosen = (1 - lapse) * chosen + lapse * trial.allowed / trial.allowed.sum(1, keepdims=True)
        return chosen

    def _refuse(self, found: str, must_be: str) -> NoReturn:
        raise ConfigurationError(f"the array of probabilities of {self._model.name} is {found}; it must be {must_be}")

    @contextmanager
    def _method(self, name: str) -> Iterator[None]:
        """Name the model and the method in errors of its code, which may be a user's."""
        try:
            yield
        except ConfigurationError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error} (SEQRL_TRACEBACK=1 shows where)"
            raise ConfigurationError(f"the method {name} of {self._model.name} raised {what}") from error

    def update(self, trial: Trial) -> Latents:
        """Learn from the choice and the reward; nothing is learned or forgotten in a missed trial."""
        is_missed = trial.action == NO_ACTION
        if is_missed.any():
            return self._update_others(trial, is_missed)
        with self._method("update"):
            latents = self._model.update(self._memory, self._p, trial)
            shapes = {name: np.shape(values) for name, values in latents.items()}
        wrong = {name: shape for name, shape in shapes.items() if shape != trial.row.shape}
        require(not wrong, f"the shape of latents of {self._model.name}", wrong, f"[B] = {trial.row.shape}")
        if self._last is not None:
            self._last[trial.row, trial.state] = trial.action
        return latents

    def _update_others(self, trial: Trial, is_missed: BoolArray) -> Latents:
        """Update all but some subjects: a model need not know of missed trials."""
        # Copies, because a model may keep an array of the trial, and what it keeps is changed below.
        trial = Trial(**{name: column.copy() for name, column in trial._asdict().items()})
        trial = trial._replace(action=np.where(is_missed, 0, trial.action))
        kept = {name: values[is_missed] for name, values in self._memory.items()}
        last = None if self._last is None else self._last[is_missed]
        latents = self.update(trial)
        for name, values in kept.items():
            self._memory[name][is_missed] = values
        if self._last is not None:
            self._last[is_missed] = last
        return {name: np.where(is_missed, np.nan, values) for name, values in latents.items()}


def parameters_at(model: Model, points: FloatArray) -> Parameters:
    """Return the parameters at points on the scale without bounds.

    Args:
        model: The model.
        points: [..., P] float64.

    Returns:
        [points] float64 each, in their order.
    """
    return {name: spec.bounded(points[..., i].ravel()) for i, (name, spec) in enumerate(model.free.items())}


def size_of(histories: Histories, copies: int = 1) -> Size:
    """Return the sizes of what a model remembers of the histories, ``copies`` times each."""
    subjects = copies * histories.num_subjects
    return Size(subjects, histories.num_states, histories.num_actions, histories.num_positions)


def log_likelihood(
    model: Model, histories: Histories, points: FloatArray, counted: BoolArray | None = None
) -> FloatArray:
    """Compute the log-likelihood of each subject's choices at K points at once.

    Args:
        model: The model.
        histories: The choices of N subjects.
        points: [K, N, P] float64, on the scale without bounds.
        counted: [T, N] bool: the choices that count; by default, all. The model learns from the others, too.

    Returns:
        [K, N] float64.
    """
    copies = len(points)
    counts = np.tile(histories.is_choice if counted is None else counted & histories.is_choice, (1, copies))
    total = np.zeros(copies * histories.num_subjects)
    walk = _walk(model, histories, parameters_at(model, points), copies)
    for (trial, probabilities, _), counts_now in zip(walk, counts, strict=True):
        total += np.where(counts_now, np.log(np.maximum(probabilities[trial.row, trial.action], _LEAST)), 0.0)
    return total.reshape(copies, histories.num_subjects)


def latents(model: Model, histories: Histories, points: FloatArray) -> pd.DataFrame:
    """Compute what a model computes in each trial, such as values and prediction errors.

    The index is that of the table that the histories were read from, so ``table.join`` puts both together.

    Args:
        model: The model.
        histories: The choices of N subjects.
        points: [N, P] float64, on the scale without bounds.

    Returns:
        A row for each row of the table, in its order and named by its number, ``row``, from 0: ``subject``,
        ``action``, ``reward``, ``probability`` of the choice, and the model's latents; NaN in missed trials. The rows
        of subjects without a choice are left out.
    """
    rows = []
    for t, (trial, probabilities, of_trial) in enumerate(_walk(model, histories, parameters_at(model, points))):
        columns = {"subject": histories.subjects, "action": trial.action, "reward": trial.reward}
        columns |= {"probability": probabilities[trial.row, trial.action]}
        # Copies, because a model may go on to change in place what it returned.
        columns |= {name: np.array(values) for name, values in of_trial.items()}
        rows.append(pd.DataFrame(columns, index=pd.Index(histories.table_row[t], name="row"))[histories.is_trial[t]])
    table = pd.concat(rows).sort_index().astype({"action": "Int64"})
    measured = table.columns.drop("subject")
    table[measured] = table[measured].mask(table["action"] == NO_ACTION)
    return table


def _walk(
    model: Model, histories: Histories, p: Parameters, copies: int = 1
) -> Iterator[tuple[Trial, FloatArray, Latents]]:
    """Yield each trial with the probabilities [B, A] of the actions, and what the model computed after the choice."""
    learners = Learners(model, p, size_of(histories, copies))
    for trial in histories.trials(copies):
        probabilities = learners.probabilities(trial)
        yield trial, probabilities, learners.update(trial)
