"""Read the files of a run's folder as tables."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import pandas as pd
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import seqrl_lightning.envs  # noqa: F401  (registers the tasks)
from seqrl_lightning.analysis.levels import Levels, read_levels
from seqrl_lightning.analysis.trials import read_trials, shows_position
from seqrl_lightning.files import require_no_links_out
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.trust import Trust
from seqrl_lightning.types import ConfigurationError


@dataclass(frozen=True)
class Run:
    """A run's folder, as ``seqrl fit`` writes it."""

    folder: Path
    trust: Trust = field(default_factory=Trust)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's settings."""
        config: dict[str, Any] = yaml.safe_load((self.folder / "config.yaml").read_text())
        return config

    @property
    def env_id(self) -> str:
        """The task."""
        return str(self.config["data"]["env_id"])

    @property
    def seed(self) -> int:
        """The run's ``seed_everything``."""
        return int(self.config["seed_everything"])

    @cached_property
    def levels(self) -> Levels:
        """The place of its condition in the design of an experiment, if it is of one."""
        return read_levels(self.folder)

    @cached_property
    def facts(self) -> TaskFacts:
        """The facts about the task that measures depend on."""
        self.trust.require_task(self.env_id, str(self.folder / "config.yaml"))
        env = gym.make(self.env_id, **(self.config["data"].get("env_kwargs") or {})).unwrapped
        facts = TaskFacts.of(env)
        path = self.folder / "trials.csv"
        return facts if path.exists() and shows_position(path) else facts._replace(num_positions=None)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """``episodes.csv``: a row for every training episode."""
        return pd.read_csv(self.folder / "episodes.csv")

    @cached_property
    def trials(self) -> pd.DataFrame | None:
        """``trials.csv`` with derived columns (:func:`read_trials`); None for tasks without."""
        path = self.folder / "trials.csv"
        return read_trials(path, self.facts) if path.exists() else None

    @cached_property
    def _events(self) -> EventAccumulator:
        return EventAccumulator(str(self.folder), size_guidance={"scalars": 0}).Reload()

    def curve(self, tag: str) -> pd.Series:
        """A scalar's last value at each number of env steps; empty if it was never logged."""
        if tag not in self._events.Tags()["scalars"]:
            return pd.Series(dtype=float)
        events = {event.step: event.value for event in self._events.Scalars(tag)}
        return pd.Series(events, name=tag).sort_index()


def find_runs(patterns: Iterable[str], trust: Trust | None = None) -> list[Run]:
    """Return the runs that folders hold, or are.

    Args:
        patterns: Folders, or patterns of their names; a folder above runs stands for all of them.
        trust: What the runs' settings may name, for their tasks; None for nothing but the package's own.

    Raises:
        ConfigurationError: If one of them holds no run, or a file of it is a link out of its folder.
    """
    folders: dict[Path, None] = {}
    for pattern in patterns:
        found = [Path(match) for match in sorted(glob.glob(pattern))]
        runs = [config.parent for folder in found for config in sorted(folder.glob("**/config.yaml"))]
        runs = [run for run in runs if (run / "episodes.csv").exists()]
        if not runs:
            raise ConfigurationError(
                f"{pattern!r} holds no run; it must be a folder that `seqrl fit` wrote (with config.yaml and "
                "episodes.csv), or one above such folders"
            )
        folders.update(dict.fromkeys(runs))
    for folder in folders:
        require_no_links_out(folder)
    return [Run(folder, trust or Trust()) for folder in folders]


def one_task(runs: Sequence[Run]) -> str:
    """Return the task that all runs have in common.

    Raises:
        ConfigurationError: If they have several.
    """
    tasks = sorted({run.env_id for run in runs})
    if len(tasks) > 1:
        raise ConfigurationError(f"the runs are of {' and '.join(tasks)}; they must be of one task")
    return tasks[0]
