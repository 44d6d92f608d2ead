"""Actors as Ray's: in processes of this machine, or of a cluster."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from seqrl_lightning.collect.actors import Actor, ActorSettings
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
        num_cpus = int(ray.cluster_resources().get("CPU", 0))
        if num_cpus < settings.num_actors:  # Ray would wait for more of them
            self._open.close()
            require(False, "agent.actors", settings.num_actors, f"at most {num_cpus}, the number of Ray's CPUs")
        shared = ray.put(settings)
        remote = ray.remote(num_cpus=1)(_Worker)
        self._workers = [remote.remote() for _ in range(settings.num_actors)]
        try:
            self._wait([worker.build.remote(shared, rank) for rank, worker in enumerate(self._workers)])
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *arguments: object) -> Callable[[], list[Any]]:
        """Call a method of every actor, without waiting; see :class:`Workers`."""
        shared = self._ray.put(arguments)  # once for all of them
        answers = [worker.call.remote(method, shared) for worker in self._workers]
        return lambda: self._wait(answers)

    def close(self) -> None:
        """End the actors."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers.clear()
        self._open.close()

    def _wait(self, answers: list[Any]) -> list[Any]:
        """Return all answers; raise what an actor raised."""
        results = []
        for rank, answer in enumerate(answers):
            try:
                results.append(self._ray.get(answer))
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                reason = one_line(error).partition(" class_name:")[0]
                raise RunError(f"actor {rank} of {self.num_actors} is lost: {reason}") from None
        return results


class _Worker:
    """An actor's process. The actor is no part of its making, so that what it raises there is raised as it is."""

    def build(self, settings: ActorSettings, rank: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._actor = Actor(settings, rank)

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        return self._actor.call(method, *arguments)
