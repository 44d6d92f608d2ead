"""Tasks without wrappers, made from their Gymnasium ids; errors are one line."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv

from seqrl_lightning.env_ids import makeable, spec_of
from seqrl_lightning.envs.faults import close_quietly
from seqrl_lightning.envs.learned_scales import require_no_statistics
from seqrl_lightning.envs.state import layers
from seqrl_lightning.envs.unvectorized import UnvectorizedEnv
from seqrl_lightning.errors import extra_in
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import ConfigurationError, one_line, require

BareTask = gym.Env[Any, Any] | VectorEnv[Any, Any, Any]
"""A task without wrappers: a single environment, or a vector environment if there is no other."""


def bare_task(env_id: str, env_kwargs: dict[str, Any], is_native: bool = False) -> BareTask:
    """Return a task without wrappers, or as a vector environment if there is no other, to read its attributes.

    Args:
        env_id: Its id.
        env_kwargs: Its arguments.
        is_native: Whether only the vectorized form is used, even if there are single environments.

    Raises:
        ConfigurationError: If there is no such task, or it refuses its arguments.
    """
    if is_native or task_spec(env_id).entry_point is None:
        envs = make_native(env_id, env_kwargs, num_envs=1)
        close_quietly(envs)
        return envs.unwrapped
    env = make_task(env_id, env_kwargs, native_mode=None)
    close_quietly(env)
    return env.unwrapped


def task_spec(env_id: str) -> EnvSpec:
    """Return the specification by which a task is made.

    Raises:
        ConfigurationError: If there is no such task.
    """
    with _one_line(env_id):
        return spec_of(env_id)


def make_task(env_id: str, env_kwargs: dict[str, Any], native_mode: AutoresetMode | None) -> gym.Env[Any, Any]:
    """Make one environment of a task, from its own vectorized implementation if ``native_mode`` is given.

    Raises:
        ConfigurationError: If it can't be made.
    """
    if native_mode is None:
        with _one_line(env_id):
            maker = makeable(env_id)
        with _one_line(env_id, env_kwargs):
            env = gym.make(maker, **copy.deepcopy(env_kwargs))  # a task may change its arguments
        _leave_steps_to_border(env)
        require_no_statistics(env, env_id, "The task's entry point has")
        return env
    envs = make_native(env_id, env_kwargs, num_envs=1)
    must_be = f"1 where 1 is asked for: with autoreset_mode {native_mode.value} each is stepped by itself"
    require(envs.num_envs == 1, f"the number of environments that {env_id} makes", envs.num_envs, must_be)
    return UnvectorizedEnv(envs, native_mode)


def make_native(env_id: str, env_kwargs: dict[str, Any], num_envs: int) -> VectorEnv[Any, Any, Any]:
    """Make a task's own vectorized implementation.

    Raises:
        ConfigurationError: If it can't be made, or learns a scale.
    """
    mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
    with _one_line(env_id):
        maker = makeable(env_id)
    with _one_line(env_id, env_kwargs):
        envs: VectorEnv[Any, Any, Any] = gym.make_vec(maker, num_envs, mode, **copy.deepcopy(env_kwargs))
    require_no_statistics(envs, env_id, "The vectorized implementation has")
    return envs


def _leave_steps_to_border(env: gym.Env[Any, Any]) -> None:
    """Switch off Gymnasium's check of the first step: it fails on rewards of 2**64 and more, which float32 can hold.

    The border checks each step, not only the first.
    """
    for layer in layers(env):
        if isinstance(layer, gym.wrappers.PassiveEnvChecker):
            layer.checked_step = layer.checked_data_reuse = True


@contextmanager
def _one_line(env_id: str, env_kwargs: dict[str, Any] | None = None) -> Iterator[None]:
    """Describe in one line why an environment can't be found or, with these arguments, be made."""
    try:
        yield
    except (ConfigurationError, EndedBySignal):
        raise
    except (Exception, SystemExit) as error:  # an environment, and its module, may raise anything
        is_of_arguments = isinstance(error, TypeError | ValueError) and bool(env_kwargs or "argument" in str(error))
        if env_kwargs is not None and is_of_arguments:
            message = f"data.env_kwargs is {env_kwargs}, which {env_id} refuses: {one_line(error)}"
            raise ConfigurationError(message) from error
        tells_all = isinstance(error, gym.error.Error | ModuleNotFoundError | MemoryError)
        namesakes = [known for known in gym.registry if known.rpartition("/")[2] == env_id]
        reason = extra_in(str(error)) or one_line(error if tells_all else repr(error))
        if isinstance(error, ModuleNotFoundError) and Path(f"{error.name}.py").exists():
            reason += f" (`python -m seqrl_lightning` finds {error.name}.py in this folder, `seqrl` doesn't)"
        reason += "".join(f" Did you mean: `{known}`?" for known in namesakes if known != env_id)
        raise ConfigurationError(f"data.env_id is {env_id!r}, which can't be made: {reason}") from error
