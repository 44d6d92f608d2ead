"""Actors as Ray's: in processes of this machine, or of a cluster."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from seqrl_lightning.collect.actor_messages import ActorSettings, Broken
from seqrl_lightning.collect.actors import Actor
from seqrl_lightning.ray_cluster import ray_session
from seqrl_lightning.types import RunError, one_line, require


class RayActors:
    """Actors in processes that Ray starts; see :class:`~seqrl_lightning.collect.rounds.Workers`.

    Args:
        settings: The settings of all actors.
        address: ``local``, or the address of a Ray cluster that is running. There, each actor takes one CPU.

    Raises:
        ConfigurationError: If Ray isn't installed or can't be reached, or an actor's environments can't be made.
    """

    def __init__(self, settings: ActorSettings, address: str) -> None:
        self.num_actors = settings.num_actors
        self._open = ExitStack()
        self._open.enter_context(ray_session(address, "agent.ray_address", settings.num_actors))
        import ray

        self._ray = ray
        num_cpus = self._num_cpus()
        most = num_cpus // settings.num_learners
        if most < settings.num_actors:  # Ray would wait for more CPUs
            self._open.close()
            of_each = f" for each of {settings.num_learners} processes" if settings.num_learners > 1 else ""
            require(False, "agent.actors", settings.num_actors, f"at most {most}, the number of Ray's CPUs{of_each}")
        self._settings = ray.put(settings)
        self._remote = ray.remote(num_cpus=1)(_Worker)
        self._workers = [self._remote.remote() for _ in range(settings.num_actors)]
        try:
            self._build(range(settings.num_actors))
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *arguments: object, ranks: Sequence[int] | None = None) -> Callable[[], list[Any]]:
        """Call a method of every actor, without waiting; see :class:`Workers`."""
        shared = self._ray.put(arguments)  # once for all of them
        asked = range(self.num_actors) if ranks is None else ranks
        answers = {rank: self._workers[rank].call.remote(method, shared) for rank in asked}
        return lambda: self._wait(answers)

    def restart(self, rank: int) -> None:
        """Put a new actor in the place of one, wherever Ray has a CPU for it.

        Raises:
            RunError: If Ray has none.
        """
        self._ray.kill(self._workers[rank])  # a broken environment's process is still there
        num_cpus = self._num_cpus()
        if num_cpus < self.num_actors:
            left = f"Ray has {num_cpus} CPUs left for agent.actors = {self.num_actors}"
            raise RunError(f"actor {rank} of {self.num_actors} can't be restarted: {left}")
        self._workers[rank] = self._remote.remote()
        self._build([rank])

    def close(self) -> None:
        """End the actors."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers.clear()
        self._open.close()

    def _num_cpus(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    def _build(self, ranks: Sequence[int]) -> None:
        """Build actors in their processes.

        Raises:
            RunError: If one is lost.
        """
        answers = {rank: self._workers[rank].build.remote(self._settings, rank) for rank in ranks}
        for answer in self._wait(answers):
            if isinstance(answer, Broken):
                raise RunError(answer.reason)

    def _wait(self, answers: dict[int, Any]) -> list[Any]:
        """Return all answers, by the actors' numbers; raise what an actor raised."""
        results: list[Any] = []
        for rank, answer in answers.items():
            try:
                results.append(self._ray.get(answer))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                reason = one_line(error).partition(" class_name:")[0]
                results.append(Broken(f"actor {rank} of {self.num_actors} is lost: {reason}", is_lost=True))
        return results


class _Worker:
    """An actor's process. The actor is no part of its making, so that what it raises there is raised as it is."""

    def build(self, settings: ActorSettings, rank: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._actor = Actor(settings, rank)

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        return self._actor.call(method, *arguments)
