"""A task of your own: alternation, as in a T-maze (`python examples/own_task.py`).

Any Gymnasium environment with discrete actions will do. With `correct_action` in its `info` it gets a table of trials
and pictures of the choices; with `state_dict` and `load_state_dict` its runs resume bit for bit.
"""

import sys
from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.types import FloatArray


class Alternation(gym.Env[FloatArray, np.int64]):
    """Visit two arms in turn: the arm that was visited last is empty. The observation is that arm, one-hot."""

    observation_space = gym.spaces.Box(0.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, visits: int = 10) -> None:
        self.visits = visits  # in an episode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[FloatArray, dict[str, Any]]:
        super().reset(seed=seed)
        self.last, self.visited = int(self.np_random.integers(2)), 0
        return self._see()

    def step(self, action: np.int64) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        reward = float(action != self.last)
        self.last, self.visited = int(action), self.visited + 1
        observation, info = self._see()
        return observation, reward, self.visited == self.visits, False, info

    def _see(self) -> tuple[FloatArray, dict[str, Any]]:
        return np.array([self.last == 0, self.last == 1], np.float32), {"correct_action": 1 - self.last}

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last, "visited": self.visited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last, self.visited = state_dict["last"], state_dict["visited"]


gym.register("examples/Alternation-v0", f"{__name__}:Alternation")


def main() -> None:
    """Train on it."""
    settings = ["--data.env_id", "examples/Alternation-v0", "--model.gamma", "0.5", "--agent.max_env_steps", "2000"]
    overrides, sys.argv[1:] = sys.argv[1:], []
    trainer = SeqRLCLI(["fit", *settings, *overrides]).trainer
    print(f"return of the greedy policy: {trainer.callback_metrics['val/return_mean']:g} of 10; see {trainer.log_dir}")


if __name__ == "__main__":
    main()
