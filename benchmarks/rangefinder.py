"""CartPole with one number on another scale than the others, as sensors have it."""

from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.stateless import Stateless


class Rangefinder(Stateless, gym.ObservationWrapper[Any, Any, Any]):
    """Show CartPole's position in millimeters from a wall 10 m away: 7,600 to 12,400, the other numbers around 1.

    Args:
        env: CartPole.
    """

    scale = np.array([1_000.0, 1.0, 1.0, 1.0], np.float32)
    offset = np.array([10_000.0, 0.0, 0.0, 0.0], np.float32)

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        self.observation_space = gym.spaces.Box(self.observation(space.low), self.observation(space.high))

    def observation(self, observation: Any) -> Any:
        """Return the four numbers, the first one as the rangefinder shows it."""
        return observation * self.scale + self.offset
