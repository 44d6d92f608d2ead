"""Actors without processes of their own, which those of Ray must equal."""

from collections.abc import Callable, Sequence
from typing import Any

from seqrl_lightning.collect.actor_messages import ActorSettings
from seqrl_lightning.collect.actors import Actor


class InProcess:
    """Actors in this process, one after the other: the reference for those elsewhere.

    Args:
        settings: The settings of all actors.
    """

    def __init__(self, settings: ActorSettings) -> None:
        self.num_actors = settings.num_actors
        self._settings = settings
        self._actors = [Actor(settings, rank) for rank in range(settings.num_actors)]

    def ask(self, method: str, *arguments: object, ranks: Sequence[int] | None = None) -> Callable[[], list[Any]]:
        """Call a method of every actor at once; see :class:`~seqrl_lightning.collect.rounds.Workers`."""
        asked = range(self.num_actors) if ranks is None else ranks
        answers = [self._actors[rank].call(method, *arguments) for rank in asked]
        return lambda: answers

    def restart(self, rank: int) -> None:
        """Put a new actor in the place of one."""
        self._actors[rank].close()
        self._actors[rank] = Actor(self._settings, rank)

    def close(self) -> None:
        """Close the environments."""
        for actor in self._actors:
            actor.close()
