"""The probability of choices under a model, for all subjects at once: a loop over trials, and over nothing else."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.histories import Histories, Trial
from seqrl_lightning.behavior.model import Latents, Model, Parameters, Size
from seqrl_lightning.types import BoolArray, FloatArray

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
        self._memory = model.begin(size)
        self._last = np.full((size.subjects, size.states), -1) if "perseveration" in p else None

    def probabilities(self, trial: Trial) -> FloatArray:
        """Return the probability of each action in a trial, [B, A] float64."""
        chosen = self._model.probabilities(self._memory, self._p, trial)
        if self._last is not None:
            is_last = np.arange(chosen.shape[1]) == self._last[trial.row, trial.state][:, None]
            chosen = np.where(is_last, np.exp(self._p["perseveration"])[:, None] * chosen, chosen)
        chosen = np.where(trial.allowed, np.maximum(chosen, _LEAST), 0.0)
        chosen /= chosen.sum(1, keepdims=True)
        if "lapse" in self._p:
            lapse = self._p["lapse"][:, None]
            chosen = (1 - lapse) * chosen + lapse * trial.allowed / trial.allowed.sum(1, keepdims=True)
        return chosen

    def update(self, trial: Trial) -> Latents:
        """Learn from the choice and the reward."""
        latents = self._model.update(self._memory, self._p, trial)
        if self._last is not None:
            self._last[trial.row, trial.state] = trial.action
        return latents


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

    Args:
        model: The model.
        histories: The choices of N subjects.
        points: [N, P] float64, on the scale without bounds.

    Returns:
        A row for each choice, in each subject's order: ``subject``, ``choice`` (from 0), ``action``, ``reward``,
        ``probability`` of the choice, and the model's latents.
    """
    rows = []
    for t, (trial, probabilities, of_trial) in enumerate(_walk(model, histories, parameters_at(model, points))):
        columns = {"subject": histories.subjects, "choice": t, "action": trial.action, "reward": trial.reward}
        columns |= {"probability": probabilities[trial.row, trial.action]}
        # Copies, because a model may go on to change in place what it returned.
        columns |= {name: np.array(values) for name, values in of_trial.items()}
        rows.append(pd.DataFrame(columns)[histories.is_choice[t]])
    table = pd.concat(rows)
    order = table["subject"].map({name: i for i, name in enumerate(histories.subjects)})
    return table.iloc[np.argsort(order.to_numpy(), kind="stable")].reset_index(drop=True)


def _walk(
    model: Model, histories: Histories, p: Parameters, copies: int = 1
) -> Iterator[tuple[Trial, FloatArray, Latents]]:
    """Yield each trial with the probabilities [B, A] of the actions, and what the model computed after the choice."""
    learners = Learners(model, p, size_of(histories, copies))
    for trial in histories.trials(copies):
        probabilities = learners.probabilities(trial)
        yield trial, probabilities, learners.update(trial)
