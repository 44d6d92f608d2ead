"""QR-DQN: quantiles of the return instead of its mean."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.dqn import DQN, build_network
from seqrl_lightning.functional import quantile_huber_losses, quantile_midpoints, value_of
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.types import TransitionBatch, require


class QRDQN(DQN):
    """Quantile regression DQN (Dabney et al., arXiv:1710.10044, algorithm 1).

    The network puts out ``n_quantiles`` quantiles of each action's return. ``huber_delta`` is the paper's kappa.

    Args:
        args: See :class:`DQN`.
        n_quantiles: Quantiles of the distribution.
        kwargs: See :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, *args: Any, n_quantiles: int = 51, **kwargs: Any) -> None:
        require(n_quantiles > 0, "model.n_quantiles", n_quantiles, "at least 1")
        self.n_quantiles = n_quantiles
        super().__init__(*args, **kwargs)
        self.fractions: Tensor
        self.register_buffer("fractions", quantile_midpoints(n_quantiles))

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Builds the network, which puts out quantiles ``[T, B, A, n_quantiles]``."""
        return build_network(network, self.obs_shape, (self.n_actions, self.n_quantiles))

    def q_values(self, outputs: Tensor) -> Tensor:
        """The mean of each action's quantiles."""
        return outputs.mean(-1)

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """One update's loss: see :meth:`DQN.optimize_model`."""
        outputs, next_outputs = self.read(self.policy_net, batch, next_states=self.use_double_q)
        quantiles = value_of(outputs, batch.action_batch)  # [T, B, n_quantiles]
        with torch.no_grad():
            targets = self.targets(batch, self.next_state_values(batch, next_outputs))
        losses = quantile_huber_losses(quantiles, self.fractions, targets, self.huber_delta)
        return self.summary(batch, losses, quantiles.mean(-1), targets.mean(-1))
