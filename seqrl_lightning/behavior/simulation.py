"""Simulated subjects in the task of a table, as far as the table shows it."""

from typing import NamedTuple

import numpy as np

from seqrl_lightning.behavior.histories import NO_ACTION, Histories, Trial
from seqrl_lightning.behavior.likelihood import Learners, parameters_at, size_of
from seqrl_lightning.behavior.model import Model
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray

_NEAR = 5.0  # rows of a kind: how far from the nearest one an outcome is copied from, on average
_REDRAWN = 20  # rows of a kind: how much farther away one may be that was copied once less
_SHOWN = ("state", "allowed", "set_size")  # what a row shows before the choice


class Outcome(NamedTuple):
    """The outcome of one choice of each of N subjects."""

    row: IntArray  # [N] int64: the trial of the table that it was copied from
    reward: Array  # [N] float64
    is_last: BoolArray  # [N] bool
    correct_action: IntArray  # [N] int64


class TableTask:
    """The task of a table, for the same subjects: states and outcomes are copied from its rows.

    An episode begins as the subject's episode that began at about that time. The outcome of a choice (reward, next
    state, end of the episode) is that of a row of the same subject with the same action in the same state, near in time
    and of the same session or block if there is one, so that a reversal stays where it was. Where each choice is an
    episode, states follow as in the table, and if it states the right action, an outcome is copied from a choice in the
    state that was right, or one that was wrong; without one there, from such a choice in another state. For an action
    that the subject never chose in the state, it is the row with the least reward there. A trial that the subject
    missed is missed again.
    """

    def __init__(self, histories: Histories, seed: int) -> None:
        self._histories = histories
        self._rng = np.random.default_rng(seed)
        self._subject = np.arange(histories.num_subjects)
        tells_right = bool((histories.correct_action >= 0)[histories.is_choice].all())
        self._copies_by_right = tells_right and bool(histories.is_last.all())
        self._starts = _Rows(self._subject + 0 * histories.state, histories.is_first & histories.is_trial)
        kinds = self._kinds(histories.state, histories.action, histories.correct_action, histories.fold)
        self._alike = [_Rows(kind, histories.is_choice) for kind in kinds]
        self._worst = self._worst_rows()

    def begin(self, t: int) -> IntArray:
        """Return the table's trial that an episode begins with at trial t, [N]."""
        return self._starts.nearest(self._subject, np.full(len(self._subject), t))

    def shown(self, row: IntArray) -> dict[str, Array]:
        """Return what the table's trials [N] show before the choice."""
        return {name: getattr(self._histories, name)[row, self._subject] for name in _SHOWN}

    def is_missed(self, row: IntArray) -> BoolArray:
        """Return whether the table's trials [N] were missed."""
        return np.asarray(self._histories.action[row, self._subject] == NO_ACTION)

    def answer(self, t: int, shown: IntArray, action: IntArray) -> Outcome:
        """Return what follows the actions [N] at trial t, where the table's trials [N] are shown."""
        histories = self._histories
        state = histories.state[shown, self._subject]
        time, offset = np.full(len(state), t), np.rint(self._rng.laplace(0.0, _NEAR, len(state))).astype(np.int64)
        row = np.where(action == NO_ACTION, shown, -1)
        for rows, kind in zip(
            self._alike, self._kinds(state, action, histories.correct_action[t], histories.fold[t]), strict=True
        ):
            row = np.where(row < 0, rows.draw(np.where(row < 0, kind, -1), time, offset), row)
        row = np.where(row < 0, self._worst[state, self._subject], row)
        copied = row, self._subject
        correct = histories.correct_action[t] if self._copies_by_right else histories.correct_action[copied]
        return Outcome(row, histories.reward[copied], histories.is_last[copied], correct)

    def _kinds(self, state: IntArray, action: IntArray, correct_action: IntArray, fold: IntArray) -> list[IntArray]:
        """Number the choices [..., N] by what their outcomes depend on, from the narrowest kind to the widest one."""
        histories = self._histories
        in_state = self._subject * histories.num_states + state
        of_fold = int(histories.fold.max()) + 1
        if not self._copies_by_right:
            choices = in_state * histories.num_actions + action
            return [choices * of_fold + fold, choices]
        is_right = action == correct_action
        choices, anywhere = 2 * in_state + is_right, 2 * self._subject + is_right
        return [choices * of_fold + fold, choices, anywhere * of_fold + fold, anywhere]

    def _worst_rows(self) -> IntArray:
        """Return the trial with the least reward in each state, [S, N]."""
        histories = self._histories
        worst = np.zeros((histories.num_states, histories.num_subjects), np.int64)
        time, subject = np.nonzero(histories.is_choice)
        order = np.argsort(-histories.reward[time, subject], kind="stable")  # so that the least is written last
        time, subject = time[order], subject[order]
        worst[histories.state[time, subject], subject] = time
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
        self._draws = np.zeros(len(self._codes), np.int64)

    def nearest(self, kind: IntArray, time: IntArray) -> IntArray:
        """Return the trial of each kind [M] that is nearest to a time [M]; -1 where there is none."""
        wanted = kind * self._length + np.clip(time, 0, self._length - 1)
        after = np.searchsorted(self._codes, wanted)
        found = self._codes[np.clip(np.stack([after - 1, after]), 0, len(self._codes) - 1)]
        distance = np.where(found // self._length == kind, np.abs(found - wanted), np.inf)
        best = np.where(distance[0] <= distance[1], found[0], found[1])
        return np.where(np.isinf(distance.min(0)), -1, best % self._length)

    def draw(self, kind: IntArray, time: IntArray, offset: IntArray) -> IntArray:
        """Draw a trial of each kind [M], no two of them alike, ``offset`` [M] rows of the kind from a time [M].

        Offsets are reflected at the first and the last row. A row nearby that was drawn less often is preferred, so
        that the rows are drawn about equally often, and outcomes are as frequent as in the table. The row that is
        nearest in time would too often be one that stands alone, such as the last choice before a subject turned away
        from an action that was not rewarded.

        Returns:
            [M] int64; -1 where there is no trial of the kind, or the kind is -1.
        """
        first, end = (np.searchsorted(self._codes, (kind + k) * self._length) for k in (0, 1))
        count = np.where(kind >= 0, end - first, 0)
        place = np.searchsorted(self._codes, kind * self._length + time) - first + offset
        place %= np.maximum(2 * count, 1)
        place = np.minimum(place, 2 * count - 1 - place)
        number = np.arange(max(int(count.max()), 1))
        index = np.minimum(first[:, None] + number, len(self._codes) - 1)
        distance = np.abs(number - place[:, None]) + _REDRAWN * self._draws[index]
        best = first + np.where(number < count[:, None], distance, np.inf).argmin(1)
        self._draws[best[count > 0]] += 1
        return np.where(count > 0, self._codes[np.minimum(best, len(self._codes) - 1)] % self._length, -1)


def simulate(model: Model, histories: Histories, points: FloatArray, seed: int) -> Histories:
    """Simulate N subjects in the task of a table: as many trials as each of the table's subjects has.

    Trials that were missed in the table are missed here.

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
    follows_choice = ~is_first
    trials: list[Trial] = []
    correct: list[IntArray] = []
    for t, copied in enumerate(histories.trials()):
        shown = copied._replace(**task.shown(row), position=position, action=np.full_like(number, NO_ACTION))
        shown = shown._replace(is_first=is_first, follows_choice=follows_choice)
        with np.errstate(divide="ignore"):  # actions that are not allowed
            logits = np.log(learners.probabilities(shown))
        action = np.where(task.is_missed(row), NO_ACTION, (logits + rng.gumbel(size=logits.shape)).argmax(1))
        outcome = task.answer(t, row, action)
        is_last = outcome.is_last | (position + 1 == histories.num_positions)
        following = np.where(is_last, outcome.row, outcome.row + 1)
        next_state = np.where(is_last, shown.state, histories.state[following, number])
        trial = shown._replace(action=action, reward=outcome.reward, next_state=next_state, is_last=is_last)
        learners.update(trial)
        trials.append(trial)
        correct.append(outcome.correct_action)
        row = np.where(is_last, task.begin(t + 1), following)
        position, is_first = np.where(is_last, 0, position + 1), is_last
        follows_choice = ~is_last & (action != NO_ACTION)
    columns = {name: np.stack([getattr(trial, name) for trial in trials]) for name in Trial._fields if name != "row"}
    return histories.with_columns(**columns, correct_action=np.stack(correct))
