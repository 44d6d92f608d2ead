"""Whether a run ends, and what has ended it: the budget, a limit of the Trainer, or a callback."""

import math
from collections.abc import Sequence

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_warn

from seqrl_lightning.collect.env_steps import Budget
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.trainer_access import attributes_of, is_limited
from seqrl_lightning.types import Progress, require


def require_end(budget: Budget, trainer: Trainer, warmup_env_steps: int) -> None:
    """Refuse a run that would never end, or would end before its first update.

    Raises:
        ConfigurationError: If it would.
    """
    limit = budget.max_env_steps
    must_be = f"more than agent.warmup_env_steps = {warmup_env_steps}"
    require(limit is None or limit > warmup_env_steps, "agent.max_env_steps", limit, must_be)
    ends = limit is not None or budget.max_episodes is not None or is_limited(trainer)
    others = "agent.max_episodes, trainer.max_steps, trainer.max_epochs or trainer.max_time"
    require(ends, "agent.max_env_steps", None, f"a number, or {others} must be set: nothing ends this run")
    limits = {
        "limit_train_batches": trainer.limit_train_batches,
        "max_steps": trainer.max_steps,
        "max_epochs": trainer.max_epochs,
    }
    for name, value in limits.items():
        require(value != 0, f"trainer.{name}", value, "more than 0: this run would make no update")


def warn_of_later_blocks(budget: Budget, data: ReplayDataModule) -> None:
    """Warn if the budget of episodes ends before the task's last block begins."""
    if data.block_of is None or budget.max_episodes is None:
        return
    last = data.block_of(budget.max_episodes - 1)
    if last < data.num_blocks - 1:
        rank_zero_warn(
            f"agent.max_episodes = {budget.max_episodes} ends the run in block {last} of {data.num_blocks}, counted "
            "from 0: the rules of later blocks are never learned."
        )


def warn_of_missed_blocks(data: ReplayDataModule, reached_block: int) -> None:
    """Warn if a run has ended before a step was taken in the task's last block."""
    reached = min(reached_block, data.progress.block)
    if reached < data.num_blocks - 1:
        rank_zero_warn(
            f"The run ended in block {reached} of {data.num_blocks}, counted from 0, after {data.progress.episodes} "
            "episodes: the rules of later blocks were never learned."
        )


def was_stopped(trainer: Trainer, budget: Budget, run: Progress) -> bool:
    """Return whether a callback has ended the run, and not one of its limits, which a resumed run may raise."""
    callbacks = attributes_of(trainer).callbacks
    has_reason = any(
        isinstance(callback, EarlyStopping) and callback.stopping_reason is not EarlyStoppingReason.NOT_STOPPED
        for callback in callbacks
    )
    is_at_limit = budget.is_used_up(run) or is_time_up(callbacks)
    return trainer.should_stop and (has_reason or not is_at_limit)


def require_epochs(trainer: Trainer, epochs: int) -> None:
    """Refuse to resume a run with fewer epochs than it has finished, as Lightning would after its files are written.

    Raises:
        ConfigurationError: If there are fewer.
    """
    is_enough = trainer.max_epochs in (None, -1) or trainer.max_epochs >= epochs
    require(is_enough, "trainer.max_epochs", trainer.max_epochs, f"at least {epochs}, the epochs that the run finished")


def reached_limit(budget: Budget, trainer: Trainer, run: Progress, updates: int, epochs: int) -> str | None:
    """Return the limit that leaves a resumed run nothing to do, with its setting's name; None if there is none.

    Args:
        budget: The run's own limits.
        trainer: It counts what the run has done only once it fits.
        run: The run's progress, over all processes.
        updates: Updates that the run has made.
        epochs: Epochs that it has finished.
    """
    limits = (
        ("agent.max_env_steps", budget.max_env_steps, run.env_steps),
        ("agent.max_episodes", budget.max_episodes, run.episodes),
        ("trainer.max_steps", trainer.max_steps, updates),
        ("trainer.max_epochs", trainer.max_epochs, epochs),
    )
    for name, limit, done in limits:
        if limit is not None and 0 <= limit <= done:
            return f"{name} = {limit}"
    return "trainer.max_time" if is_time_up(attributes_of(trainer).callbacks) else None


def is_time_up(callbacks: Sequence[Callback]) -> bool:
    """Return whether ``trainer.max_time`` is over."""
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    return any((timer.time_remaining() or math.inf) <= 0 for timer in timers)
