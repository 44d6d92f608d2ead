"""The env steps of a run: which of them are due, and when they are taken."""

import math
from typing import NamedTuple

import torch

from seqrl_lightning.collect.collector import Collector
from seqrl_lightning.collect.pace import Pace
from seqrl_lightning.collect.rounds import Rounds
from seqrl_lightning.collect.run_progress import publish_progress
from seqrl_lightning.types import Progress

_PUBLISH_EVERY = 100  # env steps of each process, while the replay memory is warmed up


class Budget(NamedTuple):
    """Env steps and episodes, over all environments and processes, after which a run ends; None for no limit."""

    max_env_steps: int | None
    max_episodes: int | None

    def is_used_up(self, run: Progress) -> bool:
        """Return whether a run with this progress, over all processes, is at its end."""
        return run.env_steps >= (self.max_env_steps or math.inf) or run.episodes >= (self.max_episodes or math.inf)

    def allows(self, own: Progress, num_processes: int) -> bool:
        """Return whether one of several processes, with this progress of its own, may take a further env step."""
        share = (self.max_env_steps or math.inf) / num_processes
        return own.env_steps < share and own.episodes < (self.max_episodes or math.inf)


class EnvSteps:
    """The env steps of this process, which it takes as they become due, until the run's budget is used up.

    With ``overlap`` or actors, steps are started before an update and stored after it; otherwise they are taken after
    it.

    Args:
        collector: Takes the steps.
        pace: Says how many are due.
        budget: The limits of the run.
        run: The progress of all processes, which is written after each visit to the environments.
        device: Where processes exchange their progress.
        overlap: Whether the environments take a step while the network is updated.
        rounds: The rounds that actors take; None without actors.
    """

    def __init__(
        self,
        collector: Collector,
        pace: Pace,
        budget: Budget,
        run: Progress,
        device: torch.device,
        overlap: bool = False,
        rounds: Rounds | None = None,
    ) -> None:
        self.collector = collector
        self._pace = pace
        self._budget = budget
        self._run = run
        self._device = device
        self._overlap = overlap
        self._rounds = rounds

    def warm_up(self) -> None:
        """Take the env steps that come before the first update."""
        num_steps, start = self._pace.cadence.warmup_env_steps, self.collector.progress.env_steps
        self._pace.unlearned_env_steps += num_steps
        # Processes exchange their progress from time to time, since blocks count the episodes of all of them.
        every = num_steps if self.collector.world_size == 1 else min(num_steps, _PUBLISH_EVERY)
        for until in (*range(every, num_steps, every), num_steps):
            self._take_until(start + until)

    def start(self, updates: int) -> None:
        """Start what will be due after ``updates`` updates, if it is taken while the network is updated."""
        if self._rounds is not None:
            self._start_round(self._rounds, self._pace.due_env_steps(updates))
        elif self._overlap and self.collector.progress.env_steps < self._pace.due_env_steps(updates):
            self._pace.unlearned_env_steps += self.collector.start_step()

    def finish(self, updates: int) -> None:
        """Take what is due after ``updates`` updates; afterwards no step is under way."""
        if self._overlap:
            self._pace.unlearned_env_steps += self.collector.finish_step()
        if self._rounds is not None:
            self._store_round(self._rounds)
        elif not self._pace.learns_once:
            self._take_until(self._pace.due_env_steps(updates))

    def take_rollout(self, updates: int) -> None:
        """Take the env steps of the next rollout; if the budget ends within it, forgo the rest of them."""
        self._take_until(self._pace.due_env_steps(updates))
        self._pace.waive(updates, self.collector.progress.env_steps)

    def _take_until(self, env_steps: float) -> None:
        """Step the environments until this process has taken that many env steps, or the run's budget is used up."""
        progress, num_processes = self.collector.progress, self.collector.world_size
        while progress.env_steps < env_steps and self._budget.allows(progress, num_processes):
            if self._rounds is not None:
                self._start_round(self._rounds, env_steps)
            num_lost = self.collector.step()
            self._pace.unlearned_env_steps += num_lost
            env_steps += num_lost
        self._publish_progress()

    def _start_round(self, rounds: Rounds, until_env_steps: float) -> None:
        """Let the actors take the env steps that are left until then, unless they are at it."""
        left = min(until_env_steps, self._budget.max_env_steps or math.inf) - self.collector.progress.env_steps
        if left > 0 and rounds.is_stored:
            rounds.start(math.ceil(left / rounds.num_envs))

    def _store_round(self, rounds: Rounds) -> None:
        """Store all rows of the round; the env steps that resets took from it are left to the next one."""
        while not rounds.is_stored:
            self._pace.unlearned_env_steps += self.collector.step()
        self._publish_progress()

    def _publish_progress(self) -> None:
        publish_progress(self.collector, self._run, self._device)
