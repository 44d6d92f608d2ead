"""Actors: collectors in processes of their own, each of which takes its environments' steps of a round."""

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from seqrl_lightning.collect.actor_messages import ActorSettings, Beginning, Broken, Columns, Taken, Weights, joined
from seqrl_lightning.collect.collector import Collector
from seqrl_lightning.collect.episodes import EpisodeLog
from seqrl_lightning.collect.faults import GuardedEnvs
from seqrl_lightning.collect.policy import ExploringPolicy
from seqrl_lightning.collect.recorder import TrialRecorder, TrialStep
from seqrl_lightning.envs import EnvFault
from seqrl_lightning.random_streams import SEED, random_stream
from seqrl_lightning.replay import RingBuffer, UniformSampler
from seqrl_lightning.saved_state import saved, saved_tensor
from seqrl_lightning.types import Array, IntArray, Progress, RunError, State


class BrokenEnvError(RunError):
    """An actor's environment broke."""


class _ActorEnvs(GuardedEnvs):
    """Environments whose faults are the learner's to handle."""

    def replace(self, fault: EnvFault, seed: int, lengths: IntArray, progress: Progress) -> Sequence[int]:
        raise BrokenEnvError(self.described(fault, seed, lengths, progress)) from fault


class Actor:
    """Collect in environments of its own, with a copy of the network.

    Args:
        settings: The settings of all actors.
        rank: Number of this one among its learner's.
    """

    def __init__(self, settings: ActorSettings, rank: int) -> None:
        if settings.seed is not None:
            os.environ[SEED] = settings.seed
        self._envs = settings.make_envs()
        self._num_actors = settings.num_actors
        num_in_all = settings.num_actors * settings.num_learners
        number = settings.learner_rank * settings.num_actors + rank  # among them
        env_id = f"{settings.env_id} of actor {number} of {num_in_all}"
        epsilon = settings.epsilon.of_actor(number, num_in_all)
        stream = random_stream("agent", number)
        self._learner = settings.learner
        self._rank = rank
        self._states = _StateKeeper()
        self._recorder = TrialRecorder(tells_correct_action=True)
        self._steps = self._recorder.subscribe()
        self._collector = Collector(
            _ActorEnvs(self._envs, settings.make_envs, env_id, check_bounds=settings.check_bounds),
            ExploringPolicy(self._learner.act_values, epsilon, settings.n_actions, stream),
            RingBuffer(2 * self._envs.num_envs, self._envs.num_envs, settings.obs_shape, settings.obs_dtype),
            self._states,
            Progress(),
            EpisodeLog(),
            self._recorder,
            number,
            num_in_all,
        )
        self._torch_stream = (
            torch.Generator().manual_seed(int(random_stream("actor", number).integers(2**63))).get_state()
        )

    def call(self, method: str, *arguments: Any) -> Any:  # as the method has them
        """Call a method by its name, as :meth:`Workers.ask` sends it."""
        methods: dict[str, Callable[..., Any]] = {
            "begin": self.begin,
            "take": self.take,
            "state_dict": self.state_dict,
        }
        return methods[method](*arguments)

    def begin(
        self, states: Sequence[Any] | None, is_anew: bool, env_steps: int, env_faults: int, block: int | None
    ) -> Beginning:
        """Start episodes, or continue those that ``states`` were taken of.

        Args:
            states: The states of all actors; None at a run's start.
            is_anew: Whether the episodes are new ones even so.
            env_steps: Env steps so far, over all actors of the learner.
            env_faults: Faults so far, each of which has begun episodes of its own.
            block: The block of the next episodes, if the task leaves it to the learner.
        """
        collector, collected = self._collector, None
        if states is not None:
            state = saved(states[self._rank], dict, f"actor {self._rank}")
            collected = {**saved(state["collector"], dict, "the actor's collector")}
            self._torch_stream = saved_tensor(state["torch"], (None,), torch.uint8, "the actor's random stream")
            vars(collector.progress).update(asdict(saved(state["progress"], Progress, "the actor's progress")))
            if is_anew:
                collected["envs"] = None
                collector.progress.env_steps = max(collector.progress.env_steps, env_steps // self._num_actors)
                collector.progress.env_faults = max(collector.progress.env_faults, env_faults)
        if block is not None:
            collector.envs.follow_block(block)
        with torch.random.fork_rng(devices=()):  # what it draws only finds out whether the network carries a state
            collector.begin(collected)
        seed, shown = collector.episodes.seed, collector.episodes.shown._asdict()
        return Beginning(seed, joined([shown], np.stack), collector.policy.remembers)

    def take(self, num_rows: int, weights: Weights, block: int | None, keeps_state: bool) -> Taken | Broken:
        """Take a round's steps.

        Args:
            num_rows: R, the steps of each environment.
            weights: The weights to act by.
            block: The block of the next episodes, if the task leaves it to the learner.
            keeps_state: Whether the answer holds the actor's state, from which another one could continue.
        """
        collector = self._collector
        self._learner.load_state_dict(weights, strict=False)
        if block is not None:
            collector.envs.follow_block(block)
        rows = []
        with self._own_torch_stream():
            for _ in range(num_rows):
                try:
                    collector.step()
                except BrokenEnvError as error:
                    return Broken(str(error), is_lost=False)
                rows.append({**_columns(self._steps.pop()), "state": self._states.take()})
                rows[-1]["epsilon"] = np.full(collector.num_envs, collector.policy.epsilon)
        collector.log.drain()  # the learner's side counts episodes
        return Taken(joined(rows, np.stack), copy.deepcopy(self.state_dict()) if keeps_state else None)

    def state_dict(self) -> dict[str, Any]:
        """Return the actor's state, as tensors and primitives."""
        progress = asdict(self._collector.progress)
        return {"collector": self._collector.state_dict(), "progress": progress, "torch": self._torch_stream}

    def close(self) -> None:
        """Close the environments."""
        self._envs.discard()

    @contextmanager
    def _own_torch_stream(self) -> Iterator[None]:
        """Let noise of the network come from this actor's stream, also where several share a process."""
        with torch.random.fork_rng(devices=()):
            torch.set_rng_state(self._torch_stream)
            yield
            self._torch_stream = torch.get_rng_state()


class _StateKeeper(UniformSampler):
    """Note the network's state before each step."""

    _state: State = None

    def keep_state(self, ring: RingBuffer, state: State, step: IntArray) -> None:
        self._state = state

    def take(self) -> Array | None:
        """Return the state noted last, [N, S, ...], with the environments first as in all columns."""
        state, self._state = self._state, None
        return None if state is None else state.cpu().numpy().swapaxes(0, 1)


def _columns(step: TrialStep) -> Columns:
    outcome = step.outcome._asdict()
    shown = outcome.pop("shown")
    own = {"action": step.action, "explores": step.explores, "q_values": step.q_values}
    return {**own, **outcome, **shown._asdict()}
