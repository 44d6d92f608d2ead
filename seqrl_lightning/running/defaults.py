"""Defaults that depend on the given settings: by kind of learner and network, and by class.

A network that remembers, and PQN, start from other settings than a DQN that sees the state. They were chosen on seeds
101 and 102 of ``DelayedRecall`` and CartPole; ``docs/which_memory.md`` has the results on others.

A class that a user names starts from its own defaults. With the parser alone, it would inherit those of the class that
it replaces, wherever both have a setting of the same name: AdamW would get Adam's weight decay.
"""

import pkgutil
from collections.abc import Iterable
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from seqrl_lightning.algorithms import PQN, BehaviorCloning
from seqrl_lightning.docstrings import setting_names
from seqrl_lightning.networks import Network
from seqrl_lightning.running.messages import note

_LINEAR_EPSILON = "seqrl_lightning.exploration.LinearEpsilon"
_MEMORY: dict[str, Any] = {
    "data.num_envs": 16,
    "data.batch_size": 32,
    "data.capacity": 100_000,
    "data.batches_per_epoch": 200,
    "data.sampler": {"class_path": "seqrl_lightning.replay.SequenceSampler", "init_args": {}},
    "model": {"double": True, "clip_grad_norm": 10.0},
    "agent.warmup_env_steps": 2_000,
    "agent.env_steps_per_update": 32,
    "agent.epsilon": {"class_path": _LINEAR_EPSILON, "init_args": {"decay_env_steps": 10_000}},
    "target_sync.tau": 0.01,
}
_PQN: dict[str, Any] = {
    "data.num_envs": 32,
    "data.batch_size": 256,
    "data.capacity": 4_096,
    "data.batches_per_epoch": 20,
    "data.sampler": {"class_path": "seqrl_lightning.replay.RolloutSampler", "init_args": {"length": 32}},
    "model": {
        "network": {"class_path": "seqrl_lightning.networks.MLP", "init_args": {"layer_norm": True}},
        "clip_grad_norm": 10.0,
    },
    "agent.epsilon": {"class_path": _LINEAR_EPSILON, "init_args": {"decay_env_steps": 50_000}},
}
OF_NETWORK = (
    *(name for name in _MEMORY if name != "model"),
    *(f"model.init_args.{name}" for name in _MEMORY["model"]),
    "agent.max_env_steps",
)
"""The settings whose defaults differ between networks that remember and others."""

_MAY_NAME_CLASSES = ("--agent", "--agent.epsilon", "--data", "--data.sampler")
_NO_BUDGET = {
    "agent.max_env_steps": (None,),
    "agent.max_episodes": (None,),
    "trainer.max_steps": (None, -1),
    "trainer.max_epochs": (None, -1),
    "trainer.max_time": (None,),
    "trainer.fast_dev_run": (None, False),
}


def set_defaults_by_kind(
    fit: LightningArgumentParser, arguments: list[str] | dict[str, Any], has_agent: bool = True
) -> None:
    """Set the defaults that follow from the arguments of ``fit``, and note those of the kind of learner and network.

    Args:
        fit: The parser of the subcommand, which gets the defaults.
        arguments: Words of a command line, or settings by name, which need no note.
        has_agent: Whether an agent acts.
    """
    if isinstance(arguments, list):
        given = fit.parse_args(options_of_kind(arguments), defaults=False)
        reason, of_kind = defaults_by_kind(given, has_agent)
        if chosen := without_given(of_kind, given, arguments):
            note(f"defaults for {reason}: {', '.join(chosen)}")
    else:
        given = fit.parse_object({"max_gib": None, **arguments}, defaults=False)  # it is linked
        _, of_kind = defaults_by_kind(given, has_agent)
    names = ("data.sampler", "agent.epsilon") if has_agent else ("data.sampler",)
    defaults = {name: of_kind.get(name, fit.get_default(name)) for name in names}
    defaults["model"] = _of_learner(given.model, of_kind)
    by_class = {name: of_named_classes(given.get(name), default) for name, default in defaults.items()}
    fit.set_defaults({**of_kind, **by_class})


