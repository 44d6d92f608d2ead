"""What a network makes of a batch: of single transitions, or of windows of consecutive steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from seqrl_lightning.types import State, TransitionBatch

Reader = Callable[..., tuple[Tensor, State]]
"""Reads (observation [T, B, *obs], state, is_first) in order: ([T, B, ...], state). A network, or a part of one."""


def read(net: Reader, batch: TransitionBatch, next_states: bool = False) -> tuple[Tensor, Tensor | None]:
    """What a network makes of the states and, without a gradient, of the next states.

    Windows are read once and in order, from the state that comes with them; their next states are among their rows.

    Args:
        net: Who reads.
        batch: [T, B].
        next_states: Whether the next states of single transitions are asked for; those of windows come for nothing.

    Returns:
        [T, B, ...] of the states, and of the next states or None.
    """
    if batch.is_first_batch is not None:
        return _read_windows(net, batch)
    outputs, _ = net(batch.state_batch)
    if not next_states:
        return outputs, None
    with torch.no_grad():
        return outputs, net(batch.next_state_batch)[0]


def read_next(net: Reader, batch: TransitionBatch) -> Tensor:
    """What a network makes of the next states alone. [T, B, ...]."""
    return _read_windows(net, batch)[1] if batch.is_first_batch is not None else net(batch.next_state_batch)[0]


def _read_windows(net: Reader, batch: TransitionBatch) -> tuple[Tensor, Tensor]:
    """What a network makes of each row of a window, and of the row that its step leads to."""
    network_state = batch.network_state
    if batch.burn_in_state_batch is not None:
        with torch.no_grad():
            _, network_state = net(batch.burn_in_state_batch, network_state, batch.burn_in_is_first_batch)
    rows = torch.cat([batch.state_batch, batch.next_state_batch[-1:]])
    outputs, _ = net(rows, network_state, batch.is_first_batch)
    next_outputs = outputs[1:].detach()
    if batch.num_steps_batch is not None:
        below = torch.arange(len(next_outputs), device=rows.device)[:, None] + batch.num_steps_batch - 1
        index = below.reshape(*below.shape, *[1] * (next_outputs.dim() - 2)).expand_as(next_outputs)
        next_outputs = next_outputs.gather(0, index)
    return outputs[:-1], next_outputs
