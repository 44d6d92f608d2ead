"""Environments from an id and settings, and the facts that their spaces state."""

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.utils import RunningMeanStd

from seqrl_lightning.envs.admitted import (
    AdmittedEnv,
    CheckedParts,
    TaskReward,
    VectorizedEnv,
    close_quietly,
    num_blocks_of,
)
from seqrl_lightning.envs.border import Border, EnvFault, SoloBorder, VectorBorder
from seqrl_lightning.envs.partial_resets import PartialResets
from seqrl_lightning.envs.state import layers
from seqrl_lightning.envs.workers import end_by_killing, killed_on_error, worker
from seqrl_lightning.errors import extra_in
from seqrl_lightning.signals import Terminated
from seqrl_lightning.types import ConfigurationError, require

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


class EnvFacts(NamedTuple):
    """Facts about a task, read from one of its environments."""

    obs_shape: tuple[int, ...]  # of one observation
    obs_dtype: str  # NumPy's name of the dtype that it is stored in
    n_actions: int
    num_blocks: int  # 0 for a task in which one rule holds throughout
    tells_correct_action: bool  # info["correct_action"] says which action is right
    repeats: bool  # the same seed shows the same first observation again
    flattened_space: str | None  # the task's own observation space, where it had to be flattened


class EnvFactory:
    """Make environments of one task, all with the same settings.

    Args:
        env_id: Gymnasium id of the task; ``package:Id`` imports a package first.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers around each single environment, the innermost first.
        frame_stack: k > 1 shows the last k observations as one (Gymnasium's ``FrameStackObservation``, outside
            ``wrappers``).
        vectorization_mode: One of ``gym.VectorizeMode``; None steps a single environment directly, and several by the
            task's own vectorized implementation where it has one, else one after the other.
        autoreset_mode: When a vectorized implementation that doesn't say so resets an environment whose episode has
            ended: one of ``gym.vector.AutoresetMode``.

    Raises:
        ConfigurationError: If there is no such mode, or the task's own vectorized implementation can't be wrapped.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        frame_stack: int = 1,
        vectorization_mode: str | None = None,
        autoreset_mode: str | None = None,
    ) -> None:
        modes = (None, *(mode.value for mode in gym.VectorizeMode))
        require(vectorization_mode in modes, "data.vectorization_mode", vectorization_mode, f"one of {modes}")
        resets = (None, *(mode.value for mode in AutoresetMode))
        require(autoreset_mode in resets, "data.autoreset_mode", autoreset_mode, f"one of {resets}")
        is_native = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        require(
            not ((wrappers or frame_stack > 1) and is_native),
            "data.vectorization_mode",
            vectorization_mode,
            "sync or async with data.wrappers, which wrap single environments",
        )
        self.env_id = env_id
        self.env_kwargs = dict(env_kwargs or {})
        self.wrappers = list(wrappers)
        self.frame_stack = frame_stack
        self.vectorization_mode = vectorization_mode
        self.autoreset_mode = autoreset_mode

    def make_env(self, **env_kwargs: Any) -> AdmittedEnv:
        """Make one environment, wrapped and flattened; ``env_kwargs`` add to the task's own.

        Raises:
            ConfigurationError: If there is no such task, or it or a wrapper refuses its arguments.
        """
        arguments = {**self.env_kwargs, **env_kwargs}
        return AdmittedEnv(*make_wrapped(self.env_id, arguments, self.wrappers, self.frame_stack), keeps_infos=True)

    def make_envs(self, num_envs: int) -> Border:
        """Make ``num_envs`` environments side by side.

        Raises:
            ConfigurationError: If there is no such task, it or a wrapper refuses its arguments, or nobody knows when
                it resets.
        """
        return self._make_envs(num_envs, self.vectorization_mode)

    def read_facts(self) -> EnvFacts:
        """Make one environment, reset it twice, take one step, and read what it states.

        Raises:
            ConfigurationError: If it can't be made, reset or stepped, or its actions aren't Discrete from 0 on.
        """
        envs = self._make_envs(1, vectorization_mode=None)
        envs.check_bounds = False  # a setting of the agent
        method = "reset"
        try:
            first = envs.reset(seed=0)
            repeats = np.array_equal(first.observation, envs.reset(seed=0).observation)
            method = "step"
            action = np.array([0 if first.action_mask is None else first.action_mask[0].argmax()])
            shown = envs.step(action).shown
        except EnvFault as fault:
            what = f"data.env_id is {self.env_id!r}, whose {method}() fails"
            raise ConfigurationError(f"{what}: {fault.reason}") from fault
        finally:
            envs.discard()
        num_blocks = num_blocks_of(_task_of(envs))
        return EnvFacts(
            tuple(envs.observation_space.shape),
            np.dtype(envs.observation_space.dtype).name,
            envs.n_actions,
            num_blocks if num_blocks > 1 and shown.block is not None else 0,
            tells_correct_action=shown.correct_action is not None,
            repeats=repeats,
            flattened_space=_flattened_space(envs),
        )

    @functools.cached_property
    def task(self) -> Any:
        """The task itself: an environment without its wrappers, or a vector environment if there is no other."""
        if self._has_single_env:
            env = self._make_single()
            close_quietly(env)
            return env.unwrapped
        envs = self._make_native(1)
        close_quietly(envs)
        return envs.unwrapped

    @functools.cached_property
    def _spec(self) -> EnvSpec:
        module, _, name = self.env_id.rpartition(":")
        with _refusing(self.env_id, self.env_kwargs):
            if module:
                importlib.import_module(module)
            return gym.spec(name)

    @property
    def _has_single_env(self) -> bool:
        """Whether there are environments besides vectorized ones."""
        return self._spec.entry_point is not None

    def _make_envs(self, num_envs: int, vectorization_mode: str | None) -> Border:
        if not self._has_single_env:
            must_be = f"left out: {self.env_id} has no single environments"
            require(not self.wrappers, "data.wrappers", self.wrappers, must_be)
            require(self.frame_stack == 1, "data.frame_stack", self.frame_stack, "1: it is a wrapper, too")
            return VectorBorder(self._make_native(num_envs))
        if num_envs == 1 and vectorization_mode is None:
            return SoloBorder(self._make_single())
        if vectorization_mode == gym.VectorizeMode.ASYNC.value:
            with killed_on_error():
                workers = AsyncVectorEnv([self._make_single] * num_envs, copy=False, worker=worker)
            end_by_killing(workers)
            return VectorBorder(workers)
        is_wrapped = bool(self.wrappers) or self.frame_stack > 1
        has_native = self._spec.vector_entry_point is not None
        if vectorization_mode == gym.VectorizeMode.SYNC.value or is_wrapped or not has_native:
            return VectorBorder(SyncVectorEnv([self._make_single] * num_envs, copy=False))
        return VectorBorder(self._make_native(num_envs))

    @property
    def _make_single(self) -> Callable[[], VectorizedEnv]:
        """A function that makes one environment of several, which can be sent to another process."""
        return functools.partial(_make_single, self.env_id, self.env_kwargs, self.wrappers, self.frame_stack)

    def _make_native(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make the task's own vectorized implementation, with next-step autoreset."""
        mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
        with _refusing(self.env_id, self.env_kwargs):
            envs = gym.make_vec(self.env_id, num_envs, mode, **self.env_kwargs)
        _require_discrete(envs.single_action_space, self.env_id)
        modes = [mode.value for mode in AutoresetMode]
        declared = (envs.metadata or {}).get("autoreset_mode")
        if declared is None:
            must_be = f"one of {modes}, since {self.env_id} doesn't declare it in its metadata"
            require(self.autoreset_mode is not None, "data.autoreset_mode", None, must_be)
            declared = self.autoreset_mode
        must_be = f"one of {modes}"
        require(declared in (*AutoresetMode, *modes), f"metadata['autoreset_mode'] of {self.env_id}", declared, must_be)
        autoreset_mode = AutoresetMode(declared)
        if not isinstance(envs.single_observation_space, Box):
            _require_flat(envs.single_observation_space, self.env_id)
            envs = gym.wrappers.vector.FlattenObservation(envs)
        return envs if autoreset_mode is AutoresetMode.NEXT_STEP else PartialResets(envs, autoreset_mode)


