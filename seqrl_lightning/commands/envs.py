"""List the tasks: their rules, spaces and best possible returns."""

from typing import Any

import gymnasium as gym
from jsonargparse import ArgumentParser, Namespace

import seqrl_lightning.envs  # noqa: F401  # registers the tasks
from seqrl_lightning.commands.quick import list_envs
from seqrl_lightning.docstrings import full_text, settings, summary
from seqrl_lightning.errors import fail, require_known
from seqrl_lightning.types import stated


def add_arguments(parser: ArgumentParser) -> None:
    """Add the ids of the tasks to describe in full."""
    parser.add_argument("env_ids", nargs="*", default=[], help="tasks to describe in full; by default, a line for each")


def run(arguments: Namespace) -> None:
    """Print the descriptions."""
    for env_id in arguments.env_ids:
        if env_id in gym.registry and env_id not in task_ids():
            fail(f"{env_id} is a task of another package, which describes it; `seqrl envs` lists this package's tasks")
        require_known("the task", env_id, task_ids())
    print("\n\n".join(map(describe, arguments.env_ids)) or list_envs())


def task_ids() -> list[str]:
    """Return the ids of the package's own tasks."""
    return [env_id for env_id in gym.registry if env_id.startswith("seqrl/")]


def describe_in_a_line(env: gym.Env[Any, Any]) -> str:
    """Return the first line of the rules, and the best possible return."""
    return f"{summary(type(env))} Best return: {stated(env, 'optimal_return'):g}."


def describe(env_id: str) -> str:
    """Return the rules, the spaces, and the settings with their defaults."""
    env = gym.make(env_id).unwrapped
    facts = {
        "Observation": env.observation_space,
        "Action": env.action_space,
        "Best return": f"{stated(env, 'optimal_return'):g}",
    }
    lines = [f"{name}: {value}" for name, value in facts.items()]
    lines += ["Settings:", *(f"    {setting}" for setting in settings(type(env)))]
    return "\n".join([f"{env_id}: {full_text(type(env))}", "", *lines])
