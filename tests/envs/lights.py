"""A task that tells everything that an environment can tell, and somebody who plays it."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from seqrl_lightning.envs import Border


class Light(gym.Env[Any, Any]):
    """Red or green; while it is red, action 2 is forbidden. Action k earns k. Six steps."""

    observation_space: gym.Space[Any] = gym.spaces.Box(-0.7, 0.7, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)
    num_blocks = 2
    forbids = True  # as long as it says so

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.look()

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        assert not (self.forbids and self.red and action == 2)
        self.t += 1
        observation, info = self.look()
        return observation, float(action), self.t == 6, self.t == 5 and self.red, info

    def look(self) -> tuple[Any, dict[str, Any]]:
        self.red = bool(self.np_random.integers(2))
        observation = np.array([0.7 if self.red else -0.7, self.t / 10], np.float32)
        mask = np.array([1, 1, 0 if self.red else 1], np.int8)
        return observation, {"action_mask": mask, "correct_action": 1 if self.red else 2, "block": self.t % 2}


class Lights(SyncVectorEnv):
    """Several lights, made by the task itself. With disabled autoreset none may be stepped after its end."""

    num_blocks = 2

    def __init__(self, num_envs: int, mode: AutoresetMode) -> None:
        super().__init__([Light] * num_envs, autoreset_mode=mode)

    def state_dict(self) -> dict[str, Any]:
        return {
            "lights": [{"t": env.t, "red": env.red, "rng": env.np_random.bit_generator.state} for env in self.envs],
            "restarting": self._autoreset_envs.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._autoreset_envs = state["restarting"].numpy().copy()
        for env, light in zip(self.envs, state["lights"], strict=True):
            env.t, env.red, env.np_random.bit_generator.state = light["t"], light["red"], light["rng"]


def vector_lights(num_envs: int, mode: str) -> Lights:
    """Several lights, by the name of their autoreset mode."""
    return Lights(num_envs, AutoresetMode(mode))


gym.register("tests/Light-v0", Light)
gym.register("tests/VectorLights-v0", vector_entry_point=vector_lights)


def play(envs: Border, steps: int = 40) -> list[Any]:
    """Return the observations of an agent that takes allowed actions at random."""
    rng = np.random.default_rng(0)
    shown = envs.reset(seed=3)
    seen: list[Any] = [shown]
    for _ in range(steps):
        mask = np.ones((envs.num_envs, envs.n_actions)) if shown.action_mask is None else shown.action_mask
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
        given = actions.copy()
        outcome = envs.step(given)
        np.testing.assert_array_equal(given, actions)  # the agent's own, which nobody writes into
        shown = outcome.shown
        seen.append(outcome)
    return seen


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, tuple):
        for field, twin in zip(one, other, strict=True):
            assert_same(field, twin)
    else:
        np.testing.assert_array_equal(one, other, strict=True)