def _task_of(envs: Border) -> Any:
    """Return a single environment, or a vectorized implementation, without its wrappers."""
    if isinstance(envs, SoloBorder):
        return envs.env.unwrapped
    assert isinstance(envs, VectorBorder)
    return envs.envs.unwrapped


def _flattened_space(envs: Border) -> str | None:
    """Return the task's own observation space, if it had to be flattened."""
    if isinstance(envs, SoloBorder):
        spaces = (layer.observation_space for layer in layers(envs.env) if isinstance(layer, CheckedParts))
        return next(map(str, spaces), None)
    space = _task_of(envs).single_observation_space
    return None if isinstance(space, Box) else str(space)


def make_wrapped(
    env_id: str, env_kwargs: dict[str, Any], wrappers: Sequence[Wrapper], frame_stack: int = 1
) -> tuple[gym.Env[Any, Any], TaskReward | None]:
    """Make a single environment in its wrappers.

    Args:
        env_id: See :class:`EnvFactory`, like the arguments that follow it.
        env_kwargs: Arguments of the task.
        wrappers: Wrappers, the innermost first.
        frame_stack: Number of observations that are shown as one.

    Returns:
        The environment, with a Box observation space and Discrete actions; and the layer that keeps the task's own
        reward, None without wrappers, which alone could change it.

    Raises:
        ConfigurationError: If the environment can't be made, can't be wrapped, or has other spaces.
    """
    with _refusing(env_id, env_kwargs):
        env = gym.make(env_id, **env_kwargs)
    task_reward = TaskReward(env) if wrappers else None
    env = env if task_reward is None else task_reward
    for k, wrapper in enumerate(wrappers):
        try:
            env = wrapper(env)
        except (ConfigurationError, Terminated):
            raise
        except (Exception, SystemExit) as error:
            known = isinstance(error, AssertionError | TypeError | ValueError | gym.error.Error)
            reason = _one_line(error if known else repr(error))
            raise ConfigurationError(f"data.wrappers[{k}] can't wrap {env_id}: {reason}") from error
    _require_discrete(env.action_space, env_id)
    _require_no_statistics(env, env_id)
    if not isinstance(env.observation_space, Box):
        _require_flat(env.observation_space, env_id)
        env = gym.wrappers.FlattenObservation(CheckedParts(env))
    if frame_stack > 1:
        env = gym.wrappers.FrameStackObservation(env, frame_stack)
    return env, task_reward


