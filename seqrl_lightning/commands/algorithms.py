"""List the learners and networks: what each one does, its settings and their defaults."""

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from torch import nn

from seqrl_lightning import algorithms, networks
from seqrl_lightning.commands.quick import list_algorithms
from seqrl_lightning.docstrings import full_text, settings
from seqrl_lightning.errors import require_known


def add_arguments(parser: ArgumentParser) -> None:
    """Add the names of the classes to describe in full."""
    parser.add_argument("names", nargs="*", default=[], help="classes to describe in full; by default, a line for each")


def run(arguments: Namespace) -> None:
    """Print the descriptions."""
    known = {cls.__name__: cls for classes in configurable_classes().values() for cls in classes}
    for name in arguments.names:
        require_known("the class", name, known)
    print("\n\n".join(describe(known[name]) for name in arguments.names) or list_algorithms())


def configurable_classes() -> dict[str, list[type[Any]]]:
    """Return the classes that a config can name, under the title of each group."""
    parts = [cls for name in networks.__all__ if isinstance(cls := getattr(networks, name), type)]
    complete = [cls for cls in parts if issubclass(cls, networks.Network) and cls is not networks.Network]
    return {
        "Learners (--model NAME):": [
            getattr(algorithms, name) for name in algorithms.__all__ if name != "LearnerModule"
        ],
        "Networks (--model.network NAME):": complete,
        "Parts of networks (--model.network.head NAME, --model.network.linear NAME):": [
            cls for cls in parts if issubclass(cls, nn.Module) and not issubclass(cls, networks.Network)
        ],
    }


def describe(cls: type[Any]) -> str:
    """Return a class's docstring, that of the parent that takes the settings (if any), and the settings."""
    owner = next(owner for owner in cls.__mro__ if "__init__" in vars(owner))
    texts = [f"{documented.__name__}: {full_text(documented)}" for documented in dict.fromkeys((cls, owner))]
    return "\n".join(["\n\n".join(texts), "", "Settings:", *(f"    {line}" for line in settings(cls))])
