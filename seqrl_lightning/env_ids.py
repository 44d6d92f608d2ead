"""Ids of tasks: Gymnasium's, and of environments that are a class or a function by where they are imported from."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, Protocol

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, parse_env_id
from gymnasium.vector import VectorEnv

from seqrl_lightning.types import ConfigurationError, one_line, require

EnvMaker = Callable[..., gym.Env[Any, Any] | VectorEnv[Any, Any, Any]]
"""A class of environments, single or vectorized, or a function that makes a single one."""


class Guard(Protocol):
    """Decides which tasks may be found while an environment is made of what a file holds."""

    def require_package(self, env_id: str, package: str) -> None:
        """Refuse to import the package that an id names."""

    def require_entry_point(self, env_id: str, entry_point: str | EnvMaker) -> None:
        """Refuse what makes the task, before it is called or, if it is a name, imported."""


_GUARD: ContextVar[Guard | None] = ContextVar("guard", default=None)


@contextmanager
def guarded_by(guard: Guard) -> Iterator[None]:
    """Find only tasks that a guard lets pass, whoever looks for one: also what makes a task of another one."""
    before = _GUARD.set(guard)
    try:
        yield
    finally:
        _GUARD.reset(before)


def id_of(env: str | EnvMaker | gym.Env[Any, Any]) -> str:
    """Return the id of a task, for ``data.env_id``.

    Args:
        env: An id, which stays as it is, or a class or a function. The id of one that a module has by its name is
            ``my_module:Name``, which other processes find; of another one, an id that is registered in this process.
            So is that of an environment, of which all others are copies.

    Raises:
        ConfigurationError: If it is something else, or an environment that can't be copied.
    """
    if isinstance(env, str):
        return env
    if isinstance(env, gym.Env):
        env = _maker_of_copies(env)
    must_be = "an id, a class of environments, a function that makes one, or a single environment"
    require(callable(env), "env_id", f"an object of {type(env).__name__}", must_be)
    module, name = getattr(env, "__module__", ""), getattr(env, "__qualname__", "")
    if module != "__main__" and _found(module, name) is env:
        return f"{module}:{name}"
    name = getattr(env, "__name__", "")
    name = name if name.isidentifier() else "Env"  # a lambda has no name, nor has a partial
    for version in range(len(gym.registry) + 1):
        env_id = f"python/{name}-v{version}"
        if env_id not in gym.registry:
            gym.registry[env_id] = _spec(env_id, env)
        spec = gym.registry[env_id]
        if env in (spec.entry_point, spec.vector_entry_point):
            return env_id
    raise AssertionError("each version is another task's, though there are more versions than tasks")


def _maker_of_copies(env: gym.Env[Any, Any]) -> EnvMaker:
    """Return a function that makes copies of an environment as it is now: it stays its owner's, whoever steps it.

    Raises:
        ConfigurationError: If it can't be copied.
    """
    try:
        copied = copy.deepcopy(env)
    except Exception as error:  # whatever it holds may raise: a window, a socket, a lock
        raise ConfigurationError(
            f"env_id is an object of {type(env.unwrapped).__name__}, which can't be copied for evaluations "
            f"({one_line(error)}); give its class, or a function that makes one"
        ) from error

    def make_copy(render_mode: str | None = None) -> gym.Env[Any, Any]:
        made = copy.deepcopy(copied)
        if render_mode is not None:  # render() reads the attribute, by Gymnasium's convention
            made.unwrapped.render_mode = render_mode
        return made

    make_copy.__name__ = type(env.unwrapped).__name__
    return make_copy


def spec_of(env_id: str) -> EnvSpec:
    """Return how a task is made.

    Args:
        env_id: A Gymnasium id, without a version for the newest one; ``package:Id`` imports a package first.
            ``my_module:Name`` is the class or function ``Name`` that ``my_module`` defines, if it defines one.

    Raises:
        gymnasium.error.Error: If there is no such task.
        ImportError: If the package can't be imported.
        ConfigurationError: If a guard refuses the package or the task (:func:`guarded_by`).
    """
    package, _, task = env_id.rpartition(":")
    guard = _GUARD.get()
    if package and guard is not None:
        guard.require_package(env_id, package)
    if package:
        import_module(package)
    spec = _spec_in(package, task)
    for entry_point in (spec.entry_point, spec.vector_entry_point):
        if entry_point is not None and guard is not None:
            guard.require_entry_point(env_id, entry_point)
    return spec


def _spec_in(package: str, task: str) -> EnvSpec:
    if (maker := _found(package, task)) is not None:
        return _spec(task, maker)
    namespace, name, version = parse_env_id(task)
    if version is None:
        version = find_highest_version(namespace, name)
    env_id = get_env_id(namespace, name, version)
    if package and task.isidentifier() and env_id not in gym.registry:  # Gymnasium would suggest a task of its own
        raise gym.error.NameNotFound(f"{package} defines no class and no function {task}")
    return gym.spec(env_id)


def makeable(env_id: str) -> str | EnvSpec:
    """Return what Gymnasium makes a task from: its id, about which it may warn, unless it isn't registered.

    Raises:
        gymnasium.error.Error: If there is no such task.
        ImportError: If the package can't be imported.
    """
    spec = spec_of(env_id)
    return env_id if gym.registry.get(spec.id) is spec else spec


def _found(module: str, name: str) -> EnvMaker | None:
    """Return the class or function that a module defines, or takes from another one of its package, by its name."""
    try:
        found = getattr(import_module(module), name, None) if module else None
    except ImportError:
        return None
    is_code = isinstance(found, type) or inspect.isfunction(found)
    is_own = is_code and found.__module__.partition(".")[0] == module.partition(".")[0]
    return found if is_own else None


def _spec(name: str, maker: Any) -> EnvSpec:  # Gymnasium's types of makers name no positional arguments
    is_vectorized = isinstance(maker, type) and issubclass(maker, VectorEnv)
    return EnvSpec(name, **{"vector_entry_point" if is_vectorized else "entry_point": maker})
