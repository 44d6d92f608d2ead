"""CartPole with one number on another scale than the others, as sensors have it."""

from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.stateless import Stateless


class Millimeters(Stateless, gym.ObservationWrapper[Any, Any, Any]):
    """Show CartPole's position in millimeters: up to 2,400, where the other numbers are around 1.

    Args:
        env: CartPole.
    """

    scale = np.array([1000.0, 1.0, 1.0, 1.0], np.float32)

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(space.low * self.scale, space.high * self.scale)

    def observation(self, observation: Any) -> Any:
        """Return the four numbers with the first one in millimeters."""
        return observation * self.scale
