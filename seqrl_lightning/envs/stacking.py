"""Stacks of the last observations, of N environments at once."""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.packing import PackedSpace
from seqrl_lightning.envs.values import as_array, own_observation, stored_space
from seqrl_lightning.saved_state import saved_tensor
from seqrl_lightning.types import Array, IntArray


class StackedVectorEnv(VectorWrapper[Array, Any, Any, Any, Any]):
    """Show the last k observations as one, ``[N, k, *obs]``, as Gymnasium's ``FrameStackObservation`` does.

    An episode begins with k times its first observation.

    Args:
        envs: Environments with next-step autoreset, whose observations are a Box.
        num_frames: k.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], num_frames: int) -> None:
        super().__init__(envs)
        space = envs.single_observation_space
        assert isinstance(space, Box)
        self._frame_space = stored_space(space)
        self.single_observation_space = _stacked(space, num_frames)
        self.observation_space = batch_space(self.single_observation_space, envs.num_envs)
        self._frames = np.zeros((envs.num_envs, num_frames, *self._frame_space.shape), self._frame_space.dtype)
        self._ended = np.zeros(envs.num_envs, np.bool_)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every environment. Raise as :meth:`step` does."""
        observation, infos = self.env.reset(seed=seed, options=options)
        self._ended[:] = False
        self._frames[:] = self._own(observation)[:, None]
        return self._frames, infos

    def step(self, actions: IntArray) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        """Act in every environment.

        Raises:
            EnvValueError: If an observation isn't of its space's shape or kind.
        """
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        own, restarted = self._own(observation), self._ended
        self._frames = np.concatenate([self._frames[:, 1:], own[:, None]], axis=1)
        if np.count_nonzero(restarted):
            self._frames[restarted] = own[restarted, None]
        ended = np.logical_or(as_array(terminated, "terminated"), as_array(truncated, "truncated"))
        self._ended = ended.astype(np.bool_)
        return self._frames, reward, terminated, truncated, infos

    def _own(self, observation: object) -> Array:
        return own_observation(observation, self._frame_space, (self.num_envs, *self._frame_space.shape))

    def state_dict(self) -> dict[str, Any]:
        """Return the stacks, and which of the episodes have ended."""
        return {"frames": torch.from_numpy(self._frames.copy()), "ended": torch.from_numpy(self._ended.copy())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            StateError: If it isn't that of as many environments with such observations.
        """
        for name, array in (("frames", self._frames), ("ended", self._ended)):
            own = torch.from_numpy(array)
            own.copy_(saved_tensor(state_dict[name], own.shape, own.dtype, f"the stacked observations' {name}"))


def _stacked(space: Box, num_frames: int) -> Box:
    """Return the space of stacks of observations."""
    if isinstance(space, PackedSpace):
        return space.stacked(num_frames)
    low, high = (np.repeat(bound[None], num_frames, axis=0) for bound in (space.low, space.high))
    return Box(low, high, dtype=space.dtype)
