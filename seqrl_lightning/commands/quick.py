"""Overviews and lists that ``seqrl`` prints at once, without importing torch.

Names, defaults and first lines of docstrings come from ``overview.json``, which ``python -m docs.scripts.overview``
writes.
"""

import json
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from seqrl_lightning.commands import GROUPS, LIGHTNINGS
from seqrl_lightning.commands.packaged import configs

OVERVIEW = Path(__file__).with_name("overview.json")

_INDENT = 26


class _Overview(TypedDict):
    """The contents of ``overview.json``: the first line on each thing, by its name."""

    settings: dict[str, dict[str, dict[str, str]]]  # of training and of evaluation, by the title of a group
    algorithms: dict[str, dict[str, str]]  # by the title of a group
    envs: dict[str, str]


def answer(name: str, arguments: Sequence[str]) -> str | None:
    """Return what a command prints, if it needs nothing but the overview; None otherwise."""
    if name in ("-h", "--help", "help"):
        return commands()
    if name in LIGHTNINGS and arguments[-1:] in (["-h"], ["--help"]):
        return settings(name)
    if arguments:
        return None
    return {"configs": list_configs, "algorithms": list_algorithms, "envs": list_envs}.get(name, lambda: None)()


def commands() -> str:
    """Return the text of ``seqrl --help``."""
    lines = ["usage: seqrl COMMAND ..."]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(_entry(name, line, 16) for name, line in group.items())]
    return "\n".join([*lines, "", "`seqrl COMMAND --help` describes a command, `seqrl --version` prints the version."])


def settings(name: str) -> str:
    """Return the text of ``seqrl fit --help``, or of another of Lightning's commands: the settings that people set."""
    lines = [f"usage: seqrl {name} [--config FILE_OR_NAME ...] [--SETTING VALUE ...]"]
    for title, group in _overview()["settings"]["training" if name == "fit" else "evaluation"].items():
        lines += ["", f"{title}:", *(_entry(setting, line, _INDENT) for setting, line in group.items())]
    more = f"`seqrl {name} --help all` describes every setting, and `--print_config` prints the values that a run has."
    return "\n".join([*lines, "", more])


def list_algorithms() -> str:
    """Return the lists of learners, networks and their parts."""
    lines = []
    for title, group in _overview()["algorithms"].items():
        lines += [title, *(f"  {name:14} {line}" for name, line in group.items()), ""]
    return "\n".join([*lines, "`seqrl algorithms NAME` describes one in full, with its settings and their defaults."])


def list_envs() -> str:
    """Return the list of the package's tasks."""
    lines = [f"{env_id:28} {line}" for env_id, line in _overview()["envs"].items()]
    return "\n".join([*lines, "", "`seqrl envs ID` describes a task's rules, spaces and settings."])


def list_configs() -> str:
    """Return the list of the package's configs, with the result in each one's first line."""
    lines = [f"{name:28} {path.read_text().partition(chr(10))[0].lstrip('# ')}" for name, path in configs().items()]
    return "\n".join([*lines, "", "`seqrl fit --config NAME` trains with one."])


def _overview() -> _Overview:
    overview: _Overview = json.loads(OVERVIEW.read_text())
    return overview


def _entry(name: str, line: str, indent: int) -> str:
    """Return a name and what it means, which starts in column ``indent``."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    first = f"  {name}".ljust(indent)
    pad = " " * indent
    if first[-1] != " ":
        return f"{first}\n{textwrap.fill(line, width, initial_indent=pad, subsequent_indent=pad)}"
    return textwrap.fill(line, width, initial_indent=first, subsequent_indent=pad)
