"""Simulated subjects in the task of a table, as far as the table tells of it."""

from typing import NamedTuple

import numpy as np

from seqrl_lightning.behavior.histories import Histories, Trial
from seqrl_lightning.behavior.likelihood import Learners, parameters_at, size_of
from seqrl_lightning.behavior.model import Model
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray

_NEAR = 10.0  # trials: how far in time an outcome is copied from, on average
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
    state, end of the episode) is that of a row of the same subject with the same action in the same state, near in time
    and of the same session or block if there is one, so that a reversal stays where it was. Where each choice is an
    episode, states follow as in the table, and if it tells the right action, an outcome is copied from a choice that
    was right, or one that was wrong. For an action that the subject never chose in the state, it is the row with the
    least reward there.
    """

    def __init__(self, histories: Histories, seed: int) -> None:
        self._told = histories
        self._rng = np.random.default_rng(seed)
        self._subject = np.arange(histories.num_subjects)
        tells_right = bool((histories.correct_action >= 0)[histories.is_choice].all())
        self._copies_by_right = tells_right and bool(histories.is_last.all())
        choices = self._choices(histories.state, histories.action, histories.correct_action)
        self._starts = _Rows(self._subject + 0 * histories.state, histories.is_first & histories.is_choice)
        self._in_fold = _Rows(self._of_fold(choices, histories.fold), histories.is_choice)
        self._anywhere = _Rows(choices, histories.is_choice)
        self._worst = self._worst_rows()

    def begin(self, t: int) -> IntArray:
        """Return the table's trial that an episode begins with at trial t, [N]."""
        return self._starts.nearest(self._subject, np.full(len(self._subject), t))

    def shown(self, row: IntArray) -> dict[str, Array]:
        """Return what the table's trials [N] show before the choice."""
        return {name: getattr(self._told, name)[row, self._subject] for name in _SHOWN}

    def answer(self, t: int, state: IntArray, action: IntArray) -> Outcome:
        """Return what follows the actions [N] in the states [N] at trial t."""
        told = self._told
        choices = self._choices(state, action, told.correct_action[t])
        time = t + np.rint(self._rng.laplace(0.0, _NEAR, len(choices))).astype(np.int64)
        row = self._in_fold.nearest(self._of_fold(choices, told.fold[t]), time)
        row = np.where(row < 0, self._anywhere.nearest(choices, time), row)
        row = np.where(row < 0, self._worst[state, self._subject], row)
        copied = row, self._subject
        correct = told.correct_action[t] if self._copies_by_right else told.correct_action[copied]
        return Outcome(row, told.reward[copied], told.is_last[copied], correct)

    def _choices(self, state: IntArray, action: IntArray, correct_action: IntArray) -> IntArray:
        """Number the kinds of choices, of which each subject's have the same outcomes, [..., N]."""
        if self._copies_by_right:
            return np.asarray(2 * self._subject + (action == correct_action))
        return np.asarray((self._subject * self._told.num_states + state) * self._told.num_actions + action)

    def _of_fold(self, choices: IntArray, fold: IntArray) -> IntArray:
        return np.asarray(choices * (int(self._told.fold.max()) + 1) + fold)

    def _worst_rows(self) -> IntArray:
        """Return the trial with the least reward in each state, [S, N]."""
        told = self._told
        worst = np.zeros((told.num_states, told.num_subjects), np.int64)
        time, subject = np.nonzero(told.is_choice)
        order = np.argsort(-told.reward[time, subject], kind="stable")  # so that the least is written last
        time, subject = time[order], subject[order]
        worst[told.state[time, subject], subject] = time
        return worst


class _Rows:
    """Trials of a table, to find the one of a kind that is nearest in time.

    Args:
        kind: [T, N] int64: the kind of each row; no two subjects have one in common.
        is_row: [T, N] bool: the rows to find.
    """

    def __init__(self, kind: IntArray, is_row: BoolArray) -> None:
        self._length = len(kind)
        time = np.nonzero(is_row)[0]
        self._codes = np.sort(kind[is_row] * self._length + time)  # by kind, and then by time

    def nearest(self, kind: IntArray, time: IntArray) -> IntArray:
        """Return the trial of each kind [M] that is nearest to a time [M]; -1 where there is none."""
        wanted = kind * self._length + np.clip(time, 0, self._length - 1)
        after = np.searchsorted(self._codes, wanted)
        found = self._codes[np.clip(np.stack([after - 1, after]), 0, len(self._codes) - 1)]
        distance = np.where(found // self._length == kind, np.abs(found - wanted), np.inf)
        best = np.where(distance[0] <= distance[1], found[0], found[1])
        return np.where(np.isinf(distance.min(0)), -1, best % self._length)


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
