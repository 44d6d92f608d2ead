"""Refuse a run whose parts don't fit each other, before it starts."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelPruning

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.callbacks.global_random_streams import GlobalRandomStreams
from seqrl_lightning.callbacks.priorities import PriorityWriter
from seqrl_lightning.callbacks.sidecars import Sidecars
from seqrl_lightning.callbacks.target_sync import TargetSync
from seqrl_lightning.collect import ExplorationBonus
from seqrl_lightning.collect.pace import Pace
from seqrl_lightning.collect.rounds import MAX_ROWS
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.exploration import EpsilonSchedule
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import ConfigurationError, Learner, require

_TRIALS = "it tries settings by training without the run's agent (seqrl sweep searches for settings)"
_UNFIT: dict[type[Callback], str] = {
    BatchSizeFinder: _TRIALS,
    LearningRateFinder: _TRIALS,
    ModelPruning: "it replaces the weights that acting and the target network read",
}
"""Lightning's callbacks that can't do their work in a run, and why."""


def require_callbacks(trainer: Trainer, agent: Callback, learner: LightningModule, data: ReplayDataModule) -> None:
    """Refuse a run without the callbacks that its parts rely on, which would silently learn something else.

    Raises:
        ConfigurationError: If one is missing, or stands behind the agent where it must stand before it; or if there is
            one that can't do its work in a run.
    """
    callbacks = attributes_of(trainer).callbacks
    for callback in callbacks:
        for kind, reason in _UNFIT.items():
            if isinstance(callback, kind):
                raise ConfigurationError(f"trainer.callbacks has {kind.__name__}; it must have none: {reason}")
    before = callbacks[: callbacks.index(agent)]
    has_target = isinstance(learner, ActingModule) and learner.target_net is not learner.policy_net
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


def require_fitting_data(pace: Pace, overlap: bool, data: ReplayDataModule) -> None:
    """Refuse a pace that the replay memory or the environments can't keep.

    Args:
        pace: The ratio of env steps and updates.
        overlap: Whether the environments take a step while the network is updated.
        data: The datamodule.

    Raises:
        ConfigurationError: If they can't.
    """
    warmup, setting = pace.cadence.warmup_env_steps, "agent.warmup_env_steps"
    require(warmup >= data.batch_size, setting, warmup, f"at least data.batch_size = {data.batch_size}")
    require(warmup <= data.capacity, setting, warmup, f"at most data.capacity = {data.capacity}")
    must_be = "false, or data.vectorization_mode 'async'"
    require(not overlap or data.envs.steps_in_processes, "agent.overlap", overlap, must_be)
    must_be = "false: the learner learns from whole rollouts, each by the weights that it was taken with"
    require(not (overlap and pace.learns_once), "agent.overlap", overlap, must_be)


def require_fitting_actors(
    actors: int,
    pace: Pace,
    updates_per_step: int,
    overlap: bool,
    data: ReplayDataModule,
    ray_address: str,
    num_processes: int,
) -> None:
    """Refuse what doesn't work with actors.

    Args:
        actors: Number of actors.
        pace: The ratio of env steps and updates.
        updates_per_step: The number of updates in a training step.
        overlap: Whether ``agent.overlap`` is set.
        data: The datamodule.
        ray_address: Where the actors are.
        num_processes: Number of processes that learn.

    Raises:
        ConfigurationError: If there is any.
    """
    every, per_update = pace.cadence.updates_per_collect, pace.cadence.env_steps_per_update
    most = MAX_ROWS * data.num_envs / max(every, updates_per_step)
    must_be = f"at most {most:g} with agent.actors, which take at most {MAX_ROWS} steps in each environment at a time"
    require(per_update <= most, "agent.env_steps_per_update", per_update, must_be)
    divides = data.num_envs % actors == 0
    require(divides, "agent.actors", actors, f"a divisor of data.num_envs = {data.num_envs}, so that shares are equal")
    must_be = "null: the learner learns from whole rollouts, each by the weights that it was taken with"
    require(not pace.learns_once, "agent.actors", actors, must_be)
    must_be = f"a cluster's with {num_processes} processes that learn, of which each would start Ray on this machine"
    require(num_processes == 1 or ray_address != "local", "agent.ray_address", ray_address, must_be)
    must_be = "false with agent.actors, which act during the update anyway"
    require(not overlap, "agent.overlap", overlap, must_be)


def require_one_policy(epsilon: EpsilonSchedule, learner: Learner) -> None:
    """Refuse an epsilon that differs by actor for a learner of the acting policy's values, which would be several.

    Raises:
        ConfigurationError: If there is one.
    """
    is_shared = type(epsilon).of_actor is EpsilonSchedule.of_actor
    must_be = f"the same for all actors with {type(learner).__name__}, which learns the values of the acting policy"
    require(is_shared or not learner.needs_epsilon, "agent.epsilon", type(epsilon).__name__, must_be)


def require_one_process(bonus: ExplorationBonus | None, num_processes: int) -> None:
    """Refuse an exploration bonus in several processes.

    Raises:
        ConfigurationError: If there is one.
    """
    must_be = (
        f"null with {num_processes} processes, each of which would count as new what other processes have already seen"
    )
    require(bonus is None or num_processes == 1, "agent.exploration_bonus", type(bonus).__name__, must_be)
