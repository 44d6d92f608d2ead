"""IQN: the return's quantile function itself, at any fraction that is asked for."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.dqn import DQN, build_network
from seqrl_lightning.functional import quantile_huber_losses, quantile_midpoints, value_of
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.types import State, TransitionBatch, require


class IQN(DQN):
    """Implicit quantile network (Dabney et al., arXiv:1806.06923).

    It acts on the mean over ``n_acting_fractions`` evenly spaced fractions, the lowest ``cvar`` of them if it shall
    avoid risk. With ``munchausen_alpha`` it is M-IQN (arXiv:2007.14430). ``huber_delta`` is the paper's kappa.

    Args:
        args: See :class:`DQN`.
        n_fractions: Fractions drawn for the prediction (the paper's N).
        n_target_fractions: Fractions drawn for the target (N').
        n_acting_fractions: Fractions for acting (K).
        n_cosines: Cosines that a fraction is embedded by.
        cvar: The conditional value at risk that is acted on, in (0, 1]: the mean over the worst ``cvar`` of all
            outcomes; 1 is neutral to risk.
        kwargs: See :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    policy_net: "ImplicitQuantileNetwork"
    target_net: "ImplicitQuantileNetwork"

    def __init__(
        self,
        *args: Any,
        n_fractions: int = 8,
        n_target_fractions: int = 8,
        n_acting_fractions: int = 32,
        n_cosines: int = 64,
        cvar: float = 1.0,
        **kwargs: Any,
    ) -> None:
        counts = {
            "n_fractions": n_fractions,
            "n_target_fractions": n_target_fractions,
            "n_acting_fractions": n_acting_fractions,
            "n_cosines": n_cosines,
        }
        for name, count in counts.items():
            require(count > 0, f"model.{name}", count, "at least 1")
        require(0 < cvar <= 1, "model.cvar", cvar, "in (0, 1]")
        self.n_fractions = n_fractions
        self.n_target_fractions = n_target_fractions
        self.acting_fractions = cvar * quantile_midpoints(n_acting_fractions)
        self.n_cosines = n_cosines
        super().__init__(*args, **kwargs)

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Builds the network, and around it the embedding of fractions."""
        net = build_network(network, self.obs_shape, (self.n_actions,))
        require(hasattr(net, "torso"), "model.network", type(net).__name__, "a Network, with a torso and a head")
        return ImplicitQuantileNetwork(net, self.n_cosines, self.acting_fractions)

    def q_values(self, outputs: Tensor) -> Tensor:
        """The mean of each action's quantiles."""
        return outputs.mean(-1)

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """One update's loss: see :meth:`DQN.optimize_model`."""
        fractions = torch.rand(*batch.action_batch.shape, self.n_fractions, device=self.device)
        features, next_features = self.read(self.policy_net.torso, batch, next_states=self.use_double_q)
        quantiles = value_of(self.policy_net.quantiles(features, fractions), batch.action_batch)  # [T, B, N]
        with torch.no_grad():
            targets = self.targets(batch, self.next_state_values(batch, next_features))
        losses = quantile_huber_losses(quantiles, fractions, targets, self.huber_delta)
        return self.summary(batch, losses, quantiles.mean(-1), targets.mean(-1))

    def next_state_values(self, batch: TransitionBatch, policy_outputs: Tensor | None) -> Tensor:
        """Quantiles of what the next states are worth, at random fractions. [T, B, N'].

        Args:
            batch: The transitions.
            policy_outputs: The policy network's features of the next states, [T, B, F]; only for double Q-learning.
        """
        fractions = torch.rand(*batch.action_batch.shape, self.n_target_fractions, device=self.device)
        features = self.read_next(self.target_net.torso, batch)
        values = self.target_net.quantiles(features, fractions)
        net, selector_features = self.target_net, features
        if self.use_double_q and policy_outputs is not None:
            net, selector_features = self.policy_net, policy_outputs
        selector = net.quantiles(selector_features, net.acting_fractions)
        return self.follow_policy(values, self.q_values(selector), batch)


class ImplicitQuantileNetwork(nn.Module):
    """A network whose features are multiplied by an embedding of fractions (arXiv:1806.06923, eq. 4 and section 3.1).

    Args:
        net: The network, with a ``torso`` and a ``head``.
        n_cosines: Cosines that a fraction is embedded by.
        acting_fractions: [K] float, the fractions that ``forward`` looks at.
    """

    def __init__(self, net: Any, n_cosines: int, acting_fractions: Tensor) -> None:
        super().__init__()
        self.net = net
        self.embedding = nn.Linear(n_cosines, net.feature_size)
        self.acting_fractions: Tensor
        self.register_buffer("acting_fractions", acting_fractions)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.pi * torch.arange(n_cosines))

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The quantiles to act on. ``[T, B, *obs] -> [T, B, A, K]`` and the next state."""
        features, state = self.torso(observation, state, is_first)
        return self.quantiles(features, self.acting_fractions), state

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The observations' features. ``[T, B, *obs] -> [T, B, F]`` and the next state."""
        features, state = self.net.torso(observation, state, is_first)
        return features, state

    def quantiles(self, features: Tensor, fractions: Tensor) -> Tensor:
        """The quantiles of each action's return.

        Args:
            features: [T, B, F] float.
            fractions: [T, B, N] or [N] float.

        Returns:
            [T, B, A, N] float.
        """
        cosines = torch.cos(fractions.unsqueeze(-1) * self.frequencies)
        embedded = features.unsqueeze(-2) * self.embedding(cosines).relu()  # [T, B, N, F]
        quantiles: Tensor = self.net.head(embedded)
        return quantiles.transpose(-1, -2)
