"""Lists the tasks: their rules, spaces and best possible returns."""

from typing import Any

import gymnasium as gym
from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.docstrings import docstring, settings, summary
from seqrl_lightning.types import require


def add_arguments(parser: ArgumentParser) -> None:
    """Takes the ids of the tasks that are wanted in full."""
    parser.add_argument("env_ids", nargs="*", help="tasks to describe in full; none: a line for each")


def run(arguments: Namespace) -> None:
    """Prints them."""
    known = task_ids()
    for env_id in arguments.env_ids:
        require(env_id in known, "env_ids", env_id, f"one of {', '.join(known)}")
    if arguments.env_ids:
        print("\n\n".join(map(description, arguments.env_ids)))
    else:
        print("\n".join(f"{env_id:28} {line(gym.make(env_id).unwrapped)}" for env_id in known))
        print("\nseqrl envs ID prints a task's rules, spaces and settings.")


def task_ids() -> list[str]:
    """The package's own tasks."""
    return [env_id for env_id in gym.registry if env_id.startswith("seqrl/")]


def rules_of(env: Any) -> type[Any]:
    """The class whose docstring tells a task's rules: its script's, where it plays one."""
    return type(getattr(env, "task", env))


def line(env: Any) -> str:
    """The task in a line: the first of its docstring, and its best possible return."""
    return f"{summary(rules_of(env))} Best return: {env.optimal_return:g}."


def description(env_id: str) -> str:
    """The whole docstring, the spaces and the settings with their defaults."""
    env: Any = gym.make(env_id).unwrapped
    facts = {
        "Observation": env.observation_space,
        "Action": env.action_space,
        "Best return": f"{env.optimal_return:g}",
    }
    lines = [f"{name}: {value}" for name, value in facts.items()]
    of_all = dict.fromkeys([*settings(rules_of(env)), *settings(type(env))])
    return "\n".join([f"{env_id}: {docstring(rules_of(env))}", "", *lines, "Settings:", *(f"    {s}" for s in of_all)])
