"""QR-DQN: quantiles of the return instead of its mean."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.building import build_network
from seqrl_lightning.algorithms.dqn import DQN
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import quantile_huber_losses, quantile_midpoints, value_of
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import require


class QRDQN(DQN):
    """Quantile regression DQN (Dabney et al., arXiv:1710.10044, algorithm 1).

    The network outputs ``n_quantiles`` quantiles of each action's return. ``huber_delta`` is the paper's kappa.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the network from ``obs_shape`` and ``(n_actions, n_quantiles)``.
        n_quantiles: Number of quantiles.
        dqn: The settings of :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        n_quantiles: int = 51,
        **dqn: Any,
    ) -> None:
        require(n_quantiles > 0, "model.n_quantiles", n_quantiles, "at least 1")
        self.n_quantiles = n_quantiles
        super().__init__(obs_shape, n_actions, network, **dqn)
        self.fractions: Tensor
        self.register_buffer("fractions", quantile_midpoints(n_quantiles))

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Build the network, which outputs quantiles [T, B, A, n_quantiles]."""
        return build_network(network, self.obs_shape, (self.n_actions, self.n_quantiles))

    def q_values(self, outputs: Tensor) -> Tensor:
        """Return the mean of each action's quantiles, [..., A] in units of the reward."""
        return self.to_values(outputs).mean(-1)

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the quantile Huber loss; the target is that of :meth:`DQN.target`, for each quantile."""
        outputs, next_selector_outputs = self.read_policy_net(batch, self.policy_net)
        quantiles = value_of(outputs, batch.action_batch)  # [T, B, n_quantiles]
        with torch.no_grad():
            targets = self.target(batch, next_selector_outputs)  # [T, B, n_quantiles]
        losses = quantile_huber_losses(quantiles, self.fractions, targets, self.huber_delta)
        losses = self.conservative(losses, batch, outputs)
        return self.summary(batch, losses, quantiles.mean(-1), targets.mean(-1))
