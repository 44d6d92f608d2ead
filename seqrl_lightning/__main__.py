"""``seqrl``, or ``python -m seqrl_lightning``: picks the command."""

import sys
from importlib import import_module

from seqrl_lightning.commands import COMMANDS
from seqrl_lightning.errors import OneLineErrors, one_line_errors


def main() -> None:
    """Runs one of the package's own commands, or hands over to Lightning's."""
    name, *arguments = sys.argv[1:] or ["--help"]
    with one_line_errors():
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
    command = import_module(f"seqrl_lightning.commands.{name.replace('-', '_')}")
    parser = OneLineErrors(prog=f"seqrl {name}", description=command.__doc__)
    command.add_arguments(parser)
    command.run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
