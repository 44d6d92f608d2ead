"""Environments that break: detection at the step at which it happens, and of the environment that broke."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from seqrl_lightning.envs.solo import SoloVectorEnv
from seqrl_lightning.envs.state import TrackedEnv
from seqrl_lightning.types import Array, BoolArray


class EnvFault(Exception):
    """A fault of an environment.

    Args:
        env: Number of the environment; None if it isn't known.
        reason: What happened, in one line.
    """

    def __init__(self, env: int | None, reason: str) -> None:
        super().__init__(reason)
        self.env = env
        self.reason = reason


class StepCheck:
    """A check that observations are finite, of their space's shape and inside it, and that rewards are finite.

    Args:
        envs: The environments, with a Box observation space.
        check_bounds: Whether finite values outside the space's bounds are faults.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], check_bounds: bool = True) -> None:
        space = envs.single_observation_space
        assert isinstance(space, Box)
        self._shape = (envs.num_envs, *space.shape)
        limits = np.finfo(space.dtype) if np.issubdtype(space.dtype, np.floating) else np.iinfo(space.dtype)
        # Inside finite bounds there is neither NaN nor infinity: two comparisons find everything.
        low, high = (space.low, space.high) if check_bounds else (limits.min, limits.max)
        self._low, self._high = np.maximum(low, limits.min), np.minimum(high, limits.max)
        self._can_be_outside = not (
            isinstance(limits, np.iinfo) and np.all(self._low == limits.min) and np.all(self._high == limits.max)
        )

    def observation(self, observation: Array) -> None:
        """Check observations, [num_envs, *obs].

        Raises:
            EnvFault: If one is faulty.
        """
        if observation.shape != self._shape:
            raise EnvFault(None, f"the observations' shape is {observation.shape}, not {self._shape}")
        if self._can_be_outside:
            # count_nonzero() is several times as fast as all().
            is_above, is_below = observation >= self._low, observation <= self._high
            if np.count_nonzero(is_above) + np.count_nonzero(is_below) < 2 * observation.size:
                is_inside = is_above & is_below
                env = _first_faulty(is_inside)
                value = observation[env][~is_inside[env]].flat[0]
                hint = " (agent.check_bounds: false accepts it)" if np.isfinite(value) else ""
                raise EnvFault(env, f"the observation has {value}, which is outside its space{hint}")

    def reward(self, reward: Array) -> None:
        """Check rewards, [num_envs].

        Raises:
            EnvFault: If one isn't finite.
        """
        is_finite = np.isfinite(reward)
        if np.count_nonzero(is_finite) < is_finite.size:
            env = _first_faulty(is_finite)
            raise EnvFault(env, f"the reward is {reward[env]}")


def fault_of(envs: VectorEnv[Any, Any, Any], error: Exception) -> EnvFault:
    """Return the fault that ``error`` tells of: which environment raised it, or which one's process is dead."""
    if isinstance(error, EnvFault):
        return error
    vector = envs.unwrapped
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(vector, SoloVectorEnv):
        return EnvFault(0, reason)
    if isinstance(vector, SyncVectorEnv):
        failed = (i for i, env in enumerate(vector.envs) if isinstance(env, TrackedEnv) and env.failed)
        return EnvFault(next(failed, None), reason)
    if isinstance(vector, AsyncVectorEnv):
        for env, (pipe, process) in enumerate(zip(vector.parent_pipes, vector.processes, strict=True)):
            if pipe is None:  # closed when the error came through it
                return EnvFault(env, reason)
            process.join(0.2 if isinstance(error, EOFError | OSError) else 0.0)  # its pipe breaks before it has ended
            if not process.is_alive():
                return EnvFault(env, f"its process ended with status {process.exitcode}")
    return EnvFault(None, reason)


def discard(envs: VectorEnv[Any, Any, Any]) -> None:
    """Close environments, one of which is broken."""
    vector = envs.unwrapped
    if isinstance(vector, AsyncVectorEnv):  # its own close() waits for the answers of all processes
        for process in vector.processes:
            process.kill()
            process.join()
        for pipe in vector.parent_pipes:
            if pipe is not None:
                pipe.close()
        vector.closed = True
        return
    try:
        envs.close()
    except Exception:  # a broken environment may fail to close, too
        vector.closed = True


def _first_faulty(is_good: BoolArray) -> int:
    return int(np.flatnonzero(~is_good.reshape(len(is_good), -1).all(1))[0])
