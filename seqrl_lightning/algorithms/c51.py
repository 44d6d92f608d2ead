"""C51: a histogram of the return instead of its mean."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.dqn import DQN, build_network
from seqrl_lightning.functional import categorical_projection, value_of
from seqrl_lightning.networks import NetworkCallable
from seqrl_lightning.types import TransitionBatch, require


class C51(DQN):
    """Categorical DQN (Bellemare et al., arXiv:1707.06887, algorithm 1).

    The network puts out logits of ``n_atoms`` evenly spaced returns for each action. The loss is the cross-entropy to
    the next state's distribution, discounted, moved by the reward and projected onto the same atoms; it is the
    transition's priority too.

    Args:
        args: See :class:`DQN`.
        n_atoms: Atoms of the distribution.
        v_min: The lowest return that an atom stands for.
        v_max: The highest return that an atom stands for.
        kwargs: See :class:`DQN`.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(self, *args: Any, n_atoms: int = 51, v_min: float = -10.0, v_max: float = 10.0, **kwargs: Any) -> None:
        require(n_atoms >= 2, "model.n_atoms", n_atoms, "at least 2")
        require(v_min < v_max, "model.v_min", v_min, f"below model.v_max = {v_max}")
        self.n_atoms = n_atoms
        super().__init__(*args, **kwargs)
        would_do = "0: C51's atoms have no room for an entropy (take IQN)"
        require(self.munchausen_alpha == 0.0, "model.munchausen_alpha", self.munchausen_alpha, would_do)
        self.support: Tensor
        self.register_buffer("support", torch.linspace(v_min, v_max, n_atoms))

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Builds the network, which puts out logits ``[T, B, A, n_atoms]``."""
        return build_network(network, self.obs_shape, (self.n_actions, self.n_atoms))

    def q_values(self, outputs: Tensor) -> Tensor:
        """The mean of each action's distribution."""
        return outputs.softmax(-1) @ self.support

    def optimize_model(self, batch: TransitionBatch) -> dict[str, Tensor]:
        """One update's loss: see :meth:`DQN.optimize_model`."""
        outputs, next_outputs = self.read(self.policy_net, batch, next_states=self.use_double_q)
        logits = value_of(outputs, batch.action_batch)  # [T, B, n_atoms]
        with torch.no_grad():
            next_probabilities = self.next_state_values(batch, next_outputs).softmax(-1)
            atoms = self.support.expand_as(next_probabilities)
            target_probabilities = categorical_projection(next_probabilities, self.targets(batch, atoms), self.support)
        losses = -(target_probabilities * logits.log_softmax(-1)).sum(-1)
        state_action_values = logits.detach().softmax(-1) @ self.support
        return self.summary(batch, losses, state_action_values, target_probabilities @ self.support, priority=losses)
