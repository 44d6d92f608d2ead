"""The collector, which acts in environments and stores the transitions in the replay memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from seqrl_lightning.collect.bonus import ExplorationBonus
from seqrl_lightning.collect.collector_envs import CollectorEnvs
from seqrl_lightning.collect.episodes import EpisodeLog, RunningEpisodes
from seqrl_lightning.collect.policy import Explorer
from seqrl_lightning.collect.recorder import TrialRecorder
from seqrl_lightning.envs import EnvFault, Outcome, Shown
from seqrl_lightning.networks.normalization import Normalization
from seqrl_lightning.replay import RingBuffer, Sampler
from seqrl_lightning.saved_state import saved
from seqrl_lightning.types import BoolArray, IntArray, Progress, require


class Collector:
    """Step N environments with an exploring policy, and store the transitions.

    An env step is one real step of one environment. The extra step by which a vector environment resets itself after
    an episode (next-step autoreset) is no env step, earns nothing, and is never sampled.

    Args:
        envs: The environments.
        policy: Decides on actions.
        ring: Stores transitions.
        sampler: Keeps the network's states that its batches will need.
        progress: This process's progress so far; the collector continues the count.
        log: Takes finished episodes.
        recorder: Takes every step.
        rank: Number of this process.
        world_size: Number of processes that collect side by side, each in its own environments.
        block_of: The block of the episode that follows this many finished ones, for tasks whose blocks last as many
            episodes as the learner sees; None for others.
        normalization: The learner's running statistics, which follow the env steps; None for none.
        bonus: Added to the rewards that are stored; None for none. Episodes' returns are without it.

    Attributes:
        episodes: The episodes under way, from :meth:`begin` on.
        episodes_elsewhere: The number of episodes that the other processes have finished, as far as is known.
        reached_block: The highest block in which an env step was taken, in the other processes as far as is known.
    """

    episodes: RunningEpisodes

    def __init__(
        self,
        envs: CollectorEnvs,
        policy: Explorer,
        ring: RingBuffer,
        sampler: Sampler,
        progress: Progress,
        log: EpisodeLog,
        recorder: TrialRecorder,
        rank: int = 0,
        world_size: int = 1,
        block_of: Callable[[int], int] | None = None,
        normalization: Normalization | None = None,
        bonus: ExplorationBonus | None = None,
    ) -> None:
        self.envs = envs
        self.num_envs = envs.num_envs
        self.policy = policy
        self.ring = ring
        self.sampler = sampler
        self.progress = progress
        self.log = log
        self.recorder = recorder
        self.rank = rank
        self.world_size = world_size
        self.block_of = block_of
        self.normalization = normalization
        self.bonus = bonus
        self.episodes_elsewhere = self.reached_block = 0
        self._in_flight: IntArray | None = None  # the actions of a step that the environments are taking

    def begin(self, state_dict: dict[str, Any] | None = None) -> bool:
        """Start episodes, or continue the ones that ``state_dict`` saved.

        Returns:
            False if new episodes had to be started because ``state_dict`` doesn't hold the environments' state.
        """
        is_known = state_dict is None or state_dict.get("envs") is not None
        if state_dict is not None:
            self.policy.load_state_dict(saved(state_dict.get("policy"), dict, "the policy's state"))
            self._load_bonus(state_dict.get("bonus"))  # earlier versions had none
            before = RunningEpisodes.from_state_dict(state_dict.get("episodes"), self.ring.num_envs)
            self._note_reached(before.shown, ~before.is_first)
        if state_dict is not None and is_known:
            self._continue_episodes(state_dict)
        else:
            self.policy.reset()
            self._start_episodes()
        self.policy.find_memory(self.episodes.shown.observation)
        return is_known

    def step(self) -> int:
        """Take one step in every environment.

        Returns:
            The number of env steps that were lost with a broken episode, and have to be taken again.
        """
        try:
            action = self._act()  # asks actors, whose environments may have broken
            outcome = self.envs.step(action)
        except EnvFault as fault:
            return self._restart(fault)
        self._store(action, outcome)
        return 0

    def start_step(self) -> int:
        """Start a step of environments in processes of their own, without waiting for it. Return as ``step`` does."""
        action = self._act()
        try:
            self.envs.start_step(action)
        except EnvFault as fault:
            return self._restart(fault)
        self._in_flight = action
        return 0

    def finish_step(self) -> int:
        """Wait for the step that ``start_step`` started, if there is one. Return as ``step`` does."""
        action, self._in_flight = self._in_flight, None
        if action is not None:
            try:
                outcome = self.envs.finish_step()
            except EnvFault as fault:
                return self._restart(fault)
            self._store(action, outcome)
        return 0

    def _act(self) -> IntArray:
        policy, episodes = self.policy, self.episodes
        if policy.remembers:
            self.sampler.keep_state(self.ring, policy.state, episodes.lengths)
        env_steps = self.progress.env_steps * self.world_size
        shown = episodes.shown
        action = policy.act(shown.observation, shown.action_mask, episodes.is_first, env_steps)
        self.progress.epsilon = policy.epsilon
        return action

    def _store(self, action: IntArray, outcome: Outcome) -> None:
        episodes, progress, shown = self.episodes, self.progress, outcome.shown
        terminated, truncated = outcome.terminated, outcome.truncated
        if self.recorder.wants(episodes.shown):
            trial, is_trial = episodes.lengths.copy(), ~episodes.is_restarting
            self.recorder.record(episodes.shown, action, self.policy, outcome, trial, is_trial)
        reward, ended = outcome.reward, terminated | truncated
        if self.bonus is not None:
            reward = reward + self.bonus(shown.observation, ~episodes.is_restarting)
        self.ring.add(action, reward, terminated, truncated, shown.observation, shown.action_mask)
        if self.normalization is not None:
            self.normalization.add(shown.observation, reward, ended, ~episodes.is_restarting)
        if self.reached_block < progress.block:
            self._note_reached(shown, ~episodes.is_restarting)
        num_restarted = episodes.advance(outcome, ended)
        progress.env_steps += self.num_envs - num_restarted
        if np.count_nonzero(ended):
            env_steps, first_env = progress.env_steps * self.world_size, self.rank * self.num_envs
            for episode in episodes.take_ended(terminated, env_steps, first_env):
                self.log.add(episode)
                progress.episodes += 1
            self.follow_block()
        if num_restarted and self.block_of is None and shown.block is not None:
            progress.block = int(shown.block.min())  # the task counts its own episodes

    def follow_block(self) -> None:
        """Let the next episodes follow the rule of the block that the learner's finished episodes lead to."""
        if self.block_of is None:
            return
        block = int(self.block_of(self.progress.episodes + self.episodes_elsewhere))
        if block != self.progress.block:
            self.progress.block = block
            self.envs.follow_block(block)

    def _note_reached(self, shown: Shown, is_real: BoolArray) -> None:
        """Note the highest block that environments show in a real step, not in a reset."""
        if shown.block is not None:
            self.reached_block = int(shown.block.max(where=is_real, initial=self.reached_block))

    def _start_episodes(self) -> None:
        if self.block_of is not None:
            self.envs.follow_block(self.progress.block)
        seed, shown = self.envs.start_episodes(self.progress, self.rank)
        self.episodes = RunningEpisodes.after_reset(seed, shown)
        if self.block_of is None and shown.block is not None:
            self.progress.block = int(shown.block.min())
        self.ring.restart(shown.observation, shown.action_mask)
        if self.normalization is not None:
            self.normalization.start(shown.observation)

    def _restart(self, fault: EnvFault) -> int:
        """Replace the environments and forget the broken episode. Return the number of env steps lost with it."""
        lengths = self.episodes.lengths
        suspects = self.envs.replace(fault, self.episodes.seed, lengths, self.progress)
        num_lost = sum(self.ring.drop(env, int(lengths[env])) for env in suspects)
        self._start_episodes()
        return num_lost

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes under way, the environments' state and the policy's, as tensors and primitives."""
        return {
            "envs": self.envs.state_dict(),
            "episodes": self.episodes.state_dict(),
            "policy": self.policy.state_dict(),
            "normalization": {} if self.normalization is None else self.normalization.running_state(),
            "bonus": None if self.bonus is None else self.bonus.state_dict(),
        }

    def _load_bonus(self, state: object) -> None:
        state = None if state is None else saved(state, dict, "the exploration bonus's state")
        must_be = "the one that the checkpoint was saved with"
        now = None if self.bonus is None else self.bonus.state_dict()
        is_alike = (now or {}).keys() == (state or {}).keys()
        require(is_alike, "agent.exploration_bonus", None if self.bonus is None else type(self.bonus).__name__, must_be)
        if self.bonus is not None and state is not None:
            self.bonus.load_state_dict(state)

    def _continue_episodes(self, state_dict: dict[str, Any]) -> None:
        self.envs.load_state_dict(saved(state_dict["envs"], dict, "the environments' state"))
        self.episodes = RunningEpisodes.from_state_dict(state_dict["episodes"], self.ring.num_envs)
        if self.normalization is not None and "normalization" in state_dict:  # earlier versions had none
            running = saved(state_dict["normalization"], dict, "the normalization of running episodes")
            self.normalization.load_running_state(running, self.ring.num_envs)
        self.envs.remember(self.episodes.shown, self.episodes.is_restarting)
        if self.block_of is not None:
            self.envs.follow_block(self.progress.block)
        if not self.ring.num_slots:  # the checkpoint left the replay memory out
            self.ring.restart(self.episodes.shown.observation, self.episodes.shown.action_mask)
