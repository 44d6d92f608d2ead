"""The budget of a run: its limits, and whether one of them is reached."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities import rank_zero_warn

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.trainer_access import attributes_of, is_limited
from seqrl_lightning.types import Progress, require


class Budget(NamedTuple):
    """Env steps and episodes, over all environments and processes, after which a run ends; None for no limit."""

    max_env_steps: int | None
    max_episodes: int | None

    def check(self, trainer: Trainer, warmup_env_steps: int) -> None:
        """Refuse a run that would never end, or would end before its first update.

        Raises:
            ConfigurationError: If it is one.
        """
        budget = self.max_env_steps
        must_be = f"more than agent.warmup_env_steps = {warmup_env_steps}"
        require(budget is None or budget > warmup_env_steps, "agent.max_env_steps", budget, must_be)
        ends = budget is not None or self.max_episodes is not None or is_limited(trainer)
        others = "agent.max_episodes, trainer.max_steps, trainer.max_epochs or trainer.max_time"
        require(ends, "agent.max_env_steps", None, f"a number, or {others} must be set: nothing ends this run")

    def warn_of_blocks(self, data: ReplayDataModule) -> None:
        """Say so if the budget of episodes ends before the task's last block begins."""
        if data.block_of is None or self.max_episodes is None:
            return
        last = data.block_of(self.max_episodes - 1)
        if last < data.num_blocks - 1:
            rank_zero_warn(
                f"agent.max_episodes = {self.max_episodes} ends the run in block {last} of {data.num_blocks}, counted "
                "from 0: the rules of later blocks are never learned."
            )

    def is_used_up(self, run: Progress) -> bool:
        """Return whether a run with this progress, over all processes, is at its end."""
        return run.env_steps >= (self.max_env_steps or math.inf) or run.episodes >= (self.max_episodes or math.inf)

    def allows(self, own: Progress, num_processes: int) -> bool:
        """Return whether one of several processes, with this progress of its own, may take a further env step."""
        share = (self.max_env_steps or math.inf) / num_processes
        return own.env_steps < share and own.episodes < (self.max_episodes or math.inf)

    def was_stopped(self, trainer: Trainer, run: Progress) -> bool:
        """Return whether a callback has ended the run, and not one of its limits, which a resumed run may raise."""
        callbacks = attributes_of(trainer).callbacks
        has_reason = any(
            isinstance(callback, EarlyStopping) and callback.stopping_reason is not EarlyStoppingReason.NOT_STOPPED
            for callback in callbacks
        )
        is_at_limit = self.is_used_up(run) or is_time_up(callbacks)
        return trainer.should_stop and (has_reason or not is_at_limit)


def warn_of_missed_blocks(data: ReplayDataModule, reached_block: int) -> None:
    """Say so if a run has ended before a step was taken in the task's last block."""
    reached = min(reached_block, data.progress.block)
    if reached < data.num_blocks - 1:
        rank_zero_warn(
            f"The run ended in block {reached} of {data.num_blocks}, counted from 0, after {data.progress.episodes} "
            "episodes: the rules of later blocks were never learned."
        )


def is_over(trainer: Trainer, updates: int, epochs: int) -> bool:
    """Return whether the Trainer will make no update, because a run that is resumed has nothing left to do.

    Args:
        trainer: It counts what the run has done only once it fits.
        updates: Those that the run has made.
        epochs: Those that it has finished.
    """
    return (
        trainer.should_stop
        or 0 <= trainer.max_steps <= updates
        or 0 <= (trainer.max_epochs or -1) <= epochs
        or is_time_up(attributes_of(trainer).callbacks)
    )


def is_time_up(callbacks: Sequence[Callback]) -> bool:
    """Return whether ``trainer.max_time`` is over."""
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    return any((timer.time_remaining() or math.inf) <= 0 for timer in timers)
