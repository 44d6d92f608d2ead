"""Compare the settings of a run before and after it is resumed."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from seqrl_lightning.types import keep_plain, require

_COMPARED = re.compile(
    r"(seed_everything|data|model|agent|target_sync|priorities|skipped_updates|checkpoint)\b"
    r"|trainer\.(?!default_root_dir|logger|enable_|m(ax|in)_|fast_dev_run|num_sanity_val_steps|profiler|barebones)"
)
"""All settings, except those of the Trainer that extend a run or only display it."""

_FIXED = re.compile(
    r"data\.(env_id|env_kwargs|num_envs|vectorization_mode|autoreset_mode|wrappers|frame_stack|flatten_observations)\b"
    r"|data\.(capacity|sampler)\b"
    r"|model\.normalize_(observations|rewards)$|agent\.exploration_bonus\b"
)
"""The settings that the running episodes, the replay memory and the running statistics depend on."""

_ALIKE = ("sync", "async")  # modes of vectorization whose states are the same
_OF_THE_MEMORY = re.compile(r"data\.(capacity|sampler)\b")
_PLUMBING = re.compile(r"\.(init_args|class_path|dict_kwargs)\b")


_OF_THE_OPTIMIZER = re.compile(r"model\.(learning_rate|optimizer)\b")
"""The settings that an optimizer's saved state holds."""


class Change(NamedTuple):
    """A setting with another value than before."""

    name: str  # in full, like data.batch_size
    before: object
    now: object

    def __str__(self) -> str:
        """Return a line that tells which value is used."""
        if _OF_THE_OPTIMIZER.match(self.name):
            return f"{self.name}: the checkpoint's {self.before!r} is used, not {self.now!r}"
        return f"{self.name}: {self.now!r} is used from here on, not {self.before!r} as before"


def changes(before: object, now: object) -> list[Change]:
    """Return the settings of an experiment that differ, in the order of their names.

    Args:
        before: The config of a run, as plain values.
        now: The config that it is resumed with.
    """
    old, new = flat(before), flat(now)
    names = sorted(name for name in {*old, *new} if _COMPARED.match(name))
    found = [Change(_PLUMBING.sub("", name), _filled(old.get(name)), _filled(new.get(name))) for name in names]
    return [change for change in found if change.before != change.now]


def _filled(value: object) -> object:
    """Return a setting's value; None for an empty collection, which stands for the same."""
    return None if value in ({}, []) else value


def overruled(used: object, given: object, name: str = "") -> list[Change]:
    """Return the settings whose given value isn't the one that is used instead.

    Args:
        used: Settings, as plain values.
        given: Settings of the same kind; settings missing in it aren't compared.
        name: Name of these settings as a whole.
    """
    if isinstance(used, dict) and isinstance(given, dict):
        names = {key: f"{name}.{key}" if name else str(key) for key in used if key in given}
        return [change for key in names for change in overruled(used[key], given[key], names[key])]
    used, given = _filled(used), _filled(given)
    return [] if used == given else [Change(_PLUMBING.sub("", name), _named(used), _named(given))]


def _named(value: object) -> object:
    """Return the class alone of settings that name one."""
    return value.get("class_path", value) if isinstance(value, dict) else value


def require_resumable(before: Mapping[str, Any], now: Mapping[str, Any], config: Path | None = None) -> list[Change]:
    """Refuse a change that would mix two experiments in one replay memory.

    Args:
        before: The config of a run, as plain values.
        now: The config that it is resumed with.
        config: The file that ``before`` was read from, to be named in a refusal; None for none.

    Returns:
        The changes that can be made.

    Raises:
        ConfigurationError: If there is one that can't.
    """
    found = changes(before, now)
    keeps_memory = before["data"].get("save_replay", True)
    refused = [change for change in found if _is_refused(change, keeps_memory)]
    if refused:
        first = min(refused, key=lambda change: change.name != "data.env_id")  # a change of task is the most telling
        others = ", ".join(change.name for change in refused if change is not first)
        too = f"; the same holds for {others}" if others else ""
        where = "" if config is None else f" (--config {config} has all settings of the run)"
        require(False, first.name, first.now, f"the checkpoint's {first.before!r}{too}{where}")
    return found


def _is_refused(change: Change, keeps_memory: bool) -> bool:
    """Return whether the running episodes or the replay memory, if it was saved, depend on a changed setting."""
    if (change.before, change.now) in (_ALIKE, _ALIKE[::-1]):
        return False
    return bool(_FIXED.match(change.name)) and (keeps_memory or not _OF_THE_MEMORY.match(change.name))


def shared(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that both runs state; objects from Python have no plain value to compare."""
    names = {group: before[group].keys() & now[group].keys() for group in before.keys() & now.keys()}
    one, other = ({group: {key: run[group][key] for key in names[group]} for group in names} for run in (before, now))
    return one, other


def described(part: object) -> dict[str, Any]:
    """Return the class of a part, and the settings that it keeps by the names that its class takes, as plain values."""
    cls, kept = type(part), getattr(part, "__dict__", {})
    settings = {name: kept[name] for name in inspect.signature(cls).parameters if name in kept}
    keep_plain(settings)
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": settings}


def flat(settings: object, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    if not isinstance(settings, dict) or not settings:
        return {prefix: settings}
    inner = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in settings.items())
    return {name: value for part in inner for name, value in part.items()}
