"""Single environments in their wrappers, with a Box observation space and Discrete actions."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode

from seqrl_lightning.envs.admitted import VectorizedEnv
from seqrl_lightning.envs.bare import make_task
from seqrl_lightning.envs.learned_scales import require_no_statistics
from seqrl_lightning.envs.packing import PackedParts, PackedSpace
from seqrl_lightning.envs.parts import CheckedBox, CheckedParts
from seqrl_lightning.envs.spaces import has_fixed_size, has_picture, is_composed, lacks_parts
from seqrl_lightning.envs.task_reward import TaskReward
from seqrl_lightning.envs.wrappers import MAX_COMBINATIONS, FlattenMultiDiscreteAction, is_enumerable, num_combinations
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import ConfigurationError, one_line, require

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def make_wrapped(
    env_id: str,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[Wrapper],
    frame_stack: int = 1,
    native_mode: AutoresetMode | None = None,
    flatten_observations: bool | None = None,
) -> tuple[gym.Env[Any, Any], TaskReward | None]:
    """Make a single environment in its wrappers.

    Args:
        env_id: See :class:`EnvFactory`, like the arguments that follow it.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers, the innermost first.
        frame_stack: Number of observations that are shown as one.
        native_mode: When the task's own vectorized implementation, of which it is then made, resets; None makes it of
            the task itself.
        flatten_observations: See :class:`EnvFactory`.

    Returns:
        The environment, with a Box observation space and Discrete actions; and the layer that keeps the task's own
        reward, None where no wrapper or stack could change what the task returns.

    Raises:
        ConfigurationError: If the environment can't be made, can't be wrapped, or has other spaces.
    """
    env = make_task(env_id, env_kwargs, native_mode)
    task_reward = TaskReward(env) if wrappers or frame_stack > 1 else None
    env = env if task_reward is None else task_reward
    for k, wrapper in enumerate(wrappers):
        try:
            env = _with_own_arguments(wrapper)(env)
        except (ConfigurationError, EndedBySignal):
            raise
        except (Exception, SystemExit) as error:
            known = isinstance(error, AssertionError | TypeError | ValueError | gym.error.Error)
            reason = one_line(error if known else repr(error))
            raise ConfigurationError(f"data.wrappers[{k}] can't wrap {env_id}: {reason}") from error
    if is_enumerable(env.action_space):
        env = FlattenMultiDiscreteAction(env)
    require_discrete(env.action_space, env_id)
    require_no_statistics(env, env_id, "data.wrappers has")
    if not isinstance(env.observation_space, Box):
        require_flat(env.observation_space, env_id)
        is_flat = is_flattened(env.observation_space, flatten_observations)
        env = gym.wrappers.FlattenObservation(CheckedParts(env)) if is_flat else PackedParts(env)
    if frame_stack > 1:
        space = env.observation_space
        env = gym.wrappers.FrameStackObservation(CheckedBox(env), frame_stack)
        if isinstance(space, PackedSpace):
            env.observation_space = space.stacked(frame_stack)
    return env, task_reward


def _with_own_arguments(wrapper: Wrapper) -> Wrapper:
    """Return a wrapper with collections of its own: it may change them, and the next environment gets the same ones."""
    if not isinstance(wrapper, functools.partial):
        return wrapper
    own = {
        name: copy.deepcopy(value) if isinstance(value, list | dict | set | np.ndarray) else value
        for name, value in wrapper.keywords.items()
    }
    return functools.partial(wrapper.func, *wrapper.args, **own)


def make_vectorized(
    env_id: str,
    env_kwargs: dict[str, Any],
    wrappers: Sequence[Wrapper],
    frame_stack: int,
    native_mode: AutoresetMode | None,
    flatten_observations: bool | None,
) -> VectorizedEnv:
    """Make a single environment in its wrappers, one of several; see :func:`make_wrapped`."""
    made = make_wrapped(env_id, env_kwargs, wrappers, frame_stack, native_mode, flatten_observations)
    return VectorizedEnv(*made)


def require_discrete(space: gym.Space[Any], env_id: str) -> None:
    """Refuse actions that can't be numbered from 0 on.

    Raises:
        ConfigurationError: If they aren't.
    """
    if isinstance(space, MultiDiscrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}, with {num_combinations(space):,} combinations; "
            f"there must be at most {MAX_COMBINATIONS:,}, so that each can be an action (data.wrappers "
            "[FlattenMultiDiscreteAction] makes actions of more)"
        )
    if not isinstance(space, Discrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; they must be Discrete or MultiDiscrete "
            "(a wrapper in data.wrappers can make them so)"
        )
    must_be = "0; gymnasium.wrappers.TransformAction can move them"
    require(space.start == 0, f"the first action of {env_id}", int(space.start), must_be)


def require_flat(space: gym.Space[Any], env_id: str) -> None:
    """Refuse observations without a fixed size, or with nothing in them.

    Raises:
        ConfigurationError: If they have none.
    """
    must_be = "of a fixed size; a wrapper in data.wrappers can make it so (for Minigrid, MinigridParts)"
    require(has_fixed_size(space), f"the observation space of {env_id}", str(space), must_be)
    must_be = "a space with a part in each Dict and Tuple"
    require(not lacks_parts(space), f"the observation space of {env_id}", str(space), must_be)


def is_flattened(space: gym.Space[Any], flatten_observations: bool | None) -> bool:
    """Return whether a space that is no Box is flattened, rather than packed."""
    if not is_composed(space):
        return True
    return not has_picture(space) if flatten_observations is None else flatten_observations
