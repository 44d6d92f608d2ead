"""The program ``seqrl``, also ``python -m seqrl_lightning``: it dispatches to the commands.

What takes seconds to import is imported once it is known that the command needs it.
"""

import os
import sys
from collections.abc import Container
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from seqrl_lightning import __version__
from seqrl_lightning.commands import COMMANDS, LIGHTNINGS, PASS_ARGUMENTS_TO_FIT, quick
from seqrl_lightning.commands.packaged import with_paths
from seqrl_lightning.launched import ENDS_WITH_PARENT, end_with_standard_input, finds_modules_in_the_current_folder
from seqrl_lightning.signals import signals_end_in_a_line

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


class Command(Protocol):
    """The module of a command, whose docstring describes it to its users."""

    __doc__: str | None

    def add_arguments(self, parser: "ArgumentParser") -> None:
        """Add its arguments."""

    def run(self, arguments: "Namespace") -> None:
        """Run it."""


def main() -> None:
    """Run one of the package's own commands, or one of Lightning's."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "--version":
        print(f"seqrl-lightning {__version__}")
        return
    if (text := quick.answer(name, arguments)) is not None:
        print_all(text)
        return
    if os.environ.pop(ENDS_WITH_PARENT, None):
        end_with_standard_input()
    with signals_end_in_a_line():
        from seqrl_lightning.errors import one_line_errors

        with one_line_errors():
            if not finds_modules_in_the_current_folder(sys.path):  # nor shall the processes that libraries start
                os.environ.setdefault("PYTHONSAFEPATH", "1")
            run_command(name, with_paths(arguments))


def print_all(text: str) -> None:
    """Print a text until its reader closes the pipe, as a pager may."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its exit


def run_command(name: str, arguments: list[str]) -> None:
    """Run a command."""
    if name == "fit" and any(argument.partition("=")[0] == "--seeds" for argument in arguments):
        name = "fit-seeds"
    if name in COMMANDS:
        command_module(name).run(parse(name, arguments))
        return
    from seqrl_lightning.errors import fail, require_known

    if name.startswith("-"):
        fail(f"{name} stands where a command must: the command comes first, as in `seqrl fit --config sequence_dqn`")
    require_known("the command", name, (*LIGHTNINGS, *COMMANDS))
    from seqrl_lightning.cli import SeqRLCLI

    if arguments[-2:] == ["--help", "all"] or arguments[-1:] == ["--help=all"]:
        arguments = ["--help"]
    sys.argv[1:] = [name, *arguments]
    SeqRLCLI()


def command_module(name: str) -> "Command":
    """Import the module of one of the package's own commands."""
    return cast("Command", import_module(f"seqrl_lightning.commands.{name.replace('-', '_')}"))


def parse(name: str, arguments: list[str]) -> "Namespace":
    """Parse the arguments of one of the package's own commands.

    Returns:
        The parsed arguments, with those to pass to ``seqrl fit`` as ``fit_arguments``.
    """
    from seqrl_lightning.errors import OneLineErrors

    command = command_module(name)
    parser = OneLineErrors(prog=f"seqrl {name}", description=command.__doc__)
    command.add_arguments(parser)
    fit_arguments: list[str] = []
    if name in PASS_ARGUMENTS_TO_FIT:
        arguments, fit_arguments = split_arguments(arguments, own_options=parser._option_string_actions)
    parsed = parser.parse_args(arguments)
    parsed.fit_arguments = fit_arguments
    return parsed


def split_arguments(arguments: list[str], own_options: Container[str]) -> tuple[list[str], list[str]]:
    """Split a command's arguments into its own and the others; the values that follow an option stay with it."""
    own: list[str] = []
    others: list[str] = []
    group = others
    for argument in arguments:
        if argument.startswith("--") or argument in own_options:
            group = own if argument.partition("=")[0] in own_options else others
        group.append(argument)
    return own, others


if __name__ == "__main__":
    main()
