"""The agent: it keeps env steps and updates in the ratio asked for, and ends the run when its budget is used up."""

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.callbacks.budget import (
    reached_limit,
    require_end,
    require_epochs,
    warn_of_later_blocks,
    warn_of_missed_blocks,
    was_stopped,
)
from seqrl_lightning.callbacks.requirements import (
    require_callbacks,
    require_fitting_actors,
    require_fitting_data,
    require_one_policy,
    require_one_process,
)
from seqrl_lightning.checkpoints.changes import changes, described
from seqrl_lightning.collect import (
    Collector,
    EpisodeLog,
    ExplorationBonus,
    ExploringPolicy,
    GuardedEnvs,
    TrialRecorder,
)
from seqrl_lightning.collect.actor_messages import ActorSettings
from seqrl_lightning.collect.collector_envs import CollectorEnvs
from seqrl_lightning.collect.env_steps import Budget, EnvSteps
from seqrl_lightning.collect.pace import Pace
from seqrl_lightning.collect.policy import Explorer
from seqrl_lightning.collect.ray_actors import RayActors
from seqrl_lightning.collect.replayed import ReplayedEnvs, ReplayedPolicy
from seqrl_lightning.collect.rounds import Rounds, Workers
from seqrl_lightning.data import LearnerDataModule, ReplayDataModule
from seqrl_lightning.envs import Border, EnvFault
from seqrl_lightning.exploration import EpsilonSchedule, ExponentialEpsilon
from seqrl_lightning.random_streams import SEED, random_stream
from seqrl_lightning.saved_state import saved, saved_count, saved_settings
from seqrl_lightning.trainer_access import attributes_of, learner_of
from seqrl_lightning.types import Cadence, ConfigurationError, Learner, Progress, require

_STOPPED = "stopped_by_callback"  # in a checkpoint: whether a callback ended the run


