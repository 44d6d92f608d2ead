"""Environments that may break: each step is checked, and a fault replaces the environments or ends the run."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from seqrl_lightning.envs import Border, EnvFault, Outcome, Shown
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import BoolArray, IntArray, Progress, RunError


class GuardedEnvs:
    """Environments that are recreated when one of them breaks.

    Args:
        envs: The environments.
        remake: Closes the environments and makes new ones.
        env_id: The task, as errors name it.
        on_error: ``raise`` ends the run at a fault; ``restart`` continues with new environments.
        max_restarts: Number of restarts; the next fault ends the run.
        check_bounds: Whether an observation outside its space's bounds is a fault.
        warn: Tells the user about a restart.
    """

    def __init__(
        self,
        envs: Border,
        remake: Callable[[], Border],
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
        self._check_bounds = check_bounds
        envs.check_bounds = check_bounds

    def start_episodes(self, progress: Progress, rank: int) -> tuple[int, Shown]:
        """Start an episode in every environment, from a seed that no earlier part of the run has used.

        Args:
            progress: This process's progress so far.
            rank: Number of this process.

        Returns:
            The seed (environment i's is ``seed + i``), and what the environments show.

        Raises:
            RunError: If an environment breaks and the run has to end.
        """
        while True:
            role = f"environments from env step {progress.env_steps}"
            role += f", fault {progress.env_faults}" if progress.env_faults else ""
            seed = int(random_stream(role, rank).integers(2**31))
            try:
                return seed, self.envs.reset(seed=seed)
            except EnvFault as fault:
                self.replace(fault, seed, np.zeros(self.num_envs, np.int64), progress)

    def step(self, action: IntArray) -> Outcome:
        """Take a step in every environment. Raise as :meth:`Border.step` does."""
        return self.envs.step(action)

    def start_step(self, action: IntArray) -> None:
        """Start a step of environments in processes of their own."""
        self.envs.start_step(action)

    def finish_step(self) -> Outcome:
        """Wait for the step that ``start_step`` started. Raise as :meth:`step` does."""
        return self.envs.finish_step()

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Continue from a step that showed ``shown``; see :meth:`Border.remember`."""
        self.envs.remember(shown, has_ended)

    def follow_block(self, block: int) -> None:
        """Set the block of the episodes that start from now on, if the task leaves it to the learner.

        Raises:
            RunError: If the task's ``next_block`` can't be set.
        """
        try:
            self.envs.follow_block(block)
        except (Exception, SystemExit) as error:
            reason = self.envs.fault_of(error).reason
            raise RunError(f"{self.env_id}: next_block can't be set to {block}: {reason}") from error

    def described(self, fault: EnvFault, seed: int, lengths: IntArray, progress: Progress) -> str:
        """Return where and when a fault happened, in one line. Args as for :meth:`replace`."""
        which = "one of the environments" if fault.env is None else f"environment {fault.env}"
        step = "" if fault.env is None else f" in step {lengths[fault.env] + 1} of its episode"
        return (
            f"{self.env_id}: {which} (seed {seed + (fault.env or 0)}) broke{step}, "
            f"after {progress.env_steps} env steps: {fault.reason}"
        )

    def replace(self, fault: EnvFault, seed: int, lengths: IntArray, progress: Progress) -> Sequence[int]:
        """Count a fault and recreate the environments.

        Args:
            fault: The fault.
            seed: The seed of the last reset.
            lengths: [N] int64, env steps so far in each environment's episode.
            progress: This process's progress so far.

        Returns:
            The numbers of the environments that may be the broken one.

        Raises:
            RunError: If the run has to end.
        """
        progress.env_faults += 1
        message = self.described(fault, seed, lengths, progress)
        if self.on_error == "raise":
            raise RunError(f"{message} (agent.on_env_error: restart continues without its episode)") from fault
        if progress.env_faults > self.max_restarts:
            raise RunError(f"{message}; that was more than agent.max_env_restarts = {self.max_restarts}") from fault
        self.warn(f"{message}; restarted")
        self.envs = self.remake()
        self.envs.check_bounds = self._check_bounds
        return range(self.num_envs) if fault.env is None else [fault.env]

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environments' own state, as tensors and primitives; None if it is unknown.

        Raises:
            RunError: If a task's ``state_dict`` raises, or holds what a checkpoint can't.
        """
        try:
            state = self.envs.state_dict()
        except (Exception, SystemExit) as error:  # a task may raise anything
            raise RunError(f"{self.env_id}: state_dict() fails: {self.envs.fault_of(error).reason}") from error
        if (found := _first_unsaved(state)) is not None:
            must_be = "tensors, arrays, numbers, texts and collections of them"
            raise RunError(f"{self.env_id}: state_dict() holds {found!r}; it must hold {must_be}")
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environments back to where ``state_dict`` was taken.

        Raises:
            StateError: If no environment like these has such a state.
            RunError: If a task's ``load_state_dict`` raises.
        """
        try:
            self.envs.load_state_dict(state_dict)
        except StateError:
            raise
        except (Exception, SystemExit) as error:
            raise RunError(f"{self.env_id}: load_state_dict() fails: {self.envs.fault_of(error).reason}") from error


def _first_unsaved(value: object) -> object:
    """Return the first value that a checkpoint can't hold; None if there is none."""
    if isinstance(value, dict):
        return _first_unsaved([*(key for key in value if not isinstance(key, str | int)), *value.values()])
    if isinstance(value, list):
        return next((found for item in value if (found := _first_unsaved(item)) is not None), None)
    return None if isinstance(value, type(None) | bool | int | float | str | Tensor) else value
