"""``seqrl``, or ``python -m seqrl_lightning``: picks the command."""

import sys
from collections.abc import Container
from importlib import import_module
from typing import Any

from jsonargparse import Namespace

from seqrl_lightning.commands import COMMANDS, HANDS_ON
from seqrl_lightning.errors import OneLineErrors, one_line_errors


def main() -> None:
    """Runs one of the package's own commands, or hands over to Lightning's."""
    name, *arguments = sys.argv[1:] or ["--help"]
    with one_line_errors():
        if name == "fit" and any(argument.partition("=")[0] == "--seeds" for argument in arguments):
            name = "fit-seeds"
        if name in COMMANDS:
            run_command(name, arguments)
            return
        from seqrl_lightning.cli import SeqRLCLI  # takes seconds to import

        if name in ("-h", "--help"):
            print("Besides Lightning's own commands, which are below (each has a --help):\n")
            print("\n".join(f"  {name:14} {what}" for name, what in COMMANDS.items()) + "\n")
        sys.argv[1:] = [name, *arguments]
        SeqRLCLI()


def run_command(name: str, arguments: list[str]) -> None:
    """Runs one of the package's own commands."""
    module_of(name).run(parse(name, arguments))


def module_of(name: str) -> Any:
    """The module of one of the package's own commands."""
    return import_module(f"seqrl_lightning.commands.{name.replace('-', '_')}")


def parse(name: str, arguments: list[str]) -> Namespace:
    """Reads the arguments of one of the package's own commands."""
    command = module_of(name)
    parser = OneLineErrors(prog=f"seqrl {name}", description=command.__doc__)
    command.add_arguments(parser)
    fit_arguments: list[str] = []
    if name in HANDS_ON:
        arguments, fit_arguments = divide(arguments, known=parser._option_string_actions)
    parsed = parser.parse_args(arguments)
    parsed.fit_arguments = fit_arguments
    return parsed


def divide(arguments: list[str], known: Container[str]) -> tuple[list[str], list[str]]:
    """The options that are known and the others, each with the values that follow it."""
    ours: list[str] = []
    others: list[str] = []
    group = others
    for argument in arguments:
        if argument.startswith("--") or argument in known:
            group = ours if argument.partition("=")[0] in known else others
        group.append(argument)
    return ours, others


if __name__ == "__main__":
    main()
