"""Options of commands that read what somebody else may have written."""

import argparse
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from seqrl_lightning.trust import MAX_FILE_GIB


def add_allow(parser: ArgumentParser) -> None:
    """Add ``--allow`` to a command that reads what somebody else may have written."""
    parser.add_argument(
        "--allow",
        action=_AddModules,
        default=[],
        metavar="MODULE",
        help="A module that the files may name, like my_tasks, or several: my_tasks,my_networks. It can be repeated.",
    )


class _AddModules(argparse.Action):
    """Add modules to those that a config or the options before named."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        named = vars(namespace)[self.dest]
        added = [name.strip(" '\"") for name in str(values).strip("[]").split(",")]
        setattr(namespace, self.dest, [*([named] if isinstance(named, str) else named), *filter(None, added)])


def add_max_gib(parser: ArgumentParser) -> None:
    """Add ``--max_gib`` to a command that reads what somebody else may have written."""
    meaning = "limit of files, and of the memory that they take, in GiB; what is larger is refused"
    parser.add_argument("--max_gib", type=float, default=MAX_FILE_GIB, help=meaning)
