"""The place of a condition in the design of an experiment, as `seqrl experiment` writes it beside the runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from seqrl_lightning.files import write_bytes
from seqrl_lightning.reading import read_json
from seqrl_lightning.types import ConfigurationError

FILE = "condition.json"
"""In a condition's folder, above those of its seeds."""
_FOLDERS_ABOVE_A_RUN = 4  # CONDITION/seed_1/lightning_logs/version_0


class Levels(NamedTuple):
    """A condition's place in a design."""

    place: int = 0  # among all conditions, from 0, in the order in which figures show them
    level_of: Mapping[str, str] = {}  # by factor; empty if the run is of no experiment
    command: str = ""  # the command that ran the experiment, as it was typed


def write_levels(levels: Levels, folder: Path) -> None:
    """Write a condition's place into its folder."""
    entries = {"place": levels.place, "levels": dict(levels.level_of), "command": levels.command}
    write_bytes(folder / FILE, json.dumps(entries).encode())


def read_levels(run_folder: Path) -> Levels:
    """Read the place of a run's condition; an empty one if the run is of no experiment.

    Args:
        run_folder: The run's own folder, with its ``config.yaml``.

    Raises:
        ConfigurationError: If the file is not what :func:`write_levels` writes.
    """
    for folder in [run_folder, *run_folder.parents][:_FOLDERS_ABOVE_A_RUN]:
        if (folder / FILE).is_file():
            return _parsed(folder / FILE)
    return Levels()


def _parsed(path: Path) -> Levels:
    entries = read_json(path)
    try:
        place, level_of = entries["place"], entries["levels"]
        by_factor = {str(factor): str(level) for factor, level in level_of.items()}
        return Levels(int(place), by_factor, str(entries.get("command", "")))
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"{path} is not what `seqrl experiment` writes; it must have place and levels"
        ) from error
