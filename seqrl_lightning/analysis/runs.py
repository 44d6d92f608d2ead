"""Read the files of a run's folder as tables."""

import glob
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from seqrl_lightning.analysis.levels import Levels, read_levels
from seqrl_lightning.analysis.trials import read_table, read_trials, require_observations, shows_position
from seqrl_lightning.envs.bare import bare_task
from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.files import require_file, require_own_files
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.reading import read_config
from seqrl_lightning.trust import MAX_FILE_GIB, Trust, task_kwargs, task_mode
from seqrl_lightning.types import ConfigurationError, require

_COUNTS = ("env_steps", "env", "block", "episode_length")  # of episodes.csv
_NUMBERS = ("episode_return", "terminated")


@dataclass(frozen=True)
class Run:
    """A run's folder, as ``seqrl fit`` writes it."""

    folder: Path
    trust: Trust = field(default_factory=Trust)
    max_gib: float = MAX_FILE_GIB  # of each file that is read

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's settings."""
        return read_config(self.folder / "config.yaml")

    @property
    def versions(self) -> str:
        """The packages that it was trained with, by the comments that its config begins with; empty without any."""
        with self._checked("config.yaml").open(errors="replace") as lines:
            return ", ".join(line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), lines))

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

    @contextmanager
    def task(self) -> Iterator[None]:
        """Make the task within this context, with the errors and the trusted names of the run's config."""
        source = str(self.folder / "config.yaml")
        with self.trust.task(self.env_id, source), refused_in_a_line(source):
            yield

    @cached_property
    def facts(self) -> TaskFacts:
        """The facts about the task that measures depend on."""
        with self.task():
            data = self.config["data"]
            facts = TaskFacts.of(bare_task(self.env_id, task_kwargs(data), task_mode(data) is not None))
        path = self._table_of_trials
        with refused_in_a_line(str(path)):
            is_shown = path is not None and shows_position(path)
        return facts if is_shown else facts._replace(num_positions=None)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """``episodes.csv``: a row for every training episode."""
        return read_table(self._checked("episodes.csv"), _NUMBERS, _COUNTS)

    @cached_property
    def trials(self) -> pd.DataFrame | None:
        """``trials.csv`` with derived columns (:func:`read_trials`); None for tasks without."""
        return self._choices_in("trials.csv")

    @cached_property
    def probes(self) -> pd.DataFrame | None:
        """``probes.csv``, the choices of evaluations, with derived columns (:func:`read_trials`); None without one."""
        return self._choices_in("probes.csv")

    def _choices_in(self, name: str) -> pd.DataFrame | None:
        if not (self.folder / name).exists():
            return None
        path = self._checked(name)
        with refused_in_a_line(str(path)):
            found = read_trials(path, self.facts)
            require_observations(found)
        return found

    @property
    def _table_of_trials(self) -> Path | None:
        return self._checked("trials.csv") if (self.folder / "trials.csv").exists() else None

    def _checked(self, name: str) -> Path:
        require_file(self.folder / name, self.max_gib)
        return self.folder / name

    @cached_property
    def _events(self) -> EventAccumulator:
        for path in self.folder.glob("*tfevents*"):
            _require_whole_records(self._checked(path.name))
        with refused_in_a_line(f"what {self.folder} holds for TensorBoard"):
            return EventAccumulator(str(self.folder), size_guidance={"scalars": 0}).Reload()

    def curve(self, tag: str) -> pd.Series:
        """A scalar's last value at each number of env steps; empty if it was never logged."""
        if tag not in self._events.Tags()["scalars"]:
            return pd.Series(dtype=float)
        events = {event.step: event.value for event in self._events.Scalars(tag)}
        return pd.Series(events, name=tag).sort_index()


def _require_whole_records(path: Path) -> None:
    """Refuse a file for TensorBoard with a damaged record, at which TensorBoard would silently stop reading.

    A truncated end is allowed, since a killed run leaves one.
    """
    left = path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:  # https://www.tensorflow.org/tutorials/load_data/tfrecord
            (length, checksum), left = struct.unpack("<QI", head), left - len(head)
            is_whole = masked_crc32c(head[:8]) == checksum
            if is_whole and length + 4 > left:
                return
            data, end = (file.read(length), file.read(4)) if is_whole else (b"", b"")
            is_whole = is_whole and struct.pack("<I", masked_crc32c(data)) == end
            must_be = "one as TensorBoard's writer leaves it; without the file, its curves are missing"
            require(is_whole, f"a record of {path}", f"damaged, {left} bytes before the end", must_be)
            left -= length + 4


def find_runs(patterns: Iterable[str], trust: Trust | None = None, max_gib: float = MAX_FILE_GIB) -> list[Run]:
    """Return the runs that folders hold, or are.

    Args:
        patterns: Folders, or patterns of their names; a folder above runs stands for all of them.
        trust: The names that the runs' settings may use for their tasks; None for the package's own only.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If one of them holds no run, or a file of it is a link out of its folder, or no file.
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
        require_own_files(folder)
    return [Run(folder, trust or Trust(), max_gib) for folder in folders]


def one_task(runs: Sequence[Run]) -> str:
    """Return the task that all runs have in common.

    Raises:
        ConfigurationError: If they have several.
    """
    tasks = sorted({run.env_id for run in runs})
    if len(tasks) > 1:
        raise ConfigurationError(f"the runs are of {' and '.join(tasks)}; they must be of one task")
    return tasks[0]
