"""Policies: how actions follow from a network's values, greedily or with exploration."""

from typing import Any, Protocol

import numpy as np
import torch

from seqrl_lightning.exploration import EpsilonSchedule, explore, greedy
from seqrl_lightning.saved_state import require_saved, restore_stream, saved, saved_tensor
from seqrl_lightning.types import Array, BoolArray, IntArray, State


class ActValues(Protocol):
    """The values of all actions, and the network's next state: see :meth:`seqrl_lightning.types.Learner.act_values`."""

    def __call__(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """``[N, *obs] -> [N, n_actions]`` and the next state."""


class Rule(Protocol):
    """A rule that picks actions by their values, like :func:`seqrl_lightning.exploration.greedy`."""

    def __call__(self, q_values: Array, action_mask: BoolArray | None = None, /) -> IntArray:
        """``[N, n_actions] -> [N]``; the mask, [N, n_actions] bool, is true where an action is allowed."""


class Explorer(Protocol):
    """The policy of a collector; see :class:`ExploringPolicy` for each attribute and method."""

    epsilon: float
    explores: BoolArray | None
    values: Array | None

    @property
    def remembers(self) -> bool:
        """Whether the network carries a state."""

    @property
    def state(self) -> State:
        """State that the network carries into the next step."""

    def reset(self) -> None:
        """Forget what was seen."""

    def find_memory(self, observation: Array) -> None:
        """Find out whether the network carries a state."""

    def act(
        self,
        observation: Array,
        action_mask: BoolArray | None = None,
        is_first: BoolArray | None = None,
        env_steps: int = 0,
    ) -> IntArray:
        """Pick an action in each environment, [N] int64."""

    def state_dict(self) -> dict[str, Any]:
        """Return the policy's state, as tensors and primitives."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


class Policy:
    """Act in N environments side by side, carrying the network's state from step to step.

    Args:
        act_values: Computes the values of all actions.
        rule: Picks actions by their values.

    Attributes:
        state: What the network carries into the next step; None at the start.
        values: The values that the last actions were picked by, [N, n_actions]; None before the first.
    """

    def __init__(self, act_values: ActValues, rule: Rule = greedy) -> None:
        self.act_values = act_values
        self.rule = rule
        self.state: State = None
        self.values: Array | None = None

    def reset(self) -> None:
        """Reset the network's state, as at the start of an episode in every environment."""
        self.state = self.values = None

    def act(
        self, observation: Array, action_mask: BoolArray | None = None, is_first: BoolArray | None = None
    ) -> IntArray:
        """Pick an action in each environment.

        Args:
            observation: [N, *obs].
            action_mask: [N, n_actions] bool, true where an action is allowed; None allows all.
            is_first: [N] bool, where an episode starts, so that the state there is forgotten; None for nowhere.

        Returns:
            [N] int64.
        """
        self.values, self.state = self.act_values(observation, self.state, is_first)
        return self.rule(self.values, action_mask)


class ExploringPolicy(Policy):
    """Act greedily, or at random with probability epsilon (Sutton and Barto, section 2.2).

    Args:
        act_values: Computes the values of all actions.
        schedule: Epsilon as a function of the env steps taken so far.
        n_actions: Number of actions.
        rng: The random stream of exploration.

    Attributes:
        epsilon: The probability by which the last actions were random.
        explores: Which of the last actions were random, [N] bool; None before the first.
        values: Also None if all actions were random, so that the network wasn't run.
        remembers: Whether the network carries a state, so that it has to see every observation.
    """

    def __init__(
        self, act_values: ActValues, schedule: EpsilonSchedule, n_actions: int, rng: np.random.Generator
    ) -> None:
        super().__init__(act_values)
        self.schedule = schedule
        self.n_actions = n_actions
        self.rng = rng
        self.epsilon = 0.0
        self.explores: BoolArray | None = None
        self.remembers = False

    def find_memory(self, observation: Array) -> None:
        """Find out whether the network carries a state, by letting it see [N, *obs] once.

        Raises:
            StateError: If it carries one from a checkpoint in which it can't go on.
        """
        fresh = self.act_values(observation)[1]
        self.remembers = fresh is not None
        if self.state is not None:
            shape, dtype = ((0,), torch.float32) if fresh is None else (fresh.shape, fresh.dtype)
            state = saved_tensor(self.state, shape, dtype, "the policy's network_state")
            require_saved(bool(state.isfinite().all()), "the policy's network_state", state, "finite")

    def act(
        self,
        observation: Array,
        action_mask: BoolArray | None = None,
        is_first: BoolArray | None = None,
        env_steps: int = 0,
    ) -> IntArray:
        """Pick an action in each environment, after ``env_steps`` env steps; see :meth:`Policy.act`."""
        num_envs = len(observation)
        self.epsilon = self.schedule(env_steps)
        self.explores, action = explore(num_envs, self.n_actions, self.epsilon, self.rng, action_mask)
        if np.count_nonzero(self.explores) == num_envs and not self.remembers:
            self.values = None
            return action
        self.values, self.state = self.act_values(observation, self.state, is_first)
        return np.where(self.explores, action, self.rule(self.values, action_mask))

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream and the network's state, as tensors and primitives."""
        return {"rng": self.rng.bit_generator.state, "network_state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        restore_stream(self.rng, state_dict.get("rng"), "the policy's random stream")
        state = state_dict.get("network_state")
        self.state = None if state is None else saved(state, torch.Tensor, "the policy's network_state")
