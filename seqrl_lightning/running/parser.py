"""The parser of the command line, whose errors are one line and suggest a name where one was misspelled."""

from inspect import signature
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from seqrl_lightning import algorithms, exploration, networks, replay
from seqrl_lightning.callbacks import AgentCallback, SkippedUpdates, TargetSync
from seqrl_lightning.data import LoggedTrials, ReplayDataModule
from seqrl_lightning.docstrings import setting_names
from seqrl_lightning.errors import OneLineErrors, shorten_message

SETTINGS_OF: dict[str, type[Any]] = {
    "data": ReplayDataModule,
    "agent": AgentCallback,
    "target_sync": TargetSync,
    "skipped_updates": SkippedUpdates,
    "trainer": Trainer,
}
"""The class that takes the settings of each prefix; those of ``model`` go to the learner."""


def explain(message: str) -> str:
    """Return a parser's message as one line that suggests a name where one was misspelled."""
    modules = (algorithms, networks, replay, exploration)
    parts = {name: cls for module in modules for name, cls in vars(module).items() if isinstance(cls, type)}
    classes: list[tuple[str, type[Any]]] = [*SETTINGS_OF.items(), ("data", LoggedTrials)]
    settings = [f"{prefix}.{name}" for prefix, cls in classes for name in setting_names(cls)]
    settings += {name for cls in parts.values() for name in signature(cls).parameters}
    return shorten_message(message, settings, parts)


class SeqRLArgumentParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are one line."""

    def explain(self, message: str) -> str:
        """Return a message as one line."""
        return explain(message)
