"""C51: a histogram of the return instead of its mean."""

from typing import Any

import torch
from torch import Tensor, nn

from seqrl_lightning.algorithms.building import build_network
from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import bellman_target, categorical_projection, mask_actions, value_of
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import require


class C51(LearnerModule):
    """Categorical DQN (Bellemare et al., arXiv:1707.06887, algorithm 1).

    The network outputs logits of ``n_atoms`` evenly spaced returns for each action. The loss is the cross-entropy to
    the next state's distribution, discounted, moved by the reward, and projected onto the same atoms. It is the
    transition's priority too.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the task).
        n_actions: Number of actions (the CLI takes it from the task).
        network: Builds the network from ``obs_shape`` and ``(n_actions, n_atoms)``.
        double: Whether the policy network selects the action that the target network values (arXiv:1509.06461).
        n_atoms: Number of atoms.
        v_min: The lowest atom: a return, rescaled with ``value_rescaling``.
        v_max: The highest atom.
        shared: The settings of :class:`LearnerModule`, which every learner has.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        double: bool = False,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        **shared: Any,
    ) -> None:
        require(n_atoms >= 2, "model.n_atoms", n_atoms, "at least 2")
        require(v_min < v_max, "model.v_min", v_min, f"below model.v_max = {v_max}")
        self.n_atoms = n_atoms
        super().__init__(obs_shape, n_actions, network, **shared)
        self.use_double_q = double
        self.support: Tensor
        self.register_buffer("support", torch.linspace(v_min, v_max, n_atoms))

    def build_network(self, network: NetworkCallable) -> nn.Module:
        """Build the network, which outputs logits [T, B, A, n_atoms]."""
        return build_network(network, self.obs_shape, (self.n_actions, self.n_atoms))

    def q_values(self, outputs: Tensor) -> Tensor:
        """Return the mean of each action's distribution, [..., A] in units of the reward."""
        return outputs.softmax(-1) @ self.to_values(self.support)

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the cross-entropy between the predicted distribution and its target."""
        if self.use_double_q:
            outputs, next_selector_outputs, _ = batch.read(self.policy_net)
        else:
            outputs, next_selector_outputs = batch.read_states(self.policy_net), None
        logits = value_of(outputs, batch.action_batch)  # [T, B, n_atoms]
        with torch.no_grad():
            next_probabilities, atoms = self.target(batch, next_selector_outputs)
            target_probabilities = categorical_projection(next_probabilities, atoms, self.support)
            target_mean = (next_probabilities * atoms).sum(-1)
        losses = -(target_probabilities * logits.log_softmax(-1)).sum(-1)
        state_action_values = logits.detach().softmax(-1) @ self.support
        update = self.summary(batch, losses, state_action_values, target_probabilities @ self.support, priority=losses)
        update["is_outside_support"] = (target_mean < self.support[0]) | (target_mean > self.support[-1])
        return update

    def target(self, batch: Batch, next_selector_outputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the distribution of the returns of the actions taken: probabilities and values, [T, B, n_atoms] each.

        Args:
            batch: [T, B] transitions.
            next_selector_outputs: The policy network's outputs for the next states, in double Q-learning.
        """
        returns, discounts = self.returns_and_discounts(batch)
        next_outputs, next_mask = batch.read_next_states(self.target_net)
        selector_outputs = next_outputs if next_selector_outputs is None else next_selector_outputs
        next_action = mask_actions(self.q_values(selector_outputs), next_mask).argmax(-1)
        next_probabilities = value_of(next_outputs, next_action).softmax(-1)
        next_atoms = self.to_values(self.support).expand_as(next_probabilities)
        return next_probabilities, self.to_outputs(bellman_target(returns, discounts, next_atoms))
