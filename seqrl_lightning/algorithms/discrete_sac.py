"""Discrete soft actor-critic: a stochastic policy, two critics, and an entropy that is held."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.dqn import DQN, build_network
from seqrl_lightning.functional import expected_value, huber_losses, mask_actions, value_of
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.types import Array, BoolArray, State, TransitionBatch, require


class DiscreteSAC(DQN):
    """Soft actor-critic for discrete actions (Christodoulou, arXiv:1910.07207).

    ``policy_net`` holds the actor, both critics and the temperature, learned together from one summed loss: each
    term's gradient reaches its own part only. In training it acts by sampling from its policy, so that epsilon can be
    0; evaluated, it takes the likeliest action.

    Args:
        args: See :class:`DQN`; ``double`` and ``munchausen_alpha`` have no meaning here.
        target_entropy_ratio: The entropy that is held, as a part of the largest, ``log(n_actions)``; in (0, 1).
        initial_temperature: The temperature at first.
        kwargs: See :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    policy_net: "ActorCritics"
    target_net: "ActorCritics"

    def __init__(
        self, *args: Any, target_entropy_ratio: float = 0.5, initial_temperature: float = 1.0, **kwargs: Any
    ) -> None:
        require(0 < target_entropy_ratio < 1, "model.target_entropy_ratio", target_entropy_ratio, "in (0, 1)")
        require(initial_temperature > 0, "model.initial_temperature", initial_temperature, "positive")
        self.initial_temperature = initial_temperature
        super().__init__(*args, **kwargs)
        require(not self.use_double_q, "model.double", True, "false: two critics take its place")
        alpha = self.munchausen_alpha
        require(alpha == 0.0, "model.munchausen_alpha", alpha, "0: the entropy takes its place")
        self.target_entropy = target_entropy_ratio * math.log(self.n_actions)

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Builds the actor and the critics, all of the same kind."""
        actor, critic_1, critic_2 = (build_network(network, self.obs_shape, (self.n_actions,)) for _ in range(3))
        return ActorCritics(actor, critic_1, critic_2, self.initial_temperature)

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """One update's loss: the critics', the actor's and the temperature's."""
        nets, mask = self.policy_net, batch.action_mask_batch
        values = nets.critic_values(batch.state_batch)
        state_action_values = [value_of(of_critic, batch.action_batch) for of_critic in values]
        log_policy = mask_actions(nets(batch.state_batch)[0], mask).log_softmax(-1)
        policy = log_policy.exp()
        temperature = nets.log_temperature.exp().detach()
        with torch.no_grad():
            targets = self.targets(batch, self.next_state_values(batch, None))
            lower_values = torch.minimum(*values)

        critic_losses = [huber_losses(of_critic, targets, self.huber_delta) for of_critic in state_action_values]
        actor_losses = expected_value(temperature * log_policy - lower_values, policy)
        entropy = -expected_value(log_policy, policy).detach()
        temperature_losses = nets.log_temperature * (entropy - self.target_entropy)
        losses = critic_losses[0] + critic_losses[1] + actor_losses + temperature_losses
        return self.summary(batch, losses, state_action_values[0], targets)

    def next_state_values(self, batch: TransitionBatch, policy_outputs: Tensor | None) -> Tensor:
        """The soft value of the next states: by the lower critic, with the policy's entropy. [T, B]."""
        logits, _ = self.policy_net(batch.next_state_batch)
        log_policy = mask_actions(logits, batch.next_action_mask_batch).log_softmax(-1)
        lower_values = torch.minimum(*self.target_net.critic_values(batch.next_state_batch))
        soft_values = lower_values - self.policy_net.log_temperature.exp() * log_policy
        return expected_value(soft_values, log_policy.exp())

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """The policy's logits; in training with Gumbel noise, so that the largest is a sample from the policy."""
        logits, state = super().act_values(observation, state, is_first)
        if self.training:
            logits = logits - torch.empty(logits.shape).exponential_().log_().numpy()
        return logits, state


class ActorCritics(nn.Module):
    """The actor, two critics and the temperature.

    Args:
        actor: Puts out the policy's logits, [T, B, A].
        critic_1: Puts out Q-values, [T, B, A].
        critic_2: Puts out Q-values, [T, B, A].
        initial_temperature: The temperature at first.
    """

    def __init__(self, actor: nn.Module, critic_1: nn.Module, critic_2: nn.Module, initial_temperature: float) -> None:
        super().__init__()
        self.actor = actor
        self.critics = nn.ModuleList([critic_1, critic_2])
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial_temperature)))

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The policy's logits. ``[T, B, *obs] -> [T, B, A]`` and the next state."""
        logits, state = self.actor(observation, state, is_first)
        return logits, state

    @property
    def forward_numpy(self) -> Any:
        """The actor's way past torch, if it has one."""
        return getattr(self.actor, "forward_numpy", None)

    def critic_values(self, observation: Tensor) -> list[Tensor]:
        """Both critics' Q-values, each ``[T, B, A]``."""
        return [critic(observation)[0] for critic in self.critics]
