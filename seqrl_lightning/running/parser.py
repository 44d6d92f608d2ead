"""The parser of the command line, whose errors are one line and suggest a name where one was misspelled."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any

import gymnasium
import torch
import yaml
from jsonargparse import get_loader, set_dumper, set_loader
from jsonargparse.typing import register_type
from lightning.pytorch import Trainer, loggers
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from seqrl_lightning import algorithms, callbacks, exploration, networks, replay
from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.callbacks import AgentCallback, SkippedUpdates, TargetSync
from seqrl_lightning.data import LoggedTrials, ReplayDataModule
from seqrl_lightning.docstrings import setting_names
from seqrl_lightning.errors import KEY, OneLineErrors, shorten_message
from seqrl_lightning.exploration import EpsilonSchedule
from seqrl_lightning.networks import Network
from seqrl_lightning.replay import Sampler
from seqrl_lightning.types import Text, require

SETTINGS_OF: dict[str, type[Any]] = {
    "data": ReplayDataModule,
    "agent": AgentCallback,
    "target_sync": TargetSync,
    "skipped_updates": SkippedUpdates,
    "trainer": Trainer,
}
"""The class that takes the settings of each prefix; those of ``model`` go to the learner."""


_MODULES = (algorithms, networks, replay, exploration)
_OTHER_MODULES = (torch.optim, torch.optim.lr_scheduler, loggers, lightning_callbacks, callbacks, gymnasium.wrappers)
"""Modules whose classes a setting may name without the module."""

_OF_RUNS = {"config", "ckpt_path", "seed_everything", "torch_threads", "data_class", "allow", "max_gib", "print_config"}
_PARTS: dict[str, type[Any]] = {
    "model": ActingModule,
    "model.network": Network,
    "model.network.head": nn.Module,
    "model.optimizer": torch.optim.Optimizer,
    "data.sampler": Sampler,
    "agent.epsilon": EpsilonSchedule,
}
_FROM_THE_TASK = {"obs_shape", "out_shape", "n_actions", "feature_size", "params", "lr", "args", "kwargs"}


register_type(Text, serializer=lambda text: text)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """YAML in which texts like ``1e5`` and ``1.5e3``, which jsonargparse reads as numbers, are quoted."""


_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?")
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Represent a text; line separators other than a newline come back only from double quotes."""
    style = None if all(letter.isprintable() or letter in "\n\t" for letter in text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


for _kind in (str, Text):
    _Dumper.add_representer(_kind, _represent_text)
_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))  # a default of Timer's
set_dumper("yaml", partial(yaml.dump, Dumper=_Dumper, allow_unicode=True, sort_keys=False))


def with_texts(settings: object, is_of_task: bool = False) -> Any:
    """Return settings in which the texts of a task's settings (``env_kwargs``) stay what they are.

    Args:
        settings: Settings as a file or a call from Python gives them.
        is_of_task: Whether they are the task's.
    """
    if isinstance(settings, dict):
        return {key: with_texts(value, is_of_task or key == "env_kwargs") for key, value in settings.items()}
    if isinstance(settings, list):
        return [with_texts(value, is_of_task) for value in settings]
    return Text(settings) if is_of_task and isinstance(settings, str) else settings


_read_as_jsonargparse = get_loader("yaml")


def _read_yaml(text: str) -> Any:
    """Read YAML as jsonargparse does, which takes a key alone for a text (``x:``), but fails on a number (``1:``)."""
    try:
        return _read_as_jsonargparse(text)
    except TypeError:
        return text


def _is_number(text: str) -> bool:
    """Return whether Python reads a text as a number, like jsonargparse where YAML leaves it a text: ``08``."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _load(text: str) -> Any:
    """Read YAML as jsonargparse does; a text in quotes, like ``--data.env_kwargs.rule='"2"'``, stays one."""
    found = _read_yaml(text)
    is_quoted = isinstance(found, str) and text.strip()[:1] in ("'", '"')
    return Text(found) if is_quoted else with_texts(found)


def as_argument(name: str, value: object) -> str:
    """Return a setting as an argument of ``seqrl fit``.

    A task's text that would be read as something else is quoted; JSON of a list or mapping is left as it is.
    """
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str) and "env_kwargs" in name.split(".") and value[:1] not in ("[", "{"):
        with suppress(yaml.YAMLError):
            text = text if _read_yaml(value) == value and not _is_number(value) else json.dumps(value)
    return f"--{name}={text}"


set_loader("yaml", _load, (yaml.YAMLError,))


def explain(message: str) -> str:
    """Return a parser's message as one line that suggests a name where one was misspelled."""
    parts = {name: cls for module in _MODULES for name, cls in vars(module).items() if isinstance(cls, type)}
    classes: list[tuple[str, type[Any]]] = [*SETTINGS_OF.items(), ("data", LoggedTrials)]
    optimizers = [cls for cls in vars(torch.optim).values() if isinstance(cls, type)]
    for prefix, base in _PARTS.items():
        classes += [(prefix, cls) for cls in (*parts.values(), *optimizers) if issubclass(cls, base)]
    settings = {f"{prefix}.{name}" for prefix, cls in classes for name in setting_names(cls) - _FROM_THE_TASK}
    others = {name for module in _OTHER_MODULES for name, value in vars(module).items() if isinstance(value, type)}
    key = ".".join(KEY.findall(message))
    fitting = {cls.__name__ for prefix, cls in classes if prefix == key}
    return shorten_message(message, settings | _OF_RUNS, fitting or {*parts, *others})


class SeqRLArgumentParser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, whose errors are one line."""

    def explain(self, message: str) -> str:
        """Return a message as one line."""
        return explain(message)

    def hint_of_missing(self, names: list[str]) -> str:
        """Say what a run needs."""
        if "data.env_id" in names:
            return "name a task (--data.env_id CartPole-v1) or a config that has one (--config sequence_dqn)"
        return super().hint_of_missing(names)


_DESCRIBED = "Unable to serialize instance"
"""The beginning of the text that jsonargparse writes for an object."""


def require_kept(given: object, kept: object, name: str) -> None:
    """Refuse what a checkpoint can't hold, which happens in settings of any type.

    A text may become another type, and an object, like the default ``activation=nn.ELU()``, only its description.

    Args:
        given: A setting, or a collection of them.
        kept: The same setting as a run's config and its checkpoints hold it.
        name: Its name.

    Raises:
        ConfigurationError: If there is one.
    """
    if isinstance(given, Mapping) and isinstance(kept, Mapping):
        for key, value in given.items():
            inner = name if key == "init_args" else f"{name}.{key}"
            require_kept(value, kept.get(key, kept.get(str(key), value)), inner)
    elif isinstance(given, list | tuple) and isinstance(kept, list) and len(given) == len(kept):
        for number, (value, kept_value) in enumerate(zip(given, kept, strict=True)):
            require_kept(value, kept_value, f"{name}[{number}]")
    elif isinstance(kept, str) and kept.startswith(_DESCRIBED):
        must_be = "a number, a text, or of a type that its class states, like nn.Module: a checkpoint can't hold it"
        require(False, name, given, must_be)
    elif isinstance(given, str):
        must_be = f"of a type that its class states, like list[str], or another text: a checkpoint would hold {kept!r}"
        require(isinstance(kept, str), name, given, must_be)
