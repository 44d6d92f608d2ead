"""The agent: it keeps env steps and updates in the ratio asked for, and ends the run when its budget is used up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from seqrl_lightning.algorithms import LearnerModule
from seqrl_lightning.callbacks.global_random_streams import GlobalRandomStreams
from seqrl_lightning.callbacks.priorities import PriorityWriter
from seqrl_lightning.callbacks.sidecars import Sidecars
from seqrl_lightning.callbacks.target_sync import TargetSync
from seqrl_lightning.checkpoints.changes import changes, described
from seqrl_lightning.collect import (
    Collector,
    EpisodeLog,
    ExplorationBonus,
    ExploringPolicy,
    GuardedEnvs,
    TrialRecorder,
)
from seqrl_lightning.data import LearnerDataModule, ReplayDataModule
from seqrl_lightning.envs import Border, EnvFault
from seqrl_lightning.exploration import EpsilonSchedule, ExponentialEpsilon
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.saved_state import saved
from seqrl_lightning.trainer_access import attributes_of, is_limited, learner_of
from seqrl_lightning.types import Cadence, ConfigurationError, Learner, Progress, require

_STOPPED = "stopped_by_callback"  # in a checkpoint: whether a callback ended the run
_PUBLISH_EVERY = 100  # env steps of each process, while the replay memory is warmed up
_DEFAULT_CADENCE = Cadence(warmup_env_steps=1000, env_steps_per_update=1.0, updates_per_collect=1)


class AgentCallback(Callback):
    """Act epsilon-greedily in the environments, and keep env steps and updates in the ratio asked for.

    It warms the replay memory up before the first update. Then, after every ``updates_per_collect`` updates, it takes
    ``updates_per_collect * env_steps_per_update`` env steps. With N environments, steps come N at a time; what is
    taken too much is taken less the next time. With several processes, each has environments, a replay memory and
    random streams of its own and keeps the ratio by itself; epsilon follows the env steps of all of them.

    Some algorithms work with one cadence only, and learn from each env step once (PQN). The first three settings are
    then left out, and env steps are taken when the next batch is asked for: whatever ends the run, it has learned from
    all of them.

    Args:
        warmup_env_steps: Env steps before the first update; 1000 by default.
        env_steps_per_update: Env steps for each update of the network; 1 by default.
        updates_per_collect: Updates between two visits to the environments; 1 by default.
        epsilon: The probability of a random action, as a function of the env steps taken so far.
        max_env_steps: Env steps, over all environments and processes, after which the run ends; None for no limit.
        max_episodes: Episodes, over all environments and processes, after which the run ends; None for no limit.
        overlap: Whether the environments take a step while the network is updated, in their own processes
            (``data.vectorization_mode: async``). That step's actions come from the weights before the update. It pays
            for slow environments: an iteration takes as long as the slower of the two, not as both.
        on_env_error: What happens when an environment raises, loses its process, or shows a value that isn't finite or
            is outside its space. ``raise`` ends the run. ``restart`` makes all environments anew, removes the broken
            episode from the replay memory, and goes on with new episodes.
        max_env_restarts: Restarts, in this process, after which the run ends all the same.
        check_bounds: Whether an observation outside its space's bounds is such an error. False for tasks that don't
            keep to their bounds (Gymnasium's LunarLander); a value that isn't finite stays an error.
        exploration_bonus: Adds to the rewards that are learned from, for tasks whose rewards random actions hardly
            find: ``CountBonus`` in discrete states, ``RND`` in others. Returns stay the task's own. None for none.

    Attributes:
        cadence: The cadence in use: the learner's, or that of the settings.
        progress: What this process has done so far. The datamodule's ``progress`` is that of all processes.
        episode_log: Episodes that this process has finished.
        recorder: Hands out every step, in tasks that state the correct action.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        warmup_env_steps: int | None = None,
        env_steps_per_update: float | None = None,
        updates_per_collect: int | None = None,
        epsilon: EpsilonSchedule = ExponentialEpsilon(),  # noqa: B008  (frozen)
        max_env_steps: int | None = None,
        max_episodes: int | None = None,
        overlap: bool = False,
        on_env_error: Literal["raise", "restart"] = "raise",
        max_env_restarts: int = 10,
        check_bounds: bool = True,
        exploration_bonus: ExplorationBonus | None = None,
    ) -> None:
        for name, value in (("warmup_env_steps", warmup_env_steps), ("updates_per_collect", updates_per_collect)):
            require(value is None or value > 0, f"agent.{name}", value, "at least 1")
        ratio = env_steps_per_update
        is_ratio = ratio is None or 0 < ratio < math.inf
        require(is_ratio, "agent.env_steps_per_update", ratio, "positive and finite")
        require(max_episodes is None or max_episodes > 0, "agent.max_episodes", max_episodes, "at least 1")
        require(on_env_error in ("raise", "restart"), "agent.on_env_error", on_env_error, "'raise' or 'restart'")
        require(max_env_restarts >= 0, "agent.max_env_restarts", max_env_restarts, "at least 0")
        self.epsilon = epsilon
        self.max_env_steps = max_env_steps
        self.max_episodes = max_episodes
        self.overlap = overlap
        self.on_env_error = on_env_error
        self.max_env_restarts = max_env_restarts
        self.check_bounds = check_bounds
        self.exploration_bonus = exploration_bonus
        self.cadence = _DEFAULT_CADENCE  # until the learner is known
        self.progress = Progress()
        self.episode_log = EpisodeLog()
        self.recorder = TrialRecorder()
        settings = zip(Cadence._fields, (warmup_env_steps, env_steps_per_update, updates_per_collect), strict=True)
        self._given_cadence: dict[str, Any] = {name: value for name, value in settings if value is not None}
        self._settings = {**described(self)["init_args"], **self._given_cadence, "epsilon": described(epsilon)}
        self._settings["exploration_bonus"] = None if exploration_bonus is None else described(exploration_bonus)
        self._unlearned_env_steps = 0  # taken for no update: to warm up, or lost with a broken episode
        self._resumed: dict[str, Any] | None = None  # the collector's state, until the fit starts
        self._resumed_updates = self._resumed_epochs = 0  # which the Trainer counts only after on_fit_start
        self._collector: Collector | None = None  # of the fit
        self._learner: Learner | None = None  # of the fit
        self._run_progress = Progress()  # the datamodule's, from on_fit_start on

    @staticmethod
    def of(trainer: Trainer) -> "AgentCallback":
        """Return the Trainer's agent.

        Raises:
            ConfigurationError: If it has none.
        """
        for callback in attributes_of(trainer).callbacks:
            if isinstance(callback, AgentCallback):
                return callback
        raise ConfigurationError("trainer.callbacks has no AgentCallback; it must have one to train")

    @staticmethod
    def needed_by(trainer: Trainer) -> "AgentCallback | None":
        """Return the Trainer's agent; None where nobody acts, since the datamodule holds trials that were logged.

        Raises:
            ConfigurationError: If it has none, and the datamodule needs one.
        """
        return AgentCallback.of(trainer) if LearnerDataModule.of(trainer).has_agent else None

    @property
    def collector(self) -> Collector:
        """The collector that acts in the environments, from ``on_fit_start`` on."""
        assert self._collector is not None
        return self._collector

    # Lightning's hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Guard evaluation, choose the cadence, and refuse settings that can't work with the data or never end."""
        data = ReplayDataModule.of(trainer)
        on_fault = partial(self._go_on_evaluating, data, trainer.global_rank)
        data.check_eval_envs(self.check_bounds, on_fault)
        if stage == "fit":
            self._check_callbacks(trainer, pl_module, data)
            self._learner = learner_of(trainer)
            self.cadence = self._choose_cadence(self._learner)
            self._check_data(data)
            self._check_bonus(trainer)
            self._check_budget(trainer)
            self._warn_of_blocks(data)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the subscriptions to trials: in a further run, subscribers subscribe again."""
        self.recorder.end_subscriptions()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start episodes or continue those of the checkpoint; warm the replay memory up, unless the run is over."""
        data = ReplayDataModule.of(trainer)
        assert self._learner is not None
        self._run_progress = data.progress
        self._collector = self._make_collector(trainer, data, self._learner)
        if not self._collector.begin(self._resumed):
            rank_zero_info(
                f"Not bitwise: {data.env_id} can't be set back to where it was; it goes on with new episodes."
            )
        self._collector.envs.state_dict()  # what can't be saved is refused now, not at the first checkpoint
        self._resumed = None
        data.take_rollout = partial(self._take_rollout, trainer) if self._learns_once else None
        self._stop_at_budget(trainer)
        if not data.ring.num_slots and not self._is_over(trainer):
            self._warm_up(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """With ``overlap``: start a step of the environments, if the coming updates ask for one."""
        if self.overlap:
            assert self._learner is not None
            updates = trainer.global_step + self._learner.updates_per_step
            if self.progress.env_steps < self._due_env_steps(updates):
                self._unlearned_env_steps += self.collector.start_step()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Take the env steps that the updates so far ask for; afterwards no step is under way."""
        if self.overlap:
            self._unlearned_env_steps += self.collector.finish_step()
        if not self._learns_once:
            self._collect(trainer, self._due_env_steps(trainer.global_step))
        self._stop_at_budget(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if the last block was never reached."""
        data = ReplayDataModule.of(trainer)
        if data.progress.block < data.num_blocks - 1:
            rank_zero_warn(
                f"The run ended in block {data.progress.block} of {data.num_blocks}, counted from 0, after "
                f"{data.progress.episodes} episodes: the rules of later blocks were never learned."
            )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the resumed run's progress; report which of the agent's settings changed, and if a callback ended it."""
        saved = checkpoint["callbacks"][self.state_key].get("settings", {})
        is_told = isinstance(pl_module, LearnerModule) and pl_module.is_from_command_line
        for change in [] if is_told else changes({"agent": saved or self._settings}, {"agent": self._settings}):
            rank_zero_info(str(change))
        self._resumed_updates = checkpoint["global_step"]
        self._resumed_epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        if checkpoint.get(_STOPPED, False):
            trainer.should_stop = True
            rank_zero_info("A callback, like EarlyStopping, has ended this run: resuming it makes no further update.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note whether a callback ended the run, and not one of its limits, which a resumed run may raise."""
        callbacks = attributes_of(trainer).callbacks
        has_reason = any(
            isinstance(callback, EarlyStopping) and callback.stopping_reason is not EarlyStoppingReason.NOT_STOPPED
            for callback in callbacks
        )
        is_at_limit = self._is_budget_used_up or _is_time_up(callbacks)
        checkpoint[_STOPPED] = trainer.should_stop and (has_reason or not is_at_limit)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the collector's state, as tensors and primitives; nothing before the first fit."""
        if self._collector is None:
            return {}
        return {
            "progress": asdict(self.progress),
            "unlearned_env_steps": self._unlearned_env_steps,
            "recent_returns": list(self.episode_log.recent_returns),
            "settings": self._settings,
            "collector": self._collector.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the collector follows when fitting starts."""
        self.progress = saved(state_dict["progress"], Progress, "the agent's progress")
        self._unlearned_env_steps = saved(state_dict["unlearned_env_steps"], int, "the agent's unlearned_env_steps")
        self.episode_log.recent_returns.extend(saved(state_dict["recent_returns"], list[float], "the agent's returns"))
        self._resumed = saved(state_dict["collector"], dict, "the agent's collector")

    # Settings

    def _check_callbacks(self, trainer: Trainer, learner: LightningModule, data: ReplayDataModule) -> None:
        """Refuse a run without the callbacks that its parts rely on; it would learn something else, without a word."""
        callbacks = attributes_of(trainer).callbacks
        before = callbacks[: callbacks.index(self)]
        has_target = isinstance(learner, LearnerModule) and learner.target_net is not learner.policy_net
        saves = bool(trainer.checkpoint_callbacks)
        sampler, by_priority = type(data.sampler).__name__, data.sampler.draws_by_priority
        for kind, place, is_needed, reason in (
            (PriorityWriter, before, by_priority, f"before AgentCallback for {sampler}"),
            (TargetSync, callbacks, has_target, f"for the target network of {type(learner).__name__}"),
            (Sidecars, callbacks, saves, "for checkpoints"),
            (GlobalRandomStreams, callbacks, saves, "for checkpoints"),
        ):
            if is_needed and not any(isinstance(callback, kind) for callback in place):
                raise ConfigurationError(
                    f"trainer.callbacks has no {kind.__name__} {reason}; it must have one "
                    "(seqrl_lightning.callbacks.run_callbacks returns all that a run needs)"
                )

    def _choose_cadence(self, learner: Learner) -> Cadence:
        """Return the learner's cadence, which settings mustn't contradict; without one, that of the settings."""
        needed = learner.cadence
        if needed is None:
            return _DEFAULT_CADENCE._replace(**self._given_cadence)
        for name, value in self._given_cadence.items():
            wanted = needed._asdict()[name]
            must_be = f"{wanted}, or left out: {type(learner).__name__} learns with no other"
            require(value == wanted, f"agent.{name}", value, must_be)
        return needed

    def _check_data(self, data: ReplayDataModule) -> None:
        warmup = self.cadence.warmup_env_steps
        setting = "agent.warmup_env_steps"
        require(warmup >= data.batch_size, setting, warmup, f"at least data.batch_size = {data.batch_size}")
        require(warmup <= data.capacity, setting, warmup, f"at most data.capacity = {data.capacity}")
        must_be = "false, or data.vectorization_mode 'async'"
        require(not self.overlap or data.envs.steps_in_processes, "agent.overlap", self.overlap, must_be)
        must_be = "false: the learner learns from whole rollouts, each by the weights that it was taken with"
        require(not (self.overlap and self._learns_once), "agent.overlap", self.overlap, must_be)

    def _check_bonus(self, trainer: Trainer) -> None:
        bonus, num_processes = self.exploration_bonus, trainer.world_size
        must_be = f"null with {num_processes} processes, each of which would find new what others know"
        fits = bonus is None or num_processes == 1
        require(fits, "agent.exploration_bonus", type(bonus).__name__, must_be)

    def _check_budget(self, trainer: Trainer) -> None:
        warmup, budget = self.cadence.warmup_env_steps, self.max_env_steps
        must_be = f"more than agent.warmup_env_steps = {warmup}"
        require(budget is None or budget > warmup, "agent.max_env_steps", budget, must_be)
        ends = budget is not None or self.max_episodes is not None or is_limited(trainer)
        must_be = "a number, or one of agent.max_episodes, trainer.max_steps, trainer.max_epochs and trainer.max_time"
        require(ends, "agent.max_env_steps", None, f"{must_be}: nothing ends this run")

    def _warn_of_blocks(self, data: ReplayDataModule) -> None:
        """Say so if the run's budget of episodes ends before its last block begins."""
        if data.block_of is None or self.max_episodes is None:
            return
        last = data.block_of(self.max_episodes - 1)
        if last < data.num_blocks - 1:
            rank_zero_warn(
                f"agent.max_episodes = {self.max_episodes} ends the run in block {last} of {data.num_blocks}, counted "
                "from 0: the rules of later blocks are never learned."
            )

    # Acting

    def _make_collector(self, trainer: Trainer, data: ReplayDataModule, learner: Learner) -> Collector:
        self.recorder.tells_correct_action = data.tells_correct_action
        envs = self._guarded(data.envs, data.remake_envs, f"{data.env_id}")
        rng = random_stream("agent", trainer.global_rank)
        if self.exploration_bonus is not None:
            self.exploration_bonus.begin(data.obs_shape, data.obs_dtype, random_stream("bonus", trainer.global_rank))
        return Collector(
            envs,
            ExploringPolicy(learner.act_values, self.epsilon, data.n_actions, rng),
            data.ring,
            data.sampler,
            self.progress,
            self.episode_log,
            self.recorder,
            trainer.global_rank,
            trainer.world_size,
            data.block_of,
            learner.normalization if isinstance(learner, LearnerModule) else None,
            self.exploration_bonus,
        )

    def _guarded(self, envs: Border, remake: Callable[[], Border], name: str) -> GuardedEnvs:
        rules = self.on_env_error, self.max_env_restarts, self.check_bounds
        return GuardedEnvs(envs, remake, name, *rules, rank_zero_warn)

    def _go_on_evaluating(self, data: ReplayDataModule, rank: int, fault: EnvFault) -> int:
        """Count a fault in an evaluation as one in training, and return the seed of the episodes to play instead."""
        envs = data.eval_envs
        guarded = self._guarded(envs, data.remake_eval_envs, f"{data.env_id}, evaluated")
        guarded.replace(fault, envs.seed, np.full(envs.num_envs, envs.num_steps - 1), self.progress)
        return int(random_stream(f"evaluation, fault {self.progress.env_faults}", rank).integers(2**31))

    @property
    def _budget(self) -> tuple[float, float]:
        """Env steps and episodes, over all processes, after which the run ends."""
        return self.max_env_steps or math.inf, self.max_episodes or math.inf

    @property
    def _learns_once(self) -> bool:
        """Whether the learner learns from each env step once, in rollouts, and has no replay memory."""
        return self._learner is not None and self._learner.cadence is not None

    def _due_env_steps(self, updates: int) -> float:
        """Return the number of env steps that there should be after so many updates."""
        every = self.cadence.updates_per_collect
        visits = math.ceil(updates / every) if self._learns_once else updates // every
        return self._unlearned_env_steps + visits * every * self.cadence.env_steps_per_update

    def _take_rollout(self, trainer: Trainer) -> None:
        """Take the env steps of the next rollout; where the run's budget cuts it short, it is done with that."""
        self._collect(trainer, self._due_env_steps(trainer.global_step))
        num_left_out = math.ceil(self._due_env_steps(trainer.global_step)) - self.progress.env_steps
        self._unlearned_env_steps -= max(0, num_left_out)

    def _collect(self, trainer: Trainer, until_env_steps: float) -> None:
        """Step the environments until this process has taken so many env steps, or the run's budget is used up."""
        collector, progress = self.collector, self.progress
        max_env_steps, max_episodes = self._budget
        own_max_env_steps = max_env_steps / trainer.world_size
        while progress.env_steps < min(until_env_steps, own_max_env_steps) and progress.episodes < max_episodes:
            num_lost = collector.step()
            self._unlearned_env_steps += num_lost
            until_env_steps += num_lost
        self._publish(trainer)

    def _is_over(self, trainer: Trainer) -> bool:
        """Return whether the Trainer will make no update, because the run that is resumed has nothing left to do."""
        return (
            trainer.should_stop
            or 0 <= trainer.max_steps <= self._resumed_updates
            or 0 <= (trainer.max_epochs or -1) <= self._resumed_epochs
            or _is_time_up(attributes_of(trainer).callbacks)
        )

    @property
    def _is_budget_used_up(self) -> bool:
        run, (max_env_steps, max_episodes) = self._run_progress, self._budget
        return run.env_steps >= max_env_steps or run.episodes >= max_episodes

    def _stop_at_budget(self, trainer: Trainer) -> None:
        """Let the fit loop end, or not begin, if the run's budget is used up."""
        if self._is_budget_used_up:
            trainer.should_stop = True

    def _warm_up(self, trainer: Trainer) -> None:
        """Take the env steps that come before the first update."""
        num_steps, start = self.cadence.warmup_env_steps, self.progress.env_steps
        self._unlearned_env_steps += num_steps
        # Several processes tell each other how far they are from time to time, as blocks count the episodes of all.
        every = num_steps if trainer.world_size == 1 else min(num_steps, _PUBLISH_EVERY)
        for until in (*range(every, num_steps, every), num_steps):
            self._collect(trainer, start + until)
        if not self._learns_once:
            self._stop_at_budget(trainer)

    def _publish(self, trainer: Trainer) -> None:
        """Write the run's progress and statistics, the same in all processes, so that they learn and stop alike."""
        own, run = self.progress, self._run_progress
        counts = [own.env_steps, own.episodes, own.env_faults, own.block]
        if trainer.world_size > 1:
            mine = torch.tensor(counts, device=trainer.strategy.root_device)
            rows = [torch.empty_like(mine) for _ in range(trainer.world_size)]
            torch.distributed.all_gather(rows, mine)
            counts = [*torch.stack(rows)[:, :-1].sum(0).tolist(), min(int(row[-1]) for row in rows)]
        run.env_steps, run.episodes, run.env_faults, run.block = counts
        run.epsilon = own.epsilon
        if self.collector.normalization is not None:
            self.collector.normalization.share(trainer.world_size)
        self.collector.episodes_elsewhere = run.episodes - own.episodes
        self.collector.follow_block()
        if self.collector.block_of is not None:
            run.block = own.block


def _is_time_up(callbacks: Sequence[Callback]) -> bool:
    """Return whether ``trainer.max_time`` is over."""
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    return any((timer.time_remaining() or math.inf) <= 0 for timer in timers)
