"""The progress bar: how far the run is, in the unit of its budget."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from seqrl_lightning.callbacks.agent import AgentCallback
from seqrl_lightning.data import ReplayDataModule

_SECONDS_BETWEEN_REFRESHES = 0.2
_SECONDS_BETWEEN_REFRESHES_IN_A_FILE = 2.0  # where none of them is overwritten
_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_ENDLESS_BAR_FORMAT = "{desc} {n_fmt} [{elapsed}{postfix}]"


class EnvStepProgressBar(TQDMProgressBar):
    """One bar over the whole run, in episodes, env steps or updates, whichever limits it; with the time left."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the bar."""
        self._agent = AgentCallback.of(trainer)
        self._unit, done, self._total = self._progress(trainer)
        on_screen = sys.stdout.isatty()
        self._wait = _SECONDS_BETWEEN_REFRESHES if on_screen else _SECONDS_BETWEEN_REFRESHES_IN_A_FILE
        self._next_refresh = 0.0
        self.train_progress_bar = Tqdm(
            desc=self._unit.capitalize(),
            initial=done,
            total=self._total,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stdout,
            bar_format=_BAR_FORMAT if self._total else _ENDLESS_BAR_FORMAT,
        )
        self.train_progress_bar.n = done

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        """Goes on: epochs are only the rhythm of evaluation."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Redraws the bar, a few times a second."""
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + self._wait
            self._refresh(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the bar a last time."""
        self._refresh(trainer)
        self.train_progress_bar.close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the new evaluation."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._refresh(trainer)

    def init_validation_tqdm(self) -> Tqdm:
        """A bar of its own only for ``seqrl validate``: within a run evaluations are short."""
        return Tqdm(disable=True) if self.trainer.state.fn == "fit" else super().init_validation_tqdm()

    def _refresh(self, trainer: Trainer) -> None:
        if self.train_progress_bar.disable:
            return
        done = self._progress(trainer)[1]
        self.train_progress_bar.n = min(done, self._total or done)  # environments side by side overshoot
        self.train_progress_bar.set_postfix_str(self._figures(trainer), refresh=False)
        self.train_progress_bar.refresh()

    def _figures(self, trainer: Trainer) -> str:
        agent = self._agent
        env_steps = ReplayDataModule.of(trainer).progress.env_steps
        figures = [] if self._unit == "env steps" else [f"env steps {env_steps:,}"]
        if agent.recent_returns:
            figures.append(f"return {sum(agent.recent_returns) / len(agent.recent_returns):.2f}")
        if (evaluated := trainer.callback_metrics.get("val/return_mean")) is not None:
            figures.append(f"evaluation {float(evaluated):.2f}")
        return ", ".join(figures)

    def _progress(self, trainer: Trainer) -> tuple[str, int, int | None]:
        """The unit, how many are done, and the budget (None where only epochs or time limit the run)."""
        agent, progress = self._agent, ReplayDataModule.of(trainer).progress
        if agent.max_episodes is not None:
            return "episodes", progress.episodes, agent.max_episodes
        if agent.max_env_steps is not None:
            return "env steps", progress.env_steps, agent.max_env_steps
        return "updates", trainer.global_step, trainer.max_steps if trainer.max_steps > 0 else None
