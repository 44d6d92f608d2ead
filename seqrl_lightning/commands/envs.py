"""Lists the tasks: their rules, spaces and best possible returns."""

import inspect
from typing import Any

import gymnasium as gym
from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.types import require


def add_arguments(parser: ArgumentParser) -> None:
    """Takes the ids of the tasks that are wanted in full."""
    parser.add_argument("env_ids", nargs="*", help="tasks to describe in full; none: a line for each")


def run(arguments: Namespace) -> None:
    """Prints them."""
    known = [env_id for env_id in gym.registry if env_id.startswith("seqrl/")]
    for env_id in arguments.env_ids:
        require(env_id in known, "env_ids", env_id, f"one of {', '.join(known)}")
    if arguments.env_ids:
        print("\n\n".join(map(description, arguments.env_ids)))
    else:
        print("\n".join(f"{env_id:28} {summary(gym.make(env_id).unwrapped)}" for env_id in known))
        print("\nseqrl envs ID prints a task's rules, spaces and settings.")


def summary(env: Any) -> str:
    """The task in a line: the first of its docstring, and its best possible return."""
    return f"{_docstring(env).splitlines()[0]} Best return: {env.optimal_return:g}."


def description(env_id: str) -> str:
    """The whole docstring, the spaces and the settings with their defaults."""
    env: Any = gym.make(env_id).unwrapped
    settings = [str(setting) for setting in inspect.signature(type(env)).parameters.values()]
    facts = {
        "observation": env.observation_space,
        "action": env.action_space,
        "best return": f"{env.optimal_return:g}",
        "settings": ", ".join(settings),
    }
    return f"{env_id}: {_docstring(env)}\n\n" + "\n".join(f"    {name}: {value}" for name, value in facts.items())


def _docstring(env: Any) -> str:
    return inspect.getdoc(type(env)) or ""
