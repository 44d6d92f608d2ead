"""Environments made for tests."""

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np


class Diary(gym.Env[Any, Any]):
    """Every transition can be told apart: the observation is (environment, episode, step), the reward tells the action.

    Episodes are 1 to 4 steps long and end by termination and truncation in turns.
    """

    observation_space = gym.spaces.Box(-1, 1e6, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self) -> None:
        self.episode = -1
        self.env = -1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.env = float(seed % 1000)
        self.episode += 1
        self.t = 0
        self.length = int(self.np_random.integers(1, 5))
        return self._observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.reward(self._observation(), action)
        self.t += 1
        ended = self.t == self.length
        return self._observation(), reward, ended and self.episode % 2 == 0, ended and self.episode % 2 == 1, {}

    @staticmethod
    def reward(observation: Any, action: int) -> float:
        return float(observation[1] * 100 + observation[2] * 10 + action)

    def _observation(self) -> Any:
        return np.array([self.env, self.episode, self.t], np.float32)


class Corridor(gym.Env[Any, Any]):
    """Six states in a row; action 1 goes on, action 0 back to the start. Only the last step earns 1.

    What the first steps are worth can only be known by bootstrapping. Truncated after 30 steps.
    """

    observation_space = gym.spaces.Box(0, 1, (6,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.t = 0
        return np.eye(6, dtype=np.float32)[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.position = self.position + 1 if action == 1 else 0
        done = self.position == 5
        return np.eye(6, dtype=np.float32)[self.position], float(done), done, not done and self.t == 30, {}


class Breaking(Diary):
    """A diary that breaks in the 7th step after a seed, a few times in all.

    Of several environments those with odd seeds do.

    Args:
        how: What it does then.
        broken: A file in which the times are counted, over all processes.
        alone: Whether it is the only environment.
        times: How often it breaks.
    """

    observation_space = gym.spaces.Box(-1, 1e5, (3,), np.float32)

    def __init__(self, how: str, broken: str, alone: bool, times: int = 1) -> None:
        super().__init__()
        self.alone = alone
        self.how = how
        self.broken = Path(broken)
        self.times = times
        self.steps = 0
        self.breaks = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed)
        if seed is not None:
            self.breaks = self.alone or seed % 2 == 1
            self.steps = 0
        self.length = 4
        return observation, info

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.steps == 7 and self.breaks and len(self.broken.read_text()) < self.times:
            self.broken.write_text(self.broken.read_text() + "x")
            if self.how == "raises":
                raise ZeroDivisionError("a bug\nof the task")
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            values = {"NaN": np.nan, "infinite": np.inf, "outside": 2e5}
            if self.how in values:
                observation[1] = values[self.how]
            if self.how == "shape":
                observation = observation[:2]
            if self.how == "reward":
                reward = np.nan
        return observation, reward, terminated, truncated, info


gym.register("tests/Breaking-v0", Breaking)


class Shaky(gym.Env[Any, Any]):
    """Nine steps of reward 1; an evaluation's episode from one of its usual seeds breaks in its 3rd step."""

    observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, how: str) -> None:
        self.how = how
        self.breaks = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        if seed is not None:
            self.breaks = 1_000_000 <= seed < 1_000_010
        return np.zeros(3, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        observation, reward = np.full(3, self.t, np.float32), 1.0
        if self.breaks and self.t == 3:
            if self.how == "raises":
                raise ZeroDivisionError("a bug of the task")
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            observation[0] = reward = np.nan
        return observation, reward, self.t >= 9, False, {}


gym.register("tests/Shaky-v0", Shaky)


class Lights(gym.Env[Any, Any]):
    """Shows the switches that were set last."""

    observation_space = gym.spaces.MultiDiscrete([2, 3])
    action_space: gym.Space[Any] = gym.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.array([0, 0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return np.array(action) - self.action_space.start, 0.0, False, False, {}  # type: ignore[attr-defined]


gym.register("tests/Diary-v0", Diary)
gym.register("tests/Corridor-v0", Corridor)
gym.register("tests/Lights-v0", Lights)


class Short(gym.Env[Any, Any]):
    """Episodes of ``length`` steps, in which nothing happens."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 1) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t == self.length, False, {}


gym.register("tests/Short-v0", Short)


class Doors(gym.Env[Any, Any]):
    """Three doors, of which two are open (``info["action_mask"]``); going through one that isn't is an error.

    Door k earns k, so that only the mask keeps from the last. Episodes are five steps long.
    """

    observation_space = gym.spaces.Box(0, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._look()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.is_open[action]:
            raise AssertionError(f"door {action} is shut")
        self.t += 1
        observation, info = self._look()
        return observation, float(action), self.t == 5, False, info

    def _look(self) -> tuple[Any, dict[str, Any]]:
        self.is_open = np.ones(3, np.int8)
        self.is_open[self.np_random.integers(3)] = 0
        return self.is_open.astype(np.float32), {"action_mask": self.is_open}


gym.register("tests/Doors-v0", Doors)


class InParts(gym.ObservationWrapper[Any, Any, Any]):
    """Shows an observation's first number and the others as parts, and a picture of nothing."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Box)
        first, others = (gym.spaces.Box(space.low[part], space.high[part]) for part in (slice(1), slice(1, None)))
        picture = gym.spaces.Box(0, 255, (5, 4), np.uint8)
        self.observation_space = gym.spaces.Dict(first=first, others=others, picture=picture)

    def observation(self, observation: Any) -> Any:
        return {"first": observation[:1], "others": observation[1:], "picture": np.zeros((5, 4), np.uint8)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
