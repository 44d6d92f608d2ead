"""Pure tensor functions: each learning rule's maths, and nothing else."""

from seqrl_lightning.functional.losses import huber_loss
from seqrl_lightning.functional.targets import double_q_values, max_q_values, one_step_targets

__all__ = ["double_q_values", "huber_loss", "max_q_values", "one_step_targets"]
