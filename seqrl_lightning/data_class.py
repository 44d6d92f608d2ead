"""The choice of a datamodule: ``--data LoggedTrials``, or ``data_class: LoggedTrials`` in a config."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from seqrl_lightning.data import LearnerDataModule, LoggedTrials, ReplayDataModule
from seqrl_lightning.errors import require_known

DATA_CLASSES: dict[str, type[LearnerDataModule]] = {cls.__name__: cls for cls in (ReplayDataModule, LoggedTrials)}
"""The datamodules that a command can name."""


def with_option(words: Sequence[str]) -> list[str]:
    """Return a command line in which ``--data LoggedTrials``, Lightning's way to name a class, is the option's."""
    found: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        option, _, name = word.partition("=")
        if option == "--data" and _is_class(name):
            found.append(f"--data_class={name}")
        elif before == "--data" and _is_class(word):
            found[-1:] = ["--data_class", word]
        else:
            found.append(word)
    return found


def _is_class(text: str) -> bool:
    """Return whether ``--data TEXT`` names a class, maybe one that there isn't, rather than a file of settings."""
    return text.isidentifier() and not Path(text).exists()


def data_class_of(given: Sequence[str] | dict[str, Any]) -> type[LearnerDataModule]:
    """Return the class that a command line or the settings of a subcommand name last, else ``ReplayDataModule``.

    Raises:
        ConfigurationError: If they name none that there is.
    """
    settings = given[given["subcommand"]] if isinstance(given, dict) else dict(_options(given))
    name = str(settings.get("data_class", ReplayDataModule.__name__))
    require_known("data_class", name, DATA_CLASSES)
    return DATA_CLASSES[name]


def _options(words: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Yield the classes that configs and options name, in their order."""
    for word, after in zip(words, (*words[1:], ""), strict=True):
        option, has_value, value = word.partition("=")
        value = value if has_value else after
        if option == "--data_class":
            yield "data_class", value
        elif option in ("--config", "-c") and Path(value).is_file():  # what it isn't, the parser says
            contents = yaml.safe_load(Path(value).read_text())
            if isinstance(contents, dict) and "data_class" in contents:
                yield "data_class", contents["data_class"]