def _of_learner(model: Namespace, of_kind: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of a learner's kind, and its own for the given parts; for example, its Adam is fused."""
    parts = [name for name, value in _settings_of(model) if isinstance(value, Namespace)]
    own: dict[str, Any] = {}
    if parts:
        parser = ArgumentParser()
        parser.add_class_arguments(pkgutil.resolve_name(model.class_path))
        own = parser.get_defaults().as_dict()
    settings = {name: own[name] for name in parts if own.get(name) is not None}
    return {"class_path": model.class_path, "init_args": {**settings, **of_kind.get("model", {}).get("init_args", {})}}


def defaults_by_kind(given: Namespace, has_agent: bool = True) -> tuple[str, dict[str, Any]]:
    """Return why a run starts from other defaults than the classes' own, and which, by the settings' names.

    Args:
        given: The settings that were given, without defaults.
        has_agent: Whether an agent acts; otherwise there are no settings of one, of its environments or its budget.

    Returns:
        The reason, and the defaults: those of the learner as one entry, ``model``, and one of the budget only if no
        budget was given. Both are empty if the classes' own defaults apply.
    """
    learner, network = pkgutil.resolve_name(given.model.class_path), given.get("model.init_args.network")
    if issubclass(learner, PQN):
        reason, defaults, env_steps = f"model {learner.__name__}", _PQN, 100_000
    elif _remembers(network):
        reason, defaults, env_steps = f"model.network {network.class_path.rpartition('.')[2]}", _MEMORY, 30_000
    else:
        return "", {}
    known = setting_names(learner)
    if given.get("model.init_args.munchausen_alpha"):  # it has its own policy
        known -= {"double"}
    taken = {name: value for name, value in defaults["model"].items() if name in known}
    defaults = {**defaults, "model": {"class_path": given.model.class_path, "init_args": taken}}
    has_copies = given.get("target_sync.sync_every_updates", 1) != 1  # tau is then 1 by default
    if has_copies or issubclass(learner, BehaviorCloning):  # a clone has no target network
        defaults.pop("target_sync.tau", None)
    if not has_agent:
        of_agent = ("agent.", "data.num_envs", "data.capacity")
        return reason, {name: value for name, value in defaults.items() if not name.startswith(of_agent)}
    named = given.get("trainer.callbacks") or []
    callbacks = named if isinstance(named, list) else [named]
    is_timed = any(callback.class_path.endswith(".Timer") for callback in callbacks if isinstance(callback, Namespace))
    if not is_timed and all(given.get(name) in none for name, none in _NO_BUDGET.items()):
        defaults["agent.max_env_steps"] = env_steps
    return reason, defaults


def of_named_classes(given: object, default: object) -> object:
    """Return the default that a given value replaces; if the value names another class, that class's own defaults.

    Args:
        given: The given value: a class with settings, at any depth, or something else.
        default: The default, as a dict if it is a class with settings.
    """
    default = default.as_dict() if isinstance(default, Namespace) else default
    if not isinstance(given, Namespace) or "class_path" not in given:
        return default
    settings: dict[str, object] = {}
    if isinstance(default, dict) and default.get("class_path") == given.class_path:
        settings |= default.get("init_args", {})
    for name, value in _settings_of(given):
        if (inner := of_named_classes(value, settings.get(name))) is not None:
            settings[name] = inner
    return {"class_path": given.class_path, "init_args": settings}


def without_given(defaults: dict[str, Any], given: Namespace, words: Iterable[str]) -> list[str]:
    """Return the defaults that no given value replaces, alone or in a group, each like ``data.num_envs 16``.

    Args:
        defaults: Those of :func:`defaults_by_kind`.
        given: The settings that were given, without defaults.
        words: Those of the command line, of which ``given`` may hold a part.
    """
    values = {name: value for name, value in defaults.items() if name != "model"}
    learners = defaults.get("model", {}).get("init_args", {})
    values |= {f"model.init_args.{name}": value for name, value in learners.items()}
    options = {word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")} - {"model"}
    chosen = []
    for name, value in values.items():
        setting = name.replace(".init_args", "")
        if isinstance(value, dict):
            here = given.get(name)
            is_other = isinstance(here, Namespace) and here.get("class_path") != value["class_path"]
            settings = {} if is_other else _not_given(value["init_args"], here, setting, options)
            text = _shown(value["class_path"], settings)
        else:
            settings, text = {}, str(value)
        is_given = name in given or any(
            option.startswith((name, setting)) or option == name.partition(".")[0] for option in options
        )
        if settings or not is_given:
            chosen.append(f"{setting} {text}")
    return chosen


def _not_given(settings: dict[str, Any], given: object, of: str, options: Iterable[str]) -> dict[str, Any]:
    """Return the settings of a class that no given value replaces."""
    own = dict(_settings_of(given)) if isinstance(given, Namespace) else {}
    options = {option.replace(".init_args", "") for option in options}
    return {name: value for name, value in settings.items() if name not in own and f"{of}.{name}" not in options}


def _settings_of(given: Namespace) -> Iterable[tuple[str, Any]]:
    """Return the given settings of a class."""
    return vars(given.init_args).items() if "init_args" in given else ()


def _shown(class_path: str, settings: dict[str, Any]) -> str:
    values = ", ".join(f"{name} {setting}" for name, setting in settings.items())
    name = class_path.rpartition(".")[2]
    return f"{name} ({values})" if values else name


def options_of_kind(words: Iterable[str]) -> list[str]:
    """Return the words of a command line that determine defaults; others may be valid only with these defaults."""
    # Required, the default, or linked.
    kept, is_kept = ["--data.env_id=any", "--data.trials=any", "--model=DQN", "--max_gib=null"], True
    for word in words:
        if word.startswith("--") or word == "-c":
            kinds = ("-c", "--config", "--model", "--data_class", "--agent.max_", "--target_sync", "--trainer")
            is_kept = word.startswith(kinds) or word.partition("=")[0] in _MAY_NAME_CLASSES
        if is_kept:
            kept.append(word)
    return kept


def _remembers(network: object) -> bool:
    """Return whether a network, or the one that it ends in (``Composed``), carries a state from step to step."""
    if not isinstance(network, Namespace):
        return False
    cls = pkgutil.resolve_name(network.class_path)
    declares_it = isinstance(cls, type) and issubclass(cls, Network) and cls.remembers
    return declares_it or _remembers(network.get("init_args.network"))
