"""Discrete soft actor-critic: a stochastic policy, two critics, and an entropy that is held at a target."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.building import build_network
from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.algorithms.settings import require_positive
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import expected_value, huber_losses, soft_q_target, softmax_policy, value_of
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import Array, BoolArray, State, require


class DiscreteSAC(LearnerModule):
    """Soft actor-critic for discrete actions (Christodoulou, arXiv:1910.07207).

    ``policy_net`` holds the actor, both critics and the temperature, which learn together from one summed loss: each
    term's gradient reaches its own part only. In training the agent samples from the policy, so that epsilon can be 0;
    in evaluation it takes the most likely action.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the actor and both critics from ``obs_shape`` and ``(n_actions,)``.
        huber_delta: The TD error at which the critics' Huber loss turns from a parabola into a line; None for half the
            squared error.
        target_entropy_ratio: The entropy to hold, as a fraction of the largest, the logarithm of the number of actions
            that a state allows; in (0, 1).
        initial_temperature: The initial temperature.
        shared: The settings of :class:`LearnerModule`, which every learner has.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    trains_memory = False
    policy_net: "ActorCritics"
    target_net: "ActorCritics"

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        huber_delta: float | None = 1.0,
        target_entropy_ratio: float = 0.5,
        initial_temperature: float = 1.0,
        **shared: Any,
    ) -> None:
        require(0 < target_entropy_ratio < 1, "model.target_entropy_ratio", target_entropy_ratio, "in (0, 1)")
        require(initial_temperature > 0, "model.initial_temperature", initial_temperature, "positive")
        require_positive(huber_delta=huber_delta)
        self.initial_temperature = initial_temperature
        super().__init__(obs_shape, n_actions, network, **shared)
        self.huber_delta = huber_delta
        self.target_entropy_ratio = target_entropy_ratio

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Build the actor and the critics, all of the same kind."""
        actor, critic_1, critic_2 = (build_network(network, self.obs_shape, (self.n_actions,)) for _ in range(3))
        return ActorCritics(actor, critic_1, critic_2, self.initial_temperature)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The actor and both critics."""
        return (self.policy_net.actor, *self.policy_net.critics)

    @property
    def acting_net(self) -> nn.Module:
        """The actor."""
        return self.policy_net.actor

    def q_values(self, outputs: Tensor) -> Tensor:
        """Return the policy's logits, which actions are chosen by, [..., A]."""
        return outputs

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the sum of the critics' losses, the actor's and the temperature's."""
        nets = self.policy_net
        critic_outputs = [batch.read_states(critic) for critic in nets.critics]
        state_action_values = [value_of(outputs, batch.action_batch) for outputs in critic_outputs]
        policy, log_policy = softmax_policy(batch.read_states(nets.actor), batch.action_mask_batch)
        temperature = nets.log_temperature.exp().detach()
        with torch.no_grad():
            expected_state_action_values = self.target(batch, temperature)
            lower_values = torch.minimum(*(self.to_values(outputs) for outputs in critic_outputs))

        critic_losses = [
            huber_losses(of_critic, expected_state_action_values, self.huber_delta) for of_critic in state_action_values
        ]
        actor_losses = expected_value(temperature * log_policy - lower_values, policy)
        entropy = -expected_value(log_policy, policy).detach()
        temperature_losses = nets.log_temperature * (entropy - self.target_entropy(batch.action_mask_batch))
        losses = critic_losses[0] + critic_losses[1] + actor_losses + temperature_losses
        return self.summary(batch, losses, state_action_values[0], expected_state_action_values)

    def target_entropy(self, action_mask: Tensor | None) -> Tensor | float:
        """Return the entropy to hold: of the actions that a state allows, since no policy has more than theirs.

        Args:
            action_mask: [T, B, A] bool, true where an action is allowed; None allows all.

        Returns:
            [T, B] float, or one number for all states.
        """
        if action_mask is None:
            return self.target_entropy_ratio * math.log(self.n_actions)
        num_allowed = action_mask.sum(-1).clamp(min=1)  # a terminal state may allow none
        return self.target_entropy_ratio * num_allowed.log()

    def target(self, batch: Batch, temperature: Tensor) -> Tensor:
        """Return what both critics should output for the actions taken, [T, B].

        Args:
            batch: [T, B] transitions.
            temperature: [] float.
        """
        returns, discounts = self.returns_and_discounts(batch)
        logits, next_mask = batch.read_next_states(self.policy_net.actor)
        next_policy, next_log_policy = softmax_policy(logits, next_mask)
        next_outputs = [batch.read_next_states(critic)[0] for critic in self.target_net.critics]
        lower_values = torch.minimum(*(self.to_values(outputs) for outputs in next_outputs))
        return self.to_outputs(
            soft_q_target(returns, discounts, lower_values, next_policy, next_log_policy, temperature)
        )

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """Return the policy's logits; in training with Gumbel noise, so that the largest one is a sample."""
        logits, state = super().act_values(observation, state, is_first)
        if self.training:
            logits = logits - torch.empty(logits.shape).exponential_().log_().numpy()
        return logits, state

    @property
    def plain_acting_net(self) -> nn.Module | None:
        """The actor, unless a subclass acts by anything else than its outputs."""
        return self.policy_net.actor if type(self).q_values is DiscreteSAC.q_values else None


class ActorCritics(nn.Module):
    """The actor, two critics and the temperature.

    Args:
        actor: Outputs the policy's logits, [T, B, A].
        critic_1: Outputs Q-values, [T, B, A].
        critic_2: Outputs Q-values, [T, B, A].
        initial_temperature: The initial temperature.
    """

    def __init__(self, actor: nn.Module, critic_1: nn.Module, critic_2: nn.Module, initial_temperature: float) -> None:
        super().__init__()
        self.actor = actor
        self.critics = nn.ModuleList([critic_1, critic_2])
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial_temperature)))

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the policy's logits. ``[T, B, *obs] -> [T, B, A]`` and the next state."""
        logits, state = self.actor(observation, state, is_first)
        return logits, state
