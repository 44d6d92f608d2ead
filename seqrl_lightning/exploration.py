"""Exploration: schedules of epsilon, greedy actions and random ones."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from seqrl_lightning.types import BoolArray, FloatArray, IntArray, require


class EpsilonSchedule(ABC):
    """The probability of a random action, as a function of the env steps taken so far."""

    @abstractmethod
    def __call__(self, env_steps: int) -> float:
        """Return epsilon, in [0, 1]."""

    def of_actor(self, rank: int, num_actors: int) -> "EpsilonSchedule":
        """Return the schedule of one of the actors; here, the same for all."""
        return self


def _require_probabilities(start: float, end: float) -> None:
    require(0 <= start <= 1, "agent.epsilon.start", start, "a probability in [0, 1]")
    require(0 <= end <= 1, "agent.epsilon.end", end, "a probability in [0, 1]")


@dataclass(frozen=True)
class ExponentialEpsilon(EpsilonSchedule):
    """Exponential decay: ``end + (start - end) * exp(-env_steps / decay_env_steps)``."""

    start: float = 0.9
    end: float = 0.05
    decay_env_steps: int = 200

    def __post_init__(self) -> None:
        _require_probabilities(self.start, self.end)
        require(self.decay_env_steps > 0, "agent.epsilon.decay_env_steps", self.decay_env_steps, "at least 1")

    def __call__(self, env_steps: int) -> float:
        """Return epsilon, in [0, 1]."""
        return self.end + (self.start - self.end) * math.exp(-env_steps / self.decay_env_steps)


@dataclass(frozen=True)
class LinearEpsilon(EpsilonSchedule):
    """Linear decay from ``start`` to ``end`` over ``decay_env_steps``, then ``end``."""

    start: float = 1.0
    end: float = 0.05
    decay_env_steps: int = 10_000

    def __post_init__(self) -> None:
        _require_probabilities(self.start, self.end)
        require(self.decay_env_steps > 0, "agent.epsilon.decay_env_steps", self.decay_env_steps, "at least 1")

    def __call__(self, env_steps: int) -> float:
        """Return epsilon, in [0, 1]."""
        return self.start + (self.end - self.start) * min(1.0, env_steps / self.decay_env_steps)


@dataclass(frozen=True)
class ConstantEpsilon(EpsilonSchedule):
    """A constant epsilon."""

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        require(0 <= self.epsilon <= 1, "agent.epsilon.epsilon", self.epsilon, "a probability in [0, 1]")

    def __call__(self, env_steps: int) -> float:
        """Return epsilon, in [0, 1]."""
        return self.epsilon


@dataclass(frozen=True)
class LadderEpsilon(EpsilonSchedule):
    """A constant epsilon for each of the ``agent.actors``: ``base ** (1 + exponent * i / (N - 1))`` for number i of N.

    It is Ape-X's (arXiv:1803.00933, section 3): some actors explore much, others hardly. A single actor, or a run
    without actors, has ``base``.
    """

    base: float = 0.4
    exponent: float = 7.0

    def __post_init__(self) -> None:
        require(0 < self.base < 1, "agent.epsilon.base", self.base, "a probability in (0, 1)")
        require(self.exponent >= 0, "agent.epsilon.exponent", self.exponent, "at least 0")

    def __call__(self, env_steps: int) -> float:
        """Return epsilon, in [0, 1]."""
        return self.base

    def of_actor(self, rank: int, num_actors: int) -> EpsilonSchedule:
        """Return the rung of one of the actors."""
        return ConstantEpsilon(float(self.base ** (1 + self.exponent * rank / max(num_actors - 1, 1))))


def greedy(q_values: FloatArray, action_mask: BoolArray | None = None) -> IntArray:
    """Pick the allowed action of the highest value in each environment, the first of equals.

    Args:
        q_values: [N, A] float.
        action_mask: [N, A] bool, true where an action is allowed; None allows all.

    Returns:
        [N] int64.
    """
    if action_mask is not None:
        q_values = np.where(action_mask, q_values, -np.inf)
    return np.asarray(q_values.argmax(-1))


def explore(
    num_envs: int, n_actions: int, epsilon: float, rng: np.random.Generator, action_mask: BoolArray | None = None
) -> tuple[BoolArray, IntArray]:
    """Draw which environments explore, and a random action for each (epsilon-greedy; Sutton and Barto, section 2.2).

    Values aren't needed: where all environments explore, no network has to compute them.

    Args:
        num_envs: N, the number of environments.
        n_actions: Number of actions.
        epsilon: The probability of exploring, in [0, 1].
        rng: The random stream, from which 2 N uniform numbers are drawn.
        action_mask: [N, A] bool, true where an action is allowed; None allows all.

    Returns:
        Whether each environment explores, [N] bool, and a uniformly random allowed action for each, [N] int64.
    """
    uniform = rng.random((2, num_envs))  # one call; `integers` costs ten times as much
    if action_mask is None:
        return uniform[0] < epsilon, (uniform[1] * n_actions).astype(np.int64)
    rank = (uniform[1] * action_mask.sum(1)).astype(np.int64)  # which of the allowed ones
    return uniform[0] < epsilon, (action_mask.cumsum(1) > rank[:, None]).argmax(1)
