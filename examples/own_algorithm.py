"""An algorithm of your own: Q-learning with mellowmax in place of the max (`python examples/own_algorithm.py`).

An algorithm is DQN with a method changed. Those that are made for it: `follow_policy`, what the next states are worth;
`targets`, what the Bellman equation expects; `optimize_model`, the whole update.
"""

import sys
from typing import Any

from torch import Tensor

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.functional import mask_actions
from seqrl_lightning.types import TransitionBatch, require


class MellowmaxDQN(DQN):
    """`V(s) = log(mean_a exp(omega Q(s, a))) / omega` (arXiv:1612.05628): between the mean and the max.

    Args:
        args: See DQN.
        omega: The larger, the nearer to the max; positive.
        kwargs: See DQN.
    """

    def __init__(self, *args: Any, omega: float = 10.0, **kwargs: Any) -> None:
        require(omega > 0, "model.omega", omega, "positive")
        super().__init__(*args, **kwargs)
        self.omega = omega

    def follow_policy(self, values: Tensor, q_values: Tensor, batch: TransitionBatch) -> Tensor:
        """The value of the next states, [T, B], from the values of their actions, [T, B, A]."""
        mask = batch.next_action_mask_batch  # actions that aren't allowed don't count
        total, count = (mask_actions(logs, mask).logsumexp(-1) for logs in (self.omega * values, 0.0 * values))
        return (total - count) / self.omega


def main() -> None:
    """Trains with it."""
    settings = ["--data.env_id", "seqrl/SequenceDistractor-v0", "--data.eval_episodes", "1"]
    settings += ["--data.batch_size", "32", "--data.capacity", "500", "--data.batches_per_epoch", "100"]
    settings += ["--model", "own_algorithm.MellowmaxDQN", "--model.omega", "20", "--model.gamma", "0.5"]
    settings += ["--agent.warmup_env_steps", "64", "--agent.max_env_steps", "1000"]
    settings += ["--target_sync.sync_every_updates", "1", "--target_sync.tau", "0.05"]
    overrides, sys.argv[1:] = sys.argv[1:], []
    trainer = SeqRLCLI(["fit", *settings, *overrides]).trainer
    print(f"return of the greedy policy: {trainer.callback_metrics['val/return_mean']:g} of 5; see {trainer.log_dir}")


if __name__ == "__main__":
    main()
