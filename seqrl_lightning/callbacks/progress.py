"""The run's progress in the unit of its budget: a bar, and reports to the program that started the run."""

import sys
import time
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.launched import report

_SECONDS_BETWEEN_REFRESHES = 0.2
_SECONDS_BETWEEN_REPORTS = 1.0
_SECONDS_BETWEEN_LINES = 5.0
_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_ENDLESS_BAR_FORMAT = "{desc} {n_fmt} [{elapsed}{postfix}]"


class _Position(NamedTuple):
    unit: str  # of the run's budget
    done: int
    total: int | None  # None where only epochs or time limit the run


class EnvStepProgressBar(TQDMProgressBar):
    """One bar over the whole run, in episodes, env steps or updates, whichever limits it; with the time left.

    Where the output is not a screen, a line every few seconds says the same, without control characters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._writes_lines = False
        self._start = self._next_refresh = 0.0

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn."""
        return super().is_enabled and sys.stdout.isatty()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        position = _position_of(trainer)
        self._writes_lines = super().is_enabled and not sys.stdout.isatty()
        self._start, self._next_refresh = time.monotonic(), 0.0
        self.train_progress_bar = Tqdm(
            desc=position.unit.capitalize(),
            initial=position.done,
            total=position.total,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stdout,
            bar_format=_BAR_FORMAT if position.total else _ENDLESS_BAR_FORMAT,
        )
        self.train_progress_bar.n = position.done

    def on_train_epoch_start(self, trainer: Trainer, *args: object) -> None:
        """Keep the bar: an epoch only determines when evaluation comes."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Redraw the bar a few times a second, or write a line every few seconds."""
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + (_SECONDS_BETWEEN_LINES if self._writes_lines else _SECONDS_BETWEEN_REFRESHES)
            self._refresh(trainer)
            self._write_line(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the bar."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar, or write the line, a last time."""
        self._refresh(trainer)
        self._write_line(trainer)
        self.train_progress_bar.close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new evaluation."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._refresh(trainer)

    def init_validation_tqdm(self) -> Tqdm:
        """Return a bar for ``seqrl validate`` only: the evaluations of a run are short."""
        return Tqdm(disable=True) if self.trainer.state.fn == "fit" else super().init_validation_tqdm()

    def _write_line(self, trainer: Trainer) -> None:
        if self._writes_lines:
            print(f"{time.monotonic() - self._start:.0f} s: {_line_of(trainer)}", flush=True)

    def _refresh(self, trainer: Trainer) -> None:
        if self.train_progress_bar.disable:
            return
        unit, done, total = _position_of(trainer)
        self.train_progress_bar.n = min(done, total or done)  # environments side by side overshoot
        self.train_progress_bar.set_postfix_str(", ".join(_figures_of(trainer, unit)), refresh=False)
        self.train_progress_bar.refresh()


class ProgressReport(Callback):
    """Report the progress to the program that started this one, once a second."""

    def __init__(self) -> None:
        self._next_report = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Report, if a second has passed."""
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _SECONDS_BETWEEN_REPORTS
            self._report(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the end, also if a resumed run had nothing left to do."""
        self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            report(_line_of(trainer))


def _position_of(trainer: Trainer) -> _Position:
    agent, progress = AgentCallback.needed_by(trainer), LearnerDataModule.of(trainer).progress
    if agent is not None and agent.max_episodes is not None:
        return _Position("episodes", progress.episodes, agent.max_episodes)
    if agent is not None and agent.max_env_steps is not None:
        return _Position("env steps", progress.env_steps, agent.max_env_steps)
    return _Position("updates", trainer.global_step, trainer.max_steps if trainer.max_steps > 0 else None)


def _line_of(trainer: Trainer) -> str:
    unit, done, total = _position_of(trainer)
    of_total = f"/{total:,}" if total else ""
    return ", ".join([f"{unit} {done:,}{of_total}", *_figures_of(trainer, unit)])


def _figures_of(trainer: Trainer, unit: str) -> list[str]:
    agent, figures = AgentCallback.needed_by(trainer), []
    if agent is not None and unit != "env steps":
        figures.append(f"env steps {LearnerDataModule.of(trainer).progress.env_steps:,}")
    if agent is not None and (returns := agent.episode_log.recent_returns):
        figures.append(f"return {sum(returns) / len(returns):.2f}")
    if (evaluated := trainer.callback_metrics.get("val/return_mean")) is not None:
        figures.append(f"evaluation {float(evaluated):.2f}")
    return figures
