"""Rounds: steps that all actors take by the same weights, handed out row by row in the actors' order."""

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from seqrl_lightning.collect.actor_messages import (
    Beginning,
    Broken,
    Columns,
    Taken,
    Weights,
    side_by_side,
)
from seqrl_lightning.envs import EnvFault, Shown
from seqrl_lightning.saved_state import require_saved
from seqrl_lightning.types import Array, RunError

MAX_ROWS = 128
"""Rows of a round at most, for which actors and learner have memory."""


class Workers(Protocol):
    """The actors of a run, wherever they are."""

    num_actors: int

    def ask(self, method: str, *arguments: object, ranks: Sequence[int] | None = None) -> Callable[[], list[Any]]:
        """Call a method of every actor, without waiting.

        Args:
            method: A method of :class:`~seqrl_lightning.collect.actors.Actor`.
            arguments: Its arguments, the same for all.
            ranks: The numbers of the actors to call; None for all.

        Returns:
            A function that waits, and returns the answers in the actors' order, ``Broken`` for each that is lost. It
            raises what an actor raised.
        """

    def restart(self, rank: int) -> None:
        """Put a new actor, which has yet to begin, in the place of one.

        Raises:
            RunError: If there is no room for it.
        """

    def close(self) -> None:
        """End the actors."""


