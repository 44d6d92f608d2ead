"""IQN: the return's quantile function itself, at any fraction."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.building import build_network
from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.algorithms.settings import require_count
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import (
    double_q_target,
    munchausen_target,
    quantile_huber_losses,
    quantile_midpoints,
    value_of,
)
from seqrl_lightning.networks import MLP, Network, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import ConfigurationError, State, require


class IQN(DQN):
    """Implicit quantile network (Dabney et al., arXiv:1806.06923).

    It acts on the mean over ``n_acting_fractions`` evenly spaced fractions, or over the lowest ``cvar`` of all
    fractions to avoid risk. With ``munchausen_alpha`` it is M-IQN (arXiv:2007.14430). ``huber_delta`` is the paper's
    kappa.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the network, with a torso and a head, from ``obs_shape`` and ``(n_actions,)``.
        n_fractions: Number of fractions drawn for the prediction (N in the paper).
        n_target_fractions: Number of fractions drawn for the target (N').
        n_acting_fractions: Number of fractions for acting (K).
        n_cosines: Number of cosines that embed a fraction.
        cvar: The conditional value at risk to act on, in (0, 1]: the mean over the worst ``cvar`` of all outcomes;
            1 is neutral to risk.
        dqn: The settings of :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    policy_net: "ImplicitQuantileNetwork"
    target_net: "ImplicitQuantileNetwork"

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        n_fractions: int = 8,
        n_target_fractions: int = 8,
        n_acting_fractions: int = 32,
        n_cosines: int = 64,
        cvar: float = 1.0,
        **dqn: Any,
    ) -> None:
        require_count(
            n_fractions=n_fractions,
            n_target_fractions=n_target_fractions,
            n_acting_fractions=n_acting_fractions,
            n_cosines=n_cosines,
        )
        require(0 < cvar <= 1, "model.cvar", cvar, "in (0, 1]")
        self.n_fractions = n_fractions
        self.n_target_fractions = n_target_fractions
        self.acting_fractions = cvar * quantile_midpoints(n_acting_fractions)
        self.n_cosines = n_cosines
        super().__init__(obs_shape, n_actions, network, **dqn)

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Build the network, and around it the embedding of fractions."""
        net = build_network(network, self.obs_shape, (self.n_actions,))
        must_be = "a Network that computes its outputs as head(torso(observation)), without a forward of its own"
        if isinstance(net, Network) and type(net).forward in (Network.forward, MLP.forward):
            return ImplicitQuantileNetwork(net, self.n_cosines, self.acting_fractions)
        raise ConfigurationError(f"model.network is {type(net).__name__!r}; it must be {must_be}")

    @property
    def acting_net(self) -> nn.Module:
        """The network without the embedding of fractions."""
        return self.policy_net.net

    def q_values(self, outputs: Tensor) -> Tensor:
        """Return the mean of each action's quantiles, [..., A] in units of the reward."""
        return self.to_values(outputs).mean(-1)

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the quantile Huber loss at random fractions."""
        fractions = torch.rand(*batch.action_batch.shape, self.n_fractions, device=self.device)
        features, next_selector_features = self.read_policy_net(batch, self.policy_net.torso)
        outputs = self.policy_net.quantiles(features, fractions)  # [T, B, A, N]
        quantiles = value_of(outputs, batch.action_batch)  # [T, B, N]
        with torch.no_grad():
            targets = self.target(batch, next_selector_features)  # [T, B, N']
        losses = quantile_huber_losses(quantiles, fractions, targets, self.huber_delta)
        losses = self.conservative(losses, batch, outputs)
        return self.summary(batch, losses, quantiles.mean(-1), targets.mean(-1))

    def target(self, batch: Batch, next_selector_outputs: Tensor | None) -> Tensor:
        """Return samples of the distribution that the network should output for the actions taken, [T, B, N'].

        Args:
            batch: [T, B] transitions.
            next_selector_outputs: [T, B, F], the policy network's features of the next states, in double Q-learning.
        """
        net = self.target_net
        returns, discounts = self.returns_and_discounts(batch)
        fractions = torch.rand(*batch.action_batch.shape, self.n_target_fractions, device=self.device)
        if self.munchausen_alpha > 0:
            features, next_features, next_mask = batch.read(net.torso)
            next_values = self.to_values(net.quantiles(next_features, fractions))
            next_q_values, q_values = (self.acting_values(net, read) for read in (next_features, features))
            target = munchausen_target(
                returns,
                discounts,
                q_values,
                batch.action_batch,
                next_values,
                next_q_values,
                *self.munchausen,
                batch.action_mask_batch,
                next_mask,
            )
            return self.to_outputs(target)
        next_features, next_mask = batch.read_next_states(net.torso)
        next_values = self.to_values(net.quantiles(next_features, fractions))
        if next_selector_outputs is None:
            next_q_values = self.acting_values(net, next_features)
        else:
            next_q_values = self.acting_values(self.policy_net, next_selector_outputs)
        return self.to_outputs(double_q_target(returns, discounts, next_values, next_q_values, next_mask))

    def acting_values(self, net: "ImplicitQuantileNetwork", features: Tensor) -> Tensor:
        """Return the values that a network acts by, [T, B, A], from features [T, B, F]."""
        return self.q_values(net.quantiles(features, net.acting_fractions))


class ImplicitQuantileNetwork(nn.Module):
    """A network whose features are multiplied by an embedding of fractions (arXiv:1806.06923, eq. 4 and section 3.1).

    Args:
        net: The network, with a ``torso`` and a ``head``.
        n_cosines: Number of cosines that embed a fraction.
        acting_fractions: [K] float, the fractions that ``forward`` evaluates.
    """

    def __init__(self, net: Network, n_cosines: int, acting_fractions: Tensor) -> None:
        super().__init__()
        self.net = net
        self.embedding = nn.Linear(n_cosines, net.feature_size)
        self.acting_fractions: Tensor
        self.register_buffer("acting_fractions", acting_fractions)
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.pi * torch.arange(n_cosines))

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the quantiles to act on. ``[T, B, *obs] -> [T, B, A, K]`` and the next state."""
        features, state = self.torso(observation, state, is_first)
        return self.quantiles(features, self.acting_fractions), state

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the observations' features. ``[T, B, *obs] -> [T, B, F]`` and the next state."""
        return self.net.run_torso(observation, state, is_first)

    def quantiles(self, features: Tensor, fractions: Tensor) -> Tensor:
        """Return quantiles of each action's return.

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
