"""On-policy learning: the values of the policy that acts, exploration included."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.algorithms.settings import require_positive
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import (
    epsilon_greedy_policy,
    expected_sarsa_target,
    huber_losses,
    sarsa_target,
    value_of,
)
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape


class OnPolicyModule(LearnerModule):
    """A learner of the values of the policy that acts, whose epsilon comes with the batch.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the Q-network from ``obs_shape`` and ``(n_actions,)``.
        huber_delta: The TD error at which the Huber loss turns from a parabola into a line; None for half the squared
            error.
        shared: The settings of :class:`LearnerModule`, which every learner has.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    needs_epsilon = True
    is_on_policy = True

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        huber_delta: float | None = 1.0,
        **shared: Any,
    ) -> None:
        super().__init__(obs_shape, n_actions, network, **shared)
        require_positive(huber_delta=huber_delta)
        self.huber_delta = huber_delta

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the loss between predicted Q-values and their targets."""
        assert batch.epsilon_batch is not None
        state_action_values = value_of(batch.read_states(self.policy_net), batch.action_batch)
        with torch.no_grad():
            next_outputs, next_mask = batch.read_next_states(self.target_net)
            next_q_values = self.q_values(next_outputs)
            next_policy = epsilon_greedy_policy(next_q_values, batch.epsilon_batch, next_mask)
            expected_state_action_values = self.to_outputs(self.target(batch, next_q_values, next_policy))
        losses = huber_losses(state_action_values, expected_state_action_values, self.huber_delta)
        return self.summary(batch, losses, state_action_values, expected_state_action_values)

    @abstractmethod
    def target(self, batch: Batch, next_q_values: Tensor, next_policy: Tensor) -> Tensor:
        """Return the target of each transition, in units of the reward.

        Args:
            batch: [T, B] transitions.
            next_q_values: [T, B, A] float, of the next states.
            next_policy: [T, B, A] float, the probabilities by which the agent acts there.

        Returns:
            [T, B] float.
        """


class SARSA(OnPolicyModule):
    """``Q(s, a) <- r + gamma Q(s', a')`` with the action a' that was taken in s' (Sutton and Barto, section 6.4).

    A transition is learned from once its next action is known. A truncated episode has none in its final state: it is
    drawn from the behavior policy. Learn online (``data.sampler: LatestSampler``): a replay memory would hold the
    next actions of past policies.
    """

    needs_next_action = True

    def target(self, batch: Batch, next_q_values: Tensor, next_policy: Tensor) -> Tensor:
        """Value the action that was taken next, or one that the agent might have taken."""
        assert batch.next_action_batch is not None
        drawn = torch.multinomial(next_policy.flatten(0, -2), 1).view(batch.next_action_batch.shape)
        next_action = torch.where(batch.next_action_batch < 0, drawn, batch.next_action_batch)
        return sarsa_target(*self.returns_and_discounts(batch), next_q_values, next_action)


class ExpectedSARSA(OnPolicyModule):
    """``Q(s, a) <- r + gamma sum_a' pi(a' | s') Q(s', a')``, with pi the acting policy (Sutton and Barto, 6.6).

    Its epsilon comes with the batch: it is the behavior policy's at present.
    """

    def target(self, batch: Batch, next_q_values: Tensor, next_policy: Tensor) -> Tensor:
        """Value the next state by the policy that acts."""
        return expected_sarsa_target(*self.returns_and_discounts(batch), next_q_values, next_policy)