class Rounds:
    """The rounds of all actors, in which each takes as many steps by the same weights.

    A round is taken while the learner updates, by the weights of its start. Its rows are handed out one by one, the
    environments in the actors' order, so that the learner sees the same rows whatever an actor's speed.

    An actor that is lost is restarted, if at all, from its state at the round's start, and takes the round again: its
    rows are those that were lost. Where the state of its environments can't be saved, or an environment broke, which it
    would do again, a fault is raised, and new episodes begin in all actors.

    Args:
        workers: The actors.
        num_envs: The number of environments of all actors.
        weights: Returns the current weights, as a copy.
        max_restarts: Number of actors that are restarted; the next one that breaks ends the run. None for none at all.
        warn: Tells the user about a restart.
    """

    def __init__(
        self,
        workers: Workers,
        num_envs: int,
        weights: Callable[[], Weights],
        max_restarts: int | None = None,
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.num_envs = num_envs
        self.num_actors = workers.num_actors
        self.remembers = False
        self.block: int | None = None
        self._workers = workers
        self._weights = weights
        self._max_restarts = max_restarts
        self._num_restarts = 0
        self.warn = warn
        self._rows: deque[Columns] = deque()
        self._call: tuple[Any, ...] = ()  # the round under way, or the last one, as it was asked for
        self._answers: Callable[[], list[Taken | Broken]] | None = None  # of the round under way
        self._states: list[Any] | None = None  # of all actors at the round's start, where they may be restarted
        self._broken: list[int] = []  # the actors that a fault was raised for

    def begin(self, states: list[Any] | None, is_anew: bool, env_steps: int, env_faults: int = 0) -> tuple[int, Shown]:
        """Start or continue the episodes of all actors; see :meth:`Actor.begin`.

        Returns:
            The seed of the first actor's environments, and what all environments show.
        """
        must_be = f"a list for {self._workers.num_actors} actors, agent.actors"
        require_saved(states is None or len(states) == self._workers.num_actors, "the actors", states, must_be)
        answers = self._workers.ask("begin", states, is_anew, env_steps, env_faults, self.block)()
        beginnings: list[Beginning] = self._unbroken(answers)
        if self._max_restarts is not None:
            self._states = self._unbroken(self._workers.ask("state_dict")())
        self.remembers = beginnings[0].remembers
        shown = side_by_side([beginning.shown for beginning in beginnings])
        return beginnings[0].seed, shown_in({name: _row(column, 0) for name, column in shown.items()})

    def start(self, num_rows: int) -> None:
        """Let all actors take a round of ``num_rows`` steps in each environment, without waiting."""
        assert self.is_stored
        keeps_state = self._max_restarts is not None
        self._call = ("take", min(num_rows, MAX_ROWS), self._weights(), self.block, keeps_state)
        self._answers = self._workers.ask(*self._call)

    @property
    def is_stored(self) -> bool:
        """Whether all rows that were asked for have been handed out."""
        return self._answers is None and not self._rows

    @property
    def row(self) -> Columns:
        """The first row that isn't handed out yet, of the round under way or, if there is none, of a new one.

        Raises:
            EnvFault: If an actor broke in the round, and can't take it again.
            RunError: If the run has to end for it.
        """
        if not self._rows:
            if self._answers is None:
                self.start(1)
            columns = side_by_side(self._finish())
            num_rows = next(len(column) for column in columns.values() if column is not None)
            self._rows.extend({name: _row(column, i) for name, column in columns.items()} for i in range(num_rows))
        return self._rows[0]

    def take_row(self) -> Columns:
        """Hand the row out."""
        row = self.row
        self._rows.popleft()
        return row

    def states(self) -> list[Any]:
        """Return the states of all actors, between two rounds."""
        assert self.is_stored
        return self._unbroken(self._workers.ask("state_dict")()) if self._states is None else self._states

    def replace_broken(self) -> list[int]:
        """Restart the actors that the last fault was raised for, which have yet to begin, and return their numbers."""
        broken, self._broken = self._broken, []
        for rank in broken:
            self._workers.restart(rank)
        return broken

    def _finish(self) -> list[Columns]:
        """Wait for the round under way; actors that are lost in it take it again."""
        assert self._answers is not None
        answers, self._answers = self._answers(), None
        while broken := {rank: answer for rank, answer in enumerate(answers) if isinstance(answer, Broken)}:
            reason = "; ".join(answer.reason for answer in broken.values())
            self._count(len(broken), reason)
            if not all(answer.is_lost and self._is_known(rank) for rank, answer in broken.items()):
                self._broken = list(broken)
                raise EnvFault(None, reason)
            self.warn(f"{reason}; restarted from the round's start, so that nothing is lost")
            for rank, answer in zip(broken, self._take_again(list(broken)), strict=True):
                answers[rank] = answer
        taken: list[Taken] = self._unbroken(answers)
        if self._states is not None:
            self._states = [answer.state for answer in taken]
        return [answer.columns for answer in taken]

    def _take_again(self, ranks: list[int]) -> list[Taken | Broken]:
        for rank in ranks:
            self._workers.restart(rank)
        _, _, _, block, _ = self._call
        begun = self._workers.ask("begin", self._states, False, 0, 0, block, ranks=ranks)()
        taken = self._workers.ask(*self._call, ranks=ranks)()
        return [first if isinstance(first, Broken) else second for first, second in zip(begun, taken, strict=True)]

    def _is_known(self, rank: int) -> bool:
        """Whether the state of an actor's environments is known."""
        return self._states is not None and self._states[rank]["collector"]["envs"] is not None

    def _count(self, num_broken: int, reason: str) -> None:
        if self._max_restarts is None:
            raise RunError(f"{reason} (agent.on_env_error: restart continues with a new actor)")
        self._num_restarts += num_broken
        if self._num_restarts > self._max_restarts:
            raise RunError(f"{reason}; that was more than agent.max_env_restarts = {self._max_restarts}")

    def _unbroken(self, answers: list[Any]) -> list[Any]:
        """Return answers of which none may be missing.

        Raises:
            RunError: If one is.
        """
        for answer in answers:
            if isinstance(answer, Broken):
                raise RunError(answer.reason)
        return answers


def _row(column: Array | None, i: int) -> Array | None:
    return None if column is None else column[i]


def shown_in(row: Columns) -> Shown:
    """Return what a row's environments show."""
    return Shown._make(row[name] for name in Shown._fields)