def _make_single(
    env_id: str, env_kwargs: dict[str, Any], wrappers: Sequence[Wrapper], frame_stack: int
) -> VectorizedEnv:
    return VectorizedEnv(*make_wrapped(env_id, env_kwargs, wrappers, frame_stack))


@contextmanager
def _refusing(env_id: str, env_kwargs: dict[str, Any]) -> Iterator[None]:
    """Say in a line why an environment can't be made."""
    try:
        yield
    except (ConfigurationError, Terminated):
        raise
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"data.env_kwargs is {env_kwargs}, which {env_id} refuses: {_one_line(error)}"
        ) from error
    except (Exception, SystemExit) as error:  # an environment may raise anything
        named = error if isinstance(error, gym.error.Error | ModuleNotFoundError) else repr(error)
        reason = extra_in(str(error)) or _one_line(named)
        raise ConfigurationError(f"data.env_id is {env_id!r}, which can't be made: {reason}") from error


def _require_discrete(space: gym.Space[Any], env_id: str) -> None:
    if isinstance(space, MultiDiscrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; "
            "data.wrappers [FlattenMultiDiscreteAction] makes one action of each combination"
        )
    if not isinstance(space, Discrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; value-based learning needs a Discrete action space"
        )
    must_be = "0; gymnasium.wrappers.TransformAction can move them"
    require(space.start == 0, f"the first action of {env_id}", int(space.start), must_be)


def _require_flat(space: gym.Space[Any], env_id: str) -> None:
    must_be = "of a fixed size; a wrapper in data.wrappers can make them so"
    require(space.is_np_flattenable, f"the observation space of {env_id}", str(space), must_be)


def _require_no_statistics(env: gym.Env[Any, Any], env_id: str) -> None:
    """Refuse wrappers that learn a scale while they are used.

    Each environment would have a scale of its own: evaluation would show a trained network other observations than
    training did.

    Raises:
        ConfigurationError: If there is such a wrapper.
    """
    for layer in layers(env)[:-1]:
        keeps_statistics = any(isinstance(value, RunningMeanStd) for value in vars(layer).values())
        if keeps_statistics or hasattr(type(layer), "update_running_mean"):
            raise ConfigurationError(
                f"data.wrappers has {type(layer).__name__} around {env_id}, which learns its scale in each environment "
                "by itself: evaluation would show other observations than training. Use one with a fixed scale, like "
                "gymnasium.wrappers.RescaleObservation"
            )


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
