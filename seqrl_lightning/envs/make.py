"""Environments from an id and settings, and the facts that their spaces state."""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

from seqrl_lightning.envs.masks import action_mask_of
from seqrl_lightning.envs.solo import SoloVectorEnv
from seqrl_lightning.envs.state import TrackedEnv, tracked
from seqrl_lightning.envs.workers import end_by_killing, killed_on_error, worker
from seqrl_lightning.types import ConfigurationError, require

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
EnvsT = TypeVar("EnvsT", gym.Env[Any, Any], VectorEnv[Any, Any, Any])


class EnvFacts(NamedTuple):
    """Facts about a task, read from one of its environments."""

    obs_shape: tuple[int, ...]  # of one observation
    obs_dtype: str  # NumPy's name of it; float32 where the task says float64, as networks compute in float32
    n_actions: int
    num_blocks: int  # 0 for a task in which one rule holds throughout
    has_action_masks: bool  # info["action_mask"] says which actions are allowed
    tells_correct_action: bool  # info["correct_action"] says which action is right
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
    ) -> None:
        modes = (None, *(mode.value for mode in gym.VectorizeMode))
        require(vectorization_mode in modes, "data.vectorization_mode", vectorization_mode, f"one of {modes}")
        self.env_id = env_id
        self.env_kwargs = dict(env_kwargs or {})
        self.wrappers = list(wrappers)
        if frame_stack > 1:
            self.wrappers.append(functools.partial(gym.wrappers.FrameStackObservation, stack_size=frame_stack))
        is_native = vectorization_mode == gym.VectorizeMode.VECTOR_ENTRY_POINT.value
        require(
            not (self.wrappers and is_native),
            "data.vectorization_mode",
            vectorization_mode,
            "sync or async with data.wrappers, which wrap single environments",
        )
        self.vectorization_mode = vectorization_mode

    def make_env(self, **env_kwargs: Any) -> gym.Env[Any, Any]:
        """Make one environment, wrapped and flattened; ``env_kwargs`` add to the task's own.

        Raises:
            ConfigurationError: If a wrapper refuses the task.
        """
        env = gym.make(self.env_id, **{**self.env_kwargs, **env_kwargs})
        for k, wrapper in enumerate(self.wrappers):
            try:
                env = wrapper(env)
            except (AssertionError, TypeError, ValueError, gym.error.Error) as error:
                raise ConfigurationError(f"data.wrappers[{k}] can't wrap {self.env_id}: {_one_line(error)}") from error
        return _flattened(env, gym.wrappers.FlattenObservation)

    def make_envs(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        """Make ``num_envs`` environments side by side, which reset in the step after an episode's end.

        Raises:
            ConfigurationError: If there is no such task, it refuses its arguments or a wrapper, or it resets within
                the step that ends an episode.
        """
        return self._make_envs(num_envs, self.vectorization_mode)

    def _make_envs(self, num_envs: int, vectorization_mode: str | None) -> VectorEnv[Any, Any, Any]:
        has_single_env = self._has_single_env
        require(
            has_single_env or not self.wrappers,
            "data.wrappers",
            self.wrappers,
            f"left out: {self.env_id} has no single environments",
        )
        try:
            if num_envs == 1 and vectorization_mode is None and has_single_env:
                return SoloVectorEnv(self.make_env())
            mode = vectorization_mode or (gym.VectorizeMode.SYNC if self.wrappers else None)
            in_processes = mode == gym.VectorizeMode.ASYNC.value
            wrappers = (*self.wrappers, *((TrackedEnv,) if in_processes else ()))
            in_worker = {"worker": worker} if in_processes else None
            with killed_on_error() if in_processes else nullcontext():
                envs = gym.make_vec(self.env_id, num_envs, mode, in_worker, wrappers, **self.env_kwargs)
            if isinstance(envs.unwrapped, AsyncVectorEnv):
                end_by_killing(envs.unwrapped)
        except (gym.error.Error, ModuleNotFoundError) as error:
            raise ConfigurationError(
                f"data.env_id is {self.env_id!r}, which can't be made: {_one_line(error)}"
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"data.env_kwargs is {self.env_kwargs}, which {self.env_id} refuses: {_one_line(error)}"
            ) from error
        autoreset = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        require(
            autoreset == AutoresetMode.NEXT_STEP,
            "autoreset_mode of data.env_id",
            autoreset,
            "AutoresetMode.NEXT_STEP",
        )
        return _flattened(tracked(envs), gym.wrappers.vector.FlattenObservation)

    def read_facts(self) -> EnvFacts:
        """Make one environment, reset it once, and read what it states.

        Raises:
            ConfigurationError: If it can't be made, or its actions aren't Discrete from 0 on.
        """
        envs = self._make_envs(1, vectorization_mode=None)
        obs_shape, obs_dtype = _observation_spec(envs)
        n_actions = _num_actions(envs, self.env_id)
        _, infos = envs.reset(seed=0)
        facts = EnvFacts(
            obs_shape,
            obs_dtype,
            n_actions,
            _num_blocks(envs),
            has_action_masks=action_mask_of(infos) is not None,
            tells_correct_action="correct_action" in infos,
            flattened_space=_flattened_space(envs),
        )
        envs.close()
        return facts

    @functools.cached_property
    def task(self) -> Any:
        """The task itself: an environment without its wrappers, or a vector environment if there is no other."""
        envs = self.make_env() if self._has_single_env else self._make_envs(1, vectorization_mode=None)
        envs.close()
        return envs.unwrapped

    @property
    def _has_single_env(self) -> bool:
        """Whether there are environments besides vectorized ones, as far as is known before a package is imported."""
        spec = gym.registry.get(self.env_id.rpartition(":")[2])
        return spec is None or spec.entry_point is not None


def _flattened(envs: EnvsT, wrapper: Callable[[EnvsT], EnvsT]) -> EnvsT:
    """Flatten observations that aren't a Box: Discrete ones become one-hot, composed ones one vector."""
    space = envs.single_observation_space if isinstance(envs, VectorEnv) else envs.observation_space
    return envs if isinstance(space, gym.spaces.Box) else wrapper(envs)


def _flattened_space(envs: VectorEnv[Any, Any, Any]) -> str | None:
    outermost = envs.env if isinstance(envs, SoloVectorEnv) else envs
    if isinstance(outermost, gym.wrappers.FlattenObservation):
        return str(outermost.env.observation_space)
    if isinstance(outermost, gym.wrappers.vector.FlattenObservation):
        return str(outermost.env.single_observation_space)
    return None


def _observation_spec(envs: VectorEnv[Any, Any, Any]) -> tuple[tuple[int, ...], str]:
    space = envs.single_observation_space
    assert space.shape is not None  # it is a Box, flattened if need be
    dtype = np.dtype(space.dtype)
    return tuple(space.shape), "float32" if dtype == np.float64 else dtype.name


def _num_actions(envs: VectorEnv[Any, Any, Any], env_id: str) -> int:
    space = envs.single_action_space
    if isinstance(space, gym.spaces.MultiDiscrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; "
            "data.wrappers [FlattenMultiDiscreteAction] makes one action of each combination"
        )
    if not isinstance(space, gym.spaces.Discrete):
        raise ConfigurationError(
            f"data.env_id is {env_id!r}, whose actions are {space}; value-based learning needs a Discrete action space"
        )
    require(space.start == 0, "the first action of data.env_id", int(space.start), "0")
    return int(space.n)


def _num_blocks(envs: VectorEnv[Any, Any, Any]) -> int:
    task: Any = envs.unwrapped
    if isinstance(task, SoloVectorEnv):
        task = task.env.unwrapped
    num_blocks = int(getattr(task, "num_blocks", 1))  # an attribute that any Gymnasium task may have
    return num_blocks if num_blocks > 1 else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
