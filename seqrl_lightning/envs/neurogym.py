"""NeuroGym's trials as episodes."""

from typing import Any, Protocol, SupportsFloat, runtime_checkable

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.infos import CORRECT_ACTION
from seqrl_lightning.envs.stateless import Stateless
from seqrl_lightning.types import ConfigurationError


@runtime_checkable
class _Trials(Protocol):
    def new_trial(self, **kwargs: object) -> object: ...

    def seed(self, seed: int | None = None) -> object: ...


class NeuroGymTrials(Stateless, gym.Wrapper[Any, Any, Any, Any]):
    """Make an episode of each trial of a NeuroGym task, and seed it.

    NeuroGym's tasks continue forever, one trial after the other, state the right choice as ``info["gt"]``, and draw
    from a generator that ``reset(seed=...)`` doesn't seed. Here an episode ends where a trial does, the right choice is
    ``info["correct_action"]``, and the same seed gives the same trials.

    Args:
        env: An environment of NeuroGym.

    Raises:
        ConfigurationError: If it has no trials.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        task = env.unwrapped
        if not isinstance(task, _Trials):
            raise ConfigurationError(f"NeuroGymTrials needs a task of NeuroGym, which has trials; {env} has none")
        self._task = task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a trial."""
        if seed is not None:
            self._task.seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))  # takes 32 bits
        return self.env.reset(seed=seed)  # its options are functions

    def step(self, action: object) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; the last one of a trial ends the episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, CORRECT_ACTION: info["gt"]} if "gt" in info else info
        return observation, reward, terminated or info["new_trial"], truncated, info
