"""List the configs that come with the package, with their results."""

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.commands.quick import list_configs


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: there is nothing to choose."""


def run(arguments: Namespace) -> None:
    """Print the list."""
    print(list_configs())
