"""Environments that are a class or a function, not an id."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

EnvMaker = Callable[..., gym.Env[Any, Any]]
"""A class of environments, or a function that makes one."""


def id_of(env: str | EnvMaker) -> str:
    """Return the Gymnasium id of a task, for ``data.env_id``; a class or a function is registered in this process.

    Args:
        env: An id, which stays as it is, a class of environments, or a function that makes one.
    """
    if isinstance(env, str):
        return env
    name = getattr(env, "__name__", "")
    name = name if name.isidentifier() else "Env"  # a lambda has no name, nor has a partial
    for version in range(len(gym.registry) + 1):
        env_id = f"python/{name}-v{version}"
        if env_id not in gym.registry:
            gym.register(env_id, env)
        if gym.registry[env_id].entry_point is env:
            return env_id
    raise AssertionError("each version is another task's, though there are more versions than tasks")
