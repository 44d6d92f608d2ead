"""Defaults by kind: a network that remembers, and PQN, start from other settings than a DQN that sees the state.

Chosen on seeds 101 and 102 of ``DelayedRecall`` and CartPole; ``docs/which_memory.md`` has what came out on others.
"""

import pkgutil
from collections.abc import Iterable
from inspect import signature
from typing import Any

from jsonargparse import Namespace

from seqrl_lightning.algorithms import PQN
from seqrl_lightning.networks import Composed, FrameStack, Transformer
from seqrl_lightning.networks.parallel import ParallelNetwork
from seqrl_lightning.networks.recurrent import RecurrentNetwork

_MEMORY: dict[str, Any] = {
    "data.num_envs": 16,
    "data.batch_size": 32,
    "data.capacity": 100_000,
    "data.batches_per_epoch": 200,
    "data.sampler": {"class_path": "SequenceSampler", "init_args": {}},
    "model": {"double": True, "clip_grad_norm": 10.0},
    "agent.warmup_env_steps": 2_000,
    "agent.env_steps_per_update": 32,
    "agent.epsilon": {"class_path": "LinearEpsilon", "init_args": {"decay_env_steps": 10_000}},
    "target_sync.tau": 0.01,
}
_PQN: dict[str, Any] = {
    "data.num_envs": 32,
    "data.batch_size": 256,
    "data.capacity": 4_096,
    "data.batches_per_epoch": 20,
    "data.sampler": {"class_path": "RolloutSampler", "init_args": {"length": 32}},
    "model": {
        "network": {"class_path": "seqrl_lightning.networks.MLP", "init_args": {"layer_norm": True}},
        "clip_grad_norm": 10.0,
    },
    "agent.epsilon": {"class_path": "LinearEpsilon", "init_args": {"decay_env_steps": 50_000}},
}
_DECISIVE = ("-c", "--config", "--model", "--agent.max_", "--agent=", "--target_sync", "--trainer")  # of options
_NO_BUDGET = {
    "agent.max_env_steps": (None,),
    "agent.max_episodes": (None,),
    "trainer.max_steps": (None, -1),
    "trainer.max_epochs": (None, -1),
    "trainer.max_time": (None,),
    "trainer.fast_dev_run": (None, False),
}


def defaults_by_kind(given: Namespace) -> tuple[str, dict[str, Any]]:
    """Return why a run starts from other defaults than the classes' own, and which, by the settings' names.

    Args:
        given: The settings that were given, without defaults.

    Returns:
        What the run has that asks for them, and the defaults: of the learner as one entry, ``model``, and of the budget
        only if none was given. Both are empty where the classes' own serve.
    """
    learner, network = pkgutil.resolve_name(given.model.class_path), given.get("model.init_args.network")
    if issubclass(learner, PQN):
        reason, defaults, env_steps = f"model {learner.__name__}", _PQN, 100_000
    elif _remembers(network):
        reason, defaults, env_steps = f"model.network {network.class_path.rpartition('.')[2]}", _MEMORY, 30_000
    else:
        return "", {}
    known = {name for cls in learner.__mro__ for name in signature(cls).parameters}
    if network is not None:  # its class has its own
        known -= {"network"}
    if given.get("model.init_args.munchausen_alpha"):  # it has a policy of its own
        known -= {"double"}
    taken = {name: value for name, value in defaults["model"].items() if name in known}
    defaults = {**defaults, "model": {"class_path": given.model.class_path, "init_args": taken}}
    if given.get("target_sync.sync_every_updates", 1) != 1:  # tau is then 1 by itself: each sync is a copy
        defaults.pop("target_sync.tau", None)
    callbacks = given.get("trainer.callbacks") or []
    is_timed = any(callback.class_path.endswith(".Timer") for callback in callbacks if isinstance(callback, Namespace))
    if not is_timed and all(given.get(name) in none for name, none in _NO_BUDGET.items()):
        defaults["agent.max_env_steps"] = env_steps
    return reason, defaults


def without_given(defaults: dict[str, Any], given: Namespace, words: Iterable[str]) -> list[str]:
    """Return the defaults in whose place nothing was given, alone or in a group, each like ``data.num_envs 16``.

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
        is_given = name in given or any(
            option.startswith((name, setting)) or option == name.partition(".")[0] for option in options
        )
        if not is_given:
            chosen.append(f"{setting} {_shown(value)}")
    return chosen


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    settings = ", ".join(f"{name} {setting}" for name, setting in value["init_args"].items())
    name = str(value["class_path"]).rpartition(".")[2]
    return f"{name} ({settings})" if settings else name


def options_of_kind(command: str, *words: str) -> list[str]:
    """Return those words of a command line that decide about defaults; other ones may need these to be valid."""
    kept, is_kept = [command, "--data.env_id=any", "--model=DQN"], True  # required, or the default
    for word in words:
        if word.startswith("--") or word == "-c":
            is_kept = word.startswith(_DECISIVE)
            is_kept = is_kept or word == "--agent"
        if is_kept:
            kept.append(word)
    return kept


def _remembers(network: object) -> bool:
    """Whether a network is, or ends in, one of those here that carry a state from step to step."""
    if not isinstance(network, Namespace):
        return False
    cls = pkgutil.resolve_name(network.class_path)
    if isinstance(cls, type) and issubclass(cls, Composed):
        return _remembers(network.get("init_args.network"))
    return isinstance(cls, type) and issubclass(cls, (RecurrentNetwork, ParallelNetwork, Transformer, FrameStack))
