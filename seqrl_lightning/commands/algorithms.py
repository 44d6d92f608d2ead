"""Lists the learners and networks: what they do, their settings and defaults."""

from typing import Any

from jsonargparse import ArgumentParser, Namespace
from torch import nn

from seqrl_lightning import algorithms, networks
from seqrl_lightning.docstrings import docstring, settings, summary
from seqrl_lightning.types import require


def add_arguments(parser: ArgumentParser) -> None:
    """Takes the names of those that are wanted in full."""
    parser.add_argument("names", nargs="*", help="learners or networks to describe in full; none: a line for each")


def run(arguments: Namespace) -> None:
    """Prints them."""
    groups = everything()
    known = {cls.__name__: cls for classes in groups.values() for cls in classes}
    for name in arguments.names:
        require(name in known, "names", name, f"one of {', '.join(known)}")
    if arguments.names:
        print("\n\n".join(description(known[name]) for name in arguments.names))
        return
    for title, classes in groups.items():
        print(title)
        print("\n".join(f"  {cls.__name__:14} {summary(cls)}" for cls in classes) + "\n")
    print("seqrl algorithms NAME prints one in full, with its settings and defaults.")


def everything() -> dict[str, list[type[Any]]]:
    """The classes that a config can name, by what they are."""
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


def description(cls: type[Any]) -> str:
    """The whole docstring, its parent's where that takes the settings, and the settings with their defaults."""
    owner = next(owner for owner in cls.__mro__ if "__init__" in vars(owner))
    texts = [f"{documented.__name__}: {docstring(documented)}" for documented in dict.fromkeys((cls, owner))]
    return "\n".join(["\n\n".join(texts), "", "Settings:", *(f"    {line}" for line in settings(cls))])
