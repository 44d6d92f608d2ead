"""Bonuses for novelty, which lead an agent to rewards that random actions never find."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from seqrl_lightning.types import Array, BoolArray, FloatArray, require


class ExplorationBonus(ABC):
    """A reward for novel observations, which is added to the task's own reward when a step is stored.

    n-step returns, windows and rollouts are made of stored rewards, so that a bonus works with every learner and every
    sampler. A stored bonus keeps the size that it had when the step was taken (as in NGU, arXiv:2002.06038), until the
    step leaves the replay memory.

    Args:
        scale: Size of the bonus, in units of the reward.

    Raises:
        ConfigurationError: If ``scale`` isn't positive.
    """

    def __init__(self, scale: float) -> None:
        require(scale > 0, "agent.exploration_bonus.scale", scale, "positive")
        self.scale = scale

    @abstractmethod
    def begin(self, obs_shape: tuple[int, ...], obs_dtype: str, rng: np.random.Generator) -> None:
        """Begin a run, in which no observation has been seen yet.

        Args:
            obs_shape: Shape of one observation.
            obs_dtype: NumPy's name of its dtype.
            rng: The bonus's own random stream.
        """

    @abstractmethod
    def novelty(self, observation: Array) -> FloatArray:
        """Return the novelty of ``[N, *obs]`` observations, [N] float: around 1 at first, less if repeated."""

    def __call__(self, observation: Array, is_step: BoolArray) -> FloatArray:
        """Return the bonus of one step of N environments, [N] float64; 0 where it was only a reset.

        Args:
            observation: ``[N, *obs]``, after the step.
            is_step: [N] bool, where it wasn't only a reset.
        """
        bonus = np.zeros(len(observation))
        if np.count_nonzero(is_step):
            bonus[is_step] = self.scale * self.novelty(observation[is_step])
        return bonus

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the statistics of the observations so far, as tensors and primitives."""

    @abstractmethod
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
