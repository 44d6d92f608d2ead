"""Deep Q-learning, from a batch to its loss."""

from typing import Any

import torch
from torch import Tensor

from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.algorithms.settings import require_positive
from seqrl_lightning.batches import Batch, Reader, Update
from seqrl_lightning.functional import (
    choice_losses,
    double_q_target,
    huber_losses,
    munchausen_target,
    q_target,
    value_of,
)
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import require


class DQN(LearnerModule):
    """Deep Q-Network (Mnih et al., arXiv:1312.5602; with a target network as in Nature 518, 2015).

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the Q-network from ``obs_shape`` and ``(n_actions,)``.
        huber_delta: The TD error at which the Huber loss turns from a parabola into a line; None for half the squared
            error.
        double: Whether the policy network selects the action that the target network values (arXiv:1509.06461).
        munchausen_alpha: Weight of the scaled log-policy in the reward (Munchausen DQN, arXiv:2007.14430; 0.9 there);
            0 for plain Q-learning, without the two settings below. The policy that is learned about is otherwise the
            softmax of the target network.
        munchausen_temperature: Temperature of that softmax.
        munchausen_clip: The smallest value of the scaled log-policy in the reward, before ``munchausen_alpha``.
        cql_alpha: Weight of conservative Q-learning's part of the loss (CQL(H), arXiv:2006.04779, eq. 4), which lowers
            the values of actions that were not taken: for learning from a log, in which nobody finds out whether they
            are as good as the network believes. 0 for none.
        shared: The settings of :class:`LearnerModule`, which every learner has.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        huber_delta: float | None = 1.0,
        double: bool = False,
        munchausen_alpha: float = 0.0,
        munchausen_temperature: float = 0.03,
        munchausen_clip: float = -1.0,
        cql_alpha: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(obs_shape, n_actions, network, **shared)
        require_positive(huber_delta=huber_delta)
        require(0 <= munchausen_alpha <= 1, "model.munchausen_alpha", munchausen_alpha, "in [0, 1]")
        require(munchausen_temperature > 0, "model.munchausen_temperature", munchausen_temperature, "positive")
        require(munchausen_clip <= 0, "model.munchausen_clip", munchausen_clip, "0 or less")
        require(cql_alpha >= 0, "model.cql_alpha", cql_alpha, "0 or more")
        must_be = "false with munchausen_alpha, which has a policy of its own"
        require(not (double and munchausen_alpha), "model.double", double, must_be)
        self.huber_delta = huber_delta
        self.use_double_q = double  # `double` is nn.Module's cast to float64
        self.munchausen_alpha = munchausen_alpha
        self.cql_alpha = cql_alpha
        self.munchausen = munchausen_alpha, munchausen_temperature, munchausen_clip

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the loss between predicted Q-values and those that the Bellman equation expects.

        Args:
            batch: [T, B] transitions.

        Returns:
            See :meth:`LearnerModule.summary`.
        """
        outputs, next_selector_outputs = self.read_policy_net(batch, self.policy_net)
        state_action_values = value_of(outputs, batch.action_batch)
        with torch.no_grad():
            expected_state_action_values = self.target(batch, next_selector_outputs)
        losses = huber_losses(state_action_values, expected_state_action_values, self.huber_delta)
        losses = self.conservative(losses, batch, outputs)
        return self.summary(batch, losses, state_action_values, expected_state_action_values)

    def conservative(self, losses: Tensor, batch: Batch, outputs: Tensor) -> Tensor:
        """Add conservative Q-learning's part to the losses, [T, B], if there is one.

        Args:
            losses: [T, B] float, of the values of the actions taken.
            batch: [T, B] transitions.
            outputs: The policy network's outputs for their states.
        """
        if not self.cql_alpha:
            return losses
        return losses + self.cql_alpha * choice_losses(
            self.q_values(outputs), batch.action_batch, batch.action_mask_batch
        )

    def read_policy_net(self, batch: Batch, net: Reader) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of (a part of) the policy network for the states and, if it selects, the next states."""
        if not self.use_double_q:
            return batch.read_states(net), None
        outputs, next_outputs, _ = batch.read(net)
        return outputs, next_outputs

    def target(self, batch: Batch, next_selector_outputs: Tensor | None) -> Tensor:
        """Return what the network should output for the actions taken.

        Args:
            batch: [T, B] transitions.
            next_selector_outputs: The policy network's outputs for the next states, in double Q-learning.

        Returns:
            [T, B] float, or [T, B, N] for quantiles.
        """
        returns, discounts = self.returns_and_discounts(batch)
        if self.munchausen_alpha > 0:
            outputs, next_outputs, next_mask = batch.read(self.target_net)
            target = munchausen_target(
                returns,
                discounts,
                self.q_values(outputs),
                batch.action_batch,
                self.to_values(next_outputs),
                self.q_values(next_outputs),
                *self.munchausen,
                batch.action_mask_batch,
                next_mask,
            )
            return self.to_outputs(target)
        next_outputs, next_mask = batch.read_next_states(self.target_net)
        next_values = self.to_values(next_outputs)
        if next_selector_outputs is None:
            return self.to_outputs(q_target(returns, discounts, next_values, next_mask))
        selector_values = self.q_values(next_selector_outputs)
        return self.to_outputs(double_q_target(returns, discounts, next_values, selector_values, next_mask))
