"""Behavior cloning: a policy that chooses as a log's choices were made."""

from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable

from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.algorithms.optimization import OptimizerCallable
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import choice_losses
from seqrl_lightning.networks import MLP, NetworkCallable
from seqrl_lightning.parts import ObsShape
from seqrl_lightning.types import CompileMode, require


class BehaviorCloning(LearnerModule):
    """Learn which action was chosen in which state, whatever its outcome (Pomerleau 1991).

    The network outputs the logits of a policy, and learns by maximum likelihood. It learns from trials that were logged
    (``LoggedTrials``) and needs no rewards. In evaluation it takes the most likely action.

    TensorBoard's ``train/q_value_mean`` is the mean probability that the policy gives to the logged choices.

    Args:
        obs_shape: Shape of one observation (the CLI takes it from the data).
        n_actions: Number of actions (the CLI takes it from the data).
        network: Builds the network from ``obs_shape`` and ``(n_actions,)``.
        optimizer: See :class:`LearnerModule`, like all that follow.
        lr_scheduler: Builds a scheduler from the optimizer.
        learning_rate: Learning rate of the optimizer.
        clip_grad_value: Largest absolute value of a gradient's element; None for no limit.
        clip_grad_norm: Maximum norm of the whole gradient; None for no limit.
        updates_per_step: Updates of the network in one ``training_step``.
        compile: Whether ``torch.compile`` compiles the loss.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the data.
    """

    def __init__(
        self,
        obs_shape: ObsShape,
        n_actions: int,
        network: NetworkCallable = MLP,
        optimizer: OptimizerCallable = lambda params, lr: torch.optim.Adam(params, lr, fused=True),
        lr_scheduler: LRSchedulerCallable | None = None,
        learning_rate: float = 1e-3,
        clip_grad_value: float | None = None,
        clip_grad_norm: float | None = None,
        updates_per_step: int = 1,
        compile: CompileMode = False,
    ) -> None:
        shared: dict[str, Any] = {
            "clip_grad_value": clip_grad_value,
            "clip_grad_norm": clip_grad_norm,
            "updates_per_step": updates_per_step,
            "compile": compile,
        }
        super().__init__(obs_shape, n_actions, network, optimizer, lr_scheduler, learning_rate, **shared)
        self.target_net = self.policy_net
        for unused in ("gamma", "value_rescaling", "normalize_observations", "normalize_rewards"):
            self.hparams.pop(unused, None)  # a checkpoint names the settings that the class takes

    def setup(self, stage: str) -> None:
        """Refuse an agent's own choices, from which there is nothing to be learned.

        Raises:
            ConfigurationError: If the data are an agent's.
        """
        if stage == "fit":
            must_be = "one that learns from rewards, like DQN; a clone learns from --data LoggedTrials"
            require(not self.data.has_agent, "model", type(self).__name__, must_be)
        super().setup(stage)

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the negative log-likelihood of the choices in the batch."""
        logits = batch.read_states(self.policy_net)
        losses = choice_losses(logits, batch.action_batch, batch.action_mask_batch)
        probability = (-losses.detach()).exp()
        return self.summary(batch, losses, probability, torch.ones_like(probability))
