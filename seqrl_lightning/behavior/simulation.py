"""Simulated subjects in the task of a table, as far as the table tells of it."""

from typing import NamedTuple

import numpy as np

from seqrl_lightning.behavior.histories import Histories, Trial
from seqrl_lightning.behavior.likelihood import Learners, parameters_at, size_of
from seqrl_lightning.behavior.model import Model
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray

_NEAR = 10.0  # trials: how far in time an outcome is copied from, on average
_OTHER_FOLD = 1e6  # how far away a row of another session or block is: it is taken only if there is no other
_SHOWN = ("state", "allowed", "set_size")  # what a row shows before the choice


class Outcome(NamedTuple):
    """What follows a choice of each of N subjects."""

    row: IntArray  # [N] int64: the trial of the table that it was copied from
    reward: Array  # [N] float64
    is_last: BoolArray  # [N] bool
    correct_action: IntArray  # [N] int64


class TableTask:
    """The task of a table, for the same subjects: states and outcomes are copied from its rows.

    An episode begins as the subject's episode that began at about that time. The outcome of a choice (reward, next
    state, end of the episode) is that of a row of the same subject with the same action in the same state, drawn among
    the nearer ones in time, so that a reversal stays where it was. Where each choice is an episode, states follow as in
    the table, and if it tells the right action, an outcome is copied from a choice that was right, or one that was
    wrong. For an action that the subject never chose in the state, it is the row with the least reward there.
    """

    def __init__(self, histories: Histories, seed: int) -> None:
        self._told = histories
        self._rng = np.random.default_rng(seed)
        self._subject = np.arange(histories.num_subjects)
        self._time = np.arange(len(histories.state))[:, None]
        self._is_right = histories.action == histories.correct_action
        tells_right = bool((histories.correct_action >= 0)[histories.is_choice].all())
        self._copies_by_right = tells_right and bool(histories.is_last.all())

    def begin(self, t: int) -> IntArray:
        """Return the table's trial that an episode begins with at trial t, [N]."""
        is_start = self._told.is_first & self._told.is_choice
        return np.asarray(np.where(is_start, np.abs(self._time - t), np.inf).argmin(0))

    def shown(self, row: IntArray) -> dict[str, Array]:
        """Return what the table's trials [N] show before the choice."""
        return {name: getattr(self._told, name)[row, self._subject] for name in _SHOWN}

    def answer(self, t: int, state: IntArray, action: IntArray) -> Outcome:
        """Return what follows the actions [N] in the states [N] at trial t."""
        told = self._told
        if self._copies_by_right:
            matches = self._is_right == (action == told.correct_action[t])
        else:
            matches = (told.state == state) & (told.action == action)
        away = np.abs(self._time - t) / _NEAR + _OTHER_FOLD * (told.fold != told.fold[t])
        nearness = self._rng.gumbel(size=told.state.shape) - away
        score = np.where(matches & told.is_choice, nearness, -np.inf)
        row = score.argmax(0)
        is_new = np.isneginf(score.max(0))
        if is_new.any():
            reward = np.where((told.state == state) & told.is_choice, told.reward, np.inf)
            row = np.where(is_new, reward.argmin(0), row)
        copied = row, self._subject
        correct = told.correct_action[t] if self._copies_by_right else told.correct_action[copied]
        return Outcome(row, told.reward[copied], told.is_last[copied], correct)


def simulate(model: Model, histories: Histories, points: FloatArray, seed: int) -> Histories:
    """Simulate N subjects in the task of a table: as many trials as each of the table's subjects has.

    Args:
        model: The model that they follow.
        histories: The table.
        points: [N, P] float64: their parameters, on the scale without bounds.
        seed: Seed of the choices and of the outcomes.
    """
    task = TableTask(histories, seed)
    rng = np.random.default_rng([seed, 1])  # not the task's stream
    learners = Learners(model, parameters_at(model, points), size_of(histories))
    number = np.arange(histories.num_subjects)
    position, is_first, row = 0 * number, number >= 0, task.begin(0)
    trials: list[Trial] = []
    correct: list[IntArray] = []
    for t, told in enumerate(histories.trials()):
        shown = told._replace(**task.shown(row), position=position, is_first=is_first, action=0 * number - 1)
        with np.errstate(divide="ignore"):  # actions that are not allowed
            logits = np.log(learners.probabilities(shown))
        action = (logits + rng.gumbel(size=logits.shape)).argmax(1)
        outcome = task.answer(t, shown.state, action)
        is_last = outcome.is_last | (position + 1 == histories.num_positions)
        following = np.where(is_last, outcome.row, outcome.row + 1)
        next_state = np.where(is_last, shown.state, histories.state[following, number])
        trial = shown._replace(action=action, reward=outcome.reward, next_state=next_state, is_last=is_last)
        learners.update(trial)
        trials.append(trial)
        correct.append(outcome.correct_action)
        row = np.where(is_last, task.begin(t + 1), following)
        position, is_first = np.where(is_last, 0, position + 1), is_last
    columns = {name: np.stack([getattr(trial, name) for trial in trials]) for name in Trial._fields if name != "row"}
    return histories.with_columns(**columns, correct_action=np.stack(correct))
