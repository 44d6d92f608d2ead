"""The place of a condition in the design of an experiment, as `seqrl experiment` writes it beside the runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from seqrl_lightning.files import write_bytes
from seqrl_lightning.types import ConfigurationError

FILE = "condition.yaml"
"""In a condition's folder, above those of its seeds."""
_FOLDERS_ABOVE_A_RUN = 4  # CONDITION/seed_1/lightning_logs/version_0
_KEYS = {"place", "levels"}


class Levels(NamedTuple):
    """A condition's place in a design."""

    place: int = 0  # among all conditions, from 0, in the order in which figures show them
    level_of: Mapping[str, str] = {}  # by factor; empty if the run is of no experiment


def write_levels(levels: Levels, folder: Path) -> None:
    """Write a condition's place into its folder."""
    entries = {"place": levels.place, "levels": dict(levels.level_of)}
    write_bytes(folder / FILE, yaml.safe_dump(entries, sort_keys=False).encode())


def read_levels(run_folder: Path) -> Levels:
    """Read the place of a run's condition; an empty one if the run is of no experiment.

    Args:
        run_folder: The run's own folder, with its ``config.yaml``.

    Raises:
        ConfigurationError: If the file is not what :func:`write_levels` writes.
    """
    for folder in [run_folder, *run_folder.parents][:_FOLDERS_ABOVE_A_RUN]:
        if (folder / FILE).is_file():
            entries = yaml.safe_load((folder / FILE).read_text())
            if not (isinstance(entries, dict) and set(entries) == _KEYS and isinstance(entries["levels"], dict)):
                raise ConfigurationError(f"{folder / FILE} is {entries!r}; it must have place and levels")
            level_of = {str(factor): str(level) for factor, level in entries["levels"].items()}
            return Levels(int(entries["place"]), level_of)
    return Levels()
