"""Priorities on their way from an update back to the replay memory."""

import numpy as np
import torch
from torch import Tensor

from seqrl_lightning.batches import Batch
from seqrl_lightning.replay.samplers import Sampler


def write_priorities(sampler: Sampler, batch: Batch, errors: Tensor) -> None:
    """Write the errors of updates as the priorities of the transitions or windows that they learned from.

    Args:
        sampler: The sampler that drew the batch.
        batch: [T, B], with ``slot_batch``; without one nothing is written.
        errors: [T, b] float, not negative; b < B if the updates used the first b columns only. Where an error isn't
            finite, the update was skipped, and the old priority stays.
    """
    if batch.slot_batch is None:
        return
    assert batch.weight_batch is not None
    num_used = errors.shape[1]
    is_known = (batch.weight_batch[:, :num_used] > 0).to(errors.device) & errors.isfinite()
    known_errors = errors.masked_fill(~is_known, torch.nan).cpu().numpy()
    has_any = np.isfinite(known_errors).any(0)
    if has_any.any():
        slots = batch.slot_batch[0, :num_used].numpy()
        sampler.update_priorities(slots[has_any], known_errors[:, has_any])
