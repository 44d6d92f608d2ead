"""An algorithm of your own: Q-learning with mellowmax in place of the max (`python examples/own_algorithm.py`)."""

import sys
from typing import Any

import torch

from seqrl_lightning.algorithms import LearnerModule
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.functional import bellman_target, huber_losses, mask_actions, value_of
from seqrl_lightning.types import require


class MellowmaxDQN(LearnerModule):
    """`V(s) = log(mean_a exp(omega Q(s, a))) / omega` (arXiv:1612.05628): between the mean and the max.

    Args:
        args: See LearnerModule.
        omega: Positive; the larger, the nearer to the max.
        shared: See LearnerModule.
    """

    def __init__(self, *args: Any, omega: float = 10.0, **shared: Any) -> None:
        require(omega > 0, "model.omega", omega, "positive")
        super().__init__(*args, **shared)
        self.omega = omega

    def optimize_model(self, batch: Batch) -> Update:
        """Compute the loss of a batch, [T, B] transitions."""
        state_action_values = value_of(batch.read_states(self.policy_net), batch.action_batch)
        with torch.no_grad():
            outputs, mask = batch.read_next_states(self.target_net)  # [T, B, A], and the actions that are allowed
            logits = self.omega * self.q_values(outputs)
            total, count = (mask_actions(x, mask).logsumexp(-1) for x in (logits, torch.zeros_like(logits)))
            target = bellman_target(*self.returns_and_discounts(batch), (total - count) / self.omega)
            expected_state_action_values = self.to_outputs(target)
        losses = huber_losses(state_action_values, expected_state_action_values, 1.0)
        return self.summary(batch, losses, state_action_values, expected_state_action_values)


def main() -> None:
    """Train with it."""
    settings = "--data.env_id seqrl/SequenceDistractor-v0 --data.batch_size 32 --data.capacity 500"
    settings += " --data.batches_per_epoch 100 --model own_algorithm.MellowmaxDQN --model.omega 20 --model.gamma 0.5"
    settings += " --agent.warmup_env_steps 64 --agent.max_env_steps 1000 --target_sync.tau 0.05"
    overrides, sys.argv[1:] = sys.argv[1:], []
    trainer = SeqRLCLI(["fit", *settings.split(), *overrides]).trainer
    print(f"return of the greedy policy: {trainer.callback_metrics['val/return_mean']:g} of 5; see {trainer.log_dir}")


if __name__ == "__main__":
    main()
