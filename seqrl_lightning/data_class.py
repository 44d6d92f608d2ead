"""The choice of a datamodule: ``--data LoggedTrials``, or ``data_class: LoggedTrials`` in a config."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from seqrl_lightning.data import LearnerDataModule, LoggedTrials, ReplayDataModule
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import ConfigurationError, one_line, require

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
            contents = _settings_in(Path(value))
            if "data_class" in contents:
                yield "data_class", contents["data_class"]


def _settings_in(config: Path) -> dict[str, Any]:
    try:
        contents = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config is {str(config)!r}, which is no YAML: {one_line(error)}") from error
    is_settings = isinstance(contents, dict | None)
    require(is_settings, "--config", str(config), "a YAML file of settings, each as name: value")
    return contents or {}
