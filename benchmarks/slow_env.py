"""An environment whose step takes 5 ms, as a simulator's would."""

import time
from typing import Any

import gymnasium as gym
import numpy as np


class Slow(gym.Env[Any, Any]):
    """Random observations, episodes of 100 steps."""

    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait, then continue."""
        time.sleep(0.005)
        self.t += 1
        return self.np_random.uniform(-1, 1, 4).astype(np.float32), 0.0, False, self.t == 100, {}


gym.register("benchmarks/Slow-v0", Slow)
