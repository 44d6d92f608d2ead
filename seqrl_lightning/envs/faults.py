"""Environments that break: found out at the step at which it happens, and which of them it was."""

from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from seqrl_lightning.envs.solo import SoloVectorEnv
from seqrl_lightning.types import Array, BoolArray


class EnvFault(Exception):
    """An environment did what it must not.

    Args:
        env: Which of the environments; None if nobody knows.
        reason: What happened.
    """

    def __init__(self, env: int | None, reason: str) -> None:
        super().__init__(reason)
        self.env = env
        self.reason = reason


class StepCheck:
    """Sees that observations are finite, in their space and of its shape, and rewards finite.

    Args:
        envs: The environments, with a Box observation space.
        checks_bounds: Whether finite values outside the space's bounds are wrong.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], checks_bounds: bool = True) -> None:
        space: Any = envs.single_observation_space
        self._shape = (envs.num_envs, *space.shape)
        limits = np.finfo(space.dtype) if np.issubdtype(space.dtype, np.floating) else np.iinfo(space.dtype)
        # Within finite bounds there is neither NaN nor infinity: two comparisons find everything.
        low, high = (space.low, space.high) if checks_bounds else (limits.min, limits.max)
        self._low, self._high = np.maximum(low, limits.min), np.minimum(high, limits.max)
        self._can_be_outside = not (
            isinstance(limits, np.iinfo) and np.all(self._low == limits.min) and np.all(self._high == limits.max)
        )

    def observation(self, observation: Array) -> None:
        """Looks at [num_envs, *obs].

        Raises:
            EnvFault: If something is wrong with it.
        """
        if observation.shape != self._shape:
            raise EnvFault(None, f"the observations' shape is {observation.shape}, not {self._shape}")
        if self._can_be_outside:
            # Counting is several times as fast as all().
            is_above, is_below = observation >= self._low, observation <= self._high
            if np.count_nonzero(is_above) + np.count_nonzero(is_below) < 2 * observation.size:
                is_inside = is_above & is_below
                env = _first_wrong(is_inside)
                values = observation[env][~is_inside[env]]
                hint = " (agent.check_bounds: false takes it as it is)" if np.isfinite(values.flat[0]) else ""
                raise EnvFault(env, f"the observation has {values.flat[0]}, which is outside its space{hint}")

    def reward(self, reward: Array) -> None:
        """Looks at [num_envs] rewards.

        Raises:
            EnvFault: If one isn't finite.
        """
        is_finite = np.isfinite(reward)
        if np.count_nonzero(is_finite) < is_finite.size:
            env = _first_wrong(is_finite)
            raise EnvFault(env, f"the reward is {reward[env]}")


def fault_of(envs: VectorEnv[Any, Any, Any], error: Exception) -> EnvFault:
    """Which environment raised ``error``, or whose process is dead."""
    if isinstance(error, EnvFault):
        return error
    vector: Any = envs.unwrapped
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(vector, SoloVectorEnv):
        return EnvFault(0, reason)
    if isinstance(vector, SyncVectorEnv):
        return EnvFault(next((i for i, env in enumerate(vector.envs) if getattr(env, "failed", False)), None), reason)
    if isinstance(vector, AsyncVectorEnv):
        for env, (pipe, process) in enumerate(zip(vector.parent_pipes, vector.processes, strict=True)):
            if pipe is None:  # closed when the error came through it
                return EnvFault(env, reason)
            process.join(0.2 if isinstance(error, EOFError | OSError) else 0.0)  # its pipe breaks before it has ended
            if not process.is_alive():
                return EnvFault(env, f"its process ended with status {process.exitcode}")
    return EnvFault(None, reason)


def discard(envs: VectorEnv[Any, Any, Any]) -> None:
    """Closes environments of which one is broken."""
    vector: Any = envs.unwrapped
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
    except Exception:  # broken as they are, they may fail at that as well
        vector.closed = True


def _first_wrong(is_right: BoolArray) -> int:
    return int(np.flatnonzero(~is_right.reshape(len(is_right), -1).all(1))[0])