class AgentCallback(Callback):
    """Act epsilon-greedily in the environments, and keep env steps and updates in the ratio asked for.

    It warms the replay memory up before the first update. Then, after every ``updates_per_collect`` updates, it takes
    ``updates_per_collect * env_steps_per_update`` env steps. With N environments, steps come N at a time;
    surplus ones are deducted from the next visit. With several processes, each has environments, a replay memory and
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
            is outside its space. ``raise`` ends the run. ``restart`` remakes all environments, removes the broken
            episode from the replay memory, and continues with new episodes. With ``actors``, it also restarts one that
            is lost, which takes the round again: if the state of its environments can be saved, nothing changes.
        max_env_restarts: Restarts in this process; the fault after the last of them ends the run.
        check_bounds: Whether an observation outside its space's bounds is such an error. False for tasks that don't
            keep to their bounds (Gymnasium's LunarLander); a value that isn't finite stays an error.
        exploration_bonus: A bonus that is added to the rewards that are learned from, for tasks whose rewards are
            hardly ever found by random actions: ``CountBonus`` for discrete states, ``RND`` for others. Returns stay
            the task's own. None for none.
        actors: Number of processes that Ray starts, each of which acts in its share of ``data.num_envs`` environments
            with a copy of the network; None acts in this process. While the network is updated, all of them take the
            env steps that are due after the update (a round), by the weights before it. Each process that learns has so
            many actors of its own.
        ray_address: Where they are: ``local`` for this machine, ``auto`` or ``host:port`` for a Ray cluster.

    Attributes:
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
        actors: int | None = None,
        ray_address: str = "local",
    ) -> None:
        require(max_episodes is None or max_episodes > 0, "agent.max_episodes", max_episodes, "at least 1")
        require(on_env_error in ("raise", "restart"), "agent.on_env_error", on_env_error, "'raise' or 'restart'")
        require(max_env_restarts >= 0, "agent.max_env_restarts", max_env_restarts, "at least 0")
        require(actors is None or actors > 0, "agent.actors", actors, "at least 1, or null")
        self.epsilon = epsilon
        self.max_env_steps = max_env_steps
        self.max_episodes = max_episodes
        self.overlap = overlap
        self.on_env_error = on_env_error
        self.max_env_restarts = max_env_restarts
        self.check_bounds = check_bounds
        self.exploration_bonus = exploration_bonus
        self.actors = actors
        self.ray_address = ray_address
        self.progress = Progress()
        self.episode_log = EpisodeLog()
        self.recorder = TrialRecorder()
        self._pace = Pace(warmup_env_steps, env_steps_per_update, updates_per_collect)
        self._settings = {**described(self)["init_args"], **self._pace.given, "epsilon": described(epsilon)}
        self._settings["exploration_bonus"] = None if exploration_bonus is None else described(exploration_bonus)
        self._resumed: dict[str, Any] | None = None  # the collector's state, until the fit starts
        self._resumed_updates = self._resumed_epochs = 0  # which the Trainer counts only after on_fit_start
        self._learner: Learner | None = None  # of the fit
        self._env_steps: EnvSteps | None = None  # of the fit
        self._workers: Workers | None = None  # the actors of the fit
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
        """Return the Trainer's agent; None if the datamodule holds logged trials, so that no agent acts.

        Raises:
            ConfigurationError: If it has none, and the datamodule needs one.
        """
        return AgentCallback.of(trainer) if LearnerDataModule.of(trainer).has_agent else None

    @property
    def cadence(self) -> Cadence:
        """The cadence in use: the learner's, or that of the settings."""
        return self._pace.cadence

    @property
    def collector(self) -> Collector:
        """The collector that acts in the environments, from ``on_fit_start`` on."""
        assert self._env_steps is not None
        return self._env_steps.collector

    # Lightning's hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Guard evaluation, choose the cadence, and refuse settings that can't work with the data or never end."""
        data = ReplayDataModule.of(trainer)
        on_fault = partial(self._go_on_evaluating, data, trainer.global_rank)
        data.check_eval_envs(self.check_bounds, on_fault)
        if stage == "fit":
            require_callbacks(trainer, self, pl_module, data)
            self._learner = learner_of(trainer)
            self._pace.suit(self._learner)
            require_fitting_data(self._pace, self.overlap, data)
            if self.actors is not None:
                rules = self._learner.updates_per_step, self.overlap
                where = self.ray_address, trainer.world_size
                require_fitting_actors(self.actors, self._pace, *rules, data, *where)
                require_one_policy(self.epsilon, self._learner)
            require_one_process(self.exploration_bonus, trainer.world_size)
            require_end(self._budget, trainer, self.cadence.warmup_env_steps)
            warn_of_later_blocks(self._budget, data)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the actors, and the subscriptions to trials: in a further run, subscribers subscribe again."""
        self._close_actors()
        self.recorder.end_subscriptions()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the actors."""
        self._close_actors()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start episodes or continue those of the checkpoint; warm the replay memory up, unless the run is over."""
        data = ReplayDataModule.of(trainer)
        assert self._learner is not None
        self._run_progress = data.progress
        self._env_steps = env_steps = self._make_env_steps(trainer, data, self._learner)
        if not self.collector.begin(self._resumed):
            rank_zero_info(
                f"Not bitwise: {data.env_id} can't be set back to where it was, because it or a wrapper doesn't save "
                "all of its state; the run continues with new episodes, and its results differ from those of a run "
                "that was never stopped. To resume exactly, give it `state_dict` and `load_state_dict` "
                "(docs/guarantee.md)."
            )
        self.collector.envs.state_dict()  # what can't be saved is refused now, not at the first checkpoint
        data.take_rollout = (lambda: env_steps.take_rollout(trainer.global_step)) if self._pace.learns_once else None
        self._stop_at_budget(trainer)
        counts = self._run_progress, self._resumed_updates, self._resumed_epochs
        limit = reached_limit(self._budget, trainer, *counts)
        if self._resumed is not None and limit is not None:
            rank_zero_info(f"This run has reached {limit}: it makes no further update until the limit is raised.")
        self._resumed = None
        if not data.ring.num_slots and limit is None and not trainer.should_stop:
            env_steps.warm_up()
            if not self._pace.learns_once:
                self._stop_at_budget(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """With ``overlap`` or actors: start the steps of the environments that the coming updates ask for."""
        assert self._learner is not None
        assert self._env_steps is not None
        self._env_steps.start(trainer.global_step + self._learner.updates_per_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Take the env steps that the updates so far ask for; afterwards no step is under way."""
        assert self._env_steps is not None
        self._env_steps.finish(trainer.global_step)
        self._stop_at_budget(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if the last block was never reached."""
        warn_of_missed_blocks(ReplayDataModule.of(trainer), self.collector.reached_block)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the resumed run's progress; report which of the agent's settings changed, and if a callback ended it."""
        state = saved(checkpoint["callbacks"].get(self.state_key), dict, "the agent's state")
        before = saved_settings(state.get("settings", {}), "the agent's settings")
        is_told = isinstance(pl_module, ActingModule) and pl_module.is_from_command_line
        for change in [] if is_told else changes({"agent": before or self._settings}, {"agent": self._settings}):
            rank_zero_info(str(change))
        self._resumed_updates = checkpoint["global_step"]
        self._resumed_epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        require_epochs(trainer, self._resumed_epochs)
        if checkpoint.get(_STOPPED, False):
            trainer.should_stop = True
            rank_zero_info("A callback, like EarlyStopping, has ended this run: resuming it makes no further update.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note whether a callback ended the run, and not one of its limits, which a resumed run may raise."""
        checkpoint[_STOPPED] = was_stopped(trainer, self._budget, self._run_progress)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the collector's state, as tensors and primitives; nothing before the first fit."""
        if self._env_steps is None:
            return {}
        return {
            "progress": asdict(self.progress),
            "unlearned_env_steps": self._pace.unlearned_env_steps,
            "recent_returns": list(self.episode_log.recent_returns),
            "settings": self._settings,
            "collector": self.collector.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the collector follows when fitting starts."""
        self.progress = saved(state_dict.get("progress"), Progress, "the agent's progress")
        unlearned = saved_count(state_dict.get("unlearned_env_steps"), "the agent's unlearned_env_steps")
        self._pace.unlearned_env_steps = unlearned
        returns = saved(state_dict.get("recent_returns"), list[float], "the agent's returns")
        self.episode_log.recent_returns.extend(returns)
        self._resumed = saved(state_dict.get("collector"), dict, "the agent's collector")

    # Acting

    def _make_env_steps(self, trainer: Trainer, data: ReplayDataModule, learner: Learner) -> EnvSteps:
        """Put together what acts in the fit: in the environments of this process, or by rounds of its actors."""
        self.recorder.tells_correct_action = data.tells_correct_action
        if self.exploration_bonus is not None:
            self.exploration_bonus.begin(data.obs_shape, data.obs_dtype, random_stream("bonus", trainer.global_rank))
        envs: CollectorEnvs
        policy: Explorer
        if self.actors is None:
            rounds, rng = None, random_stream("agent", trainer.global_rank)
            envs = self._guarded(data.envs, data.remake_envs, f"{data.env_id}")
            policy = ExploringPolicy(learner.act_values, self.epsilon, data.n_actions, rng)
        else:
            rounds = self._begin_rounds(self.actors, trainer, data, learner)
            policy = ReplayedPolicy(rounds)
            envs = ReplayedEnvs(rounds, policy)
        collector = Collector(
            envs,
            policy,
            data.ring,
            data.sampler,
            self.progress,
            self.episode_log,
            self.recorder,
            trainer.global_rank,
            trainer.world_size,
            data.block_of,
            learner.normalization if isinstance(learner, ActingModule) else None,
            self.exploration_bonus,
        )
        device = trainer.strategy.root_device
        return EnvSteps(collector, self._pace, self._budget, self._run_progress, device, self.overlap, rounds)

    def _begin_rounds(self, num_actors: int, trainer: Trainer, data: ReplayDataModule, learner: Learner) -> Rounds:
        """Start the actors, each with its share of the environments and a copy of the network."""
        assert isinstance(learner, ActingModule)
        settings = ActorSettings(
            f"{data.env_id}",
            partial(data.factory.make_envs, data.num_envs // num_actors),
            learner.acting_copy(),
            self.epsilon,
            data.n_actions,
            data.obs_shape,
            data.obs_dtype,
            num_actors,
            self.check_bounds,
            os.environ.get(SEED),
            trainer.global_rank,
            trainer.world_size,
        )
        self._workers = self._start_actors(settings)
        max_restarts = self.max_env_restarts if self.on_env_error == "restart" else None
        return Rounds(self._workers, data.num_envs, learner.acting_weights, max_restarts, rank_zero_warn)

    def _start_actors(self, settings: ActorSettings) -> Workers:
        return RayActors(settings, self.ray_address)

    def _close_actors(self) -> None:
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

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
    def _budget(self) -> Budget:
        return Budget(self.max_env_steps, self.max_episodes)

    def _stop_at_budget(self, trainer: Trainer) -> None:
        """Let the fit loop end, or not begin, if the run's budget is used up."""
        if self._budget.is_used_up(self._run_progress):
            trainer.should_stop = True
