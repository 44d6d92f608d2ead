"""Environments that may break: each step is checked, and a fault replaces the environments or ends the run."""

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv, VectorWrapper

from seqrl_lightning.envs import StepCheck, fault_of, set_state, state_of
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.types import Array, BoolArray, IntArray, Progress, RunError

Envs = VectorEnv[Any, Any, Any]
Outcome = tuple[Array, Array, BoolArray, BoolArray, dict[str, Any]]
"""Observation, reward, terminated, truncated and infos, as a vector environment's ``step`` returns them."""


class GuardedEnvs:
    """Environments whose observations and rewards are checked, and which can be made anew.

    Args:
        envs: The environments, with a Box observation space.
        remake: Closes the environments and makes new ones.
        env_id: The task, as errors name it.
        on_error: ``raise`` ends the run at a fault; ``restart`` goes on with new environments.
        max_restarts: Number of restarts after which the run ends all the same.
        check_bounds: Whether an observation outside its space's bounds is a fault.
        warn: Tells the user about a restart.
    """

    def __init__(
        self,
        envs: Envs,
        remake: Callable[[], Envs],
        env_id: str,
        on_error: Literal["raise", "restart"] = "raise",
        max_restarts: int = 10,
        check_bounds: bool = True,
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.envs = envs
        self.num_envs = envs.num_envs
        self.remake = remake
        self.env_id = env_id
        self.on_error = on_error
        self.max_restarts = max_restarts
        self.warn = warn
        self._check = StepCheck(envs, check_bounds)

    def start_episodes(self, progress: Progress, rank: int) -> tuple[int, Array, dict[str, Any]]:
        """Start an episode in every environment, from a seed that no earlier part of the run has used.

        Args:
            progress: What this process has done so far.
            rank: Number of this process.

        Returns:
            The seed (environment i's is ``seed + i``), the observations [N, *obs] and the infos.

        Raises:
            RunError: If an environment breaks and the run has to end.
        """
        while True:
            role = f"environments from env step {progress.env_steps}"
            role += f", fault {progress.env_faults}" if progress.env_faults else ""
            seed = int(random_stream(role, rank).integers(2**31))
            try:
                observation, infos = self.envs.reset(seed=seed)
                self._check.observation(observation)
            except Exception as error:  # an environment may raise anything
                self.replace(error, seed, np.zeros(self.num_envs, np.int64), progress)
            else:
                return seed, observation, infos

    def step(self, action: IntArray) -> Outcome:
        """Take a step in every environment.

        Raises:
            Exception: Whatever an environment raises, or an ``EnvFault`` for what it shows.
        """
        outcome = self.envs.step(action)
        self._check.observation(outcome[0])
        self._check.reward(outcome[1])
        return outcome

    def send(self, action: IntArray) -> None:
        """Start a step of environments in processes of their own."""
        assert isinstance(self.envs, AsyncVectorEnv)
        self.envs.step_async(action)

    def receive(self) -> Outcome:
        """Wait for the step that ``send`` started. Raise as ``step`` does."""
        assert isinstance(self.envs, AsyncVectorEnv)
        outcome = self.envs.step_wait()
        self._check.observation(outcome[0])
        self._check.reward(outcome[1])
        return outcome

    def replace(self, error: Exception, seed: int, lengths: IntArray, progress: Progress) -> int | None:
        """Count a fault and make the environments anew.

        Args:
            error: What was raised.
            seed: The seed of the last reset.
            lengths: [N] int64, env steps so far in each environment's episode.
            progress: What this process has done so far.

        Returns:
            The number of the broken environment; None if it isn't known.

        Raises:
            RunError: If the run has to end.
        """
        fault = fault_of(self.envs, error)
        progress.env_faults += 1
        which = "one of the environments" if fault.env is None else f"environment {fault.env}"
        step = "" if fault.env is None else f" in step {lengths[fault.env] + 1} of its episode"
        message = (
            f"{self.env_id}: {which} (seed {seed + (fault.env or 0)}) broke{step}, "
            f"after {progress.env_steps} env steps: {fault.reason}"
        )
        if self.on_error == "raise":
            raise RunError(f"{message} (agent.on_env_error: restart goes on without its episode)") from error
        if progress.env_faults > self.max_restarts:
            raise RunError(f"{message}; that was more than agent.max_env_restarts = {self.max_restarts}") from error
        self.warn(f"{message}; restarted")
        self.envs = self.remake()
        return fault.env

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environments' own state, as tensors and primitives; None if it is unknown."""
        return state_of(self.envs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environments back to where ``state_dict`` was taken."""
        self.envs.reset()
        set_state(self.envs, state_dict)


class CheckedEnvs(VectorWrapper[Any, Any, Any, Any, Any]):
    """Environments to evaluate in, in which anything that goes wrong is an ``EnvFault``.

    Args:
        envs: The environments, with a Box observation space.
        check_bounds: Whether an observation outside its space's bounds is a fault.

    Attributes:
        seed: Of the last reset.
        lengths: [N] int64, steps since then; the same in every environment.
    """

    def __init__(self, envs: Envs, check_bounds: bool = True) -> None:
        super().__init__(envs)
        self.seed = 0
        self.lengths: IntArray = np.zeros(envs.num_envs, np.int64)
        self._check = StepCheck(envs, check_bounds)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every environment, from ``seed + i`` in environment i.

        Raises:
            EnvFault: If an environment raises, or shows what it mustn't.
        """
        self.seed = 0 if seed is None else int(seed)
        self.lengths[:] = 0
        try:
            observation, infos = self.env.reset(seed=seed, options=options)
            self._check.observation(observation)
        except Exception as error:  # an environment may raise anything
            raise fault_of(self.env, error) from error
        return observation, infos

    def step(self, actions: IntArray) -> Outcome:
        """Take a step in every environment. Raise as ``reset`` does."""
        try:
            outcome = self.env.step(actions)
            self._check.observation(outcome[0])
            self._check.reward(outcome[1])
        except Exception as error:
            raise fault_of(self.env, error) from error
        self.lengths += 1
        return outcome
