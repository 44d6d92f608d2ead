"""The last observations as a network's state."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqrl_lightning.types import State


class History(NamedTuple):
    """Observations that a network remembers, S of them, and the T that it reads after them."""

    rows: Tensor  # [S + T, B, obs_size] float
    starts: Tensor  # [S + T, B] bool: an episode starts here
    episode: Tensor  # [S + T, B] int64: the same for rows of the same episode; -1 for rows that aren't remembered
    next_state: Tensor  # [S, B, obs_size + 1]


def with_history(observation: Tensor, state: State, is_first: Tensor | None, length: int) -> History:
    """Puts the observations that a network remembers before those that it reads.

    The state is the last ``length`` observations, with a mark in the last column: 0 for none, 1 for one of the present
    episode, 2 for that episode's first. It depends on no weights, so what is stored of it never gets old.

    Args:
        observation: [T, B, obs_size] float.
        state: [length, B, obs_size + 1], what an earlier call has returned, or None.
        is_first: [T, B] bool, or None.
        length: How many observations are remembered.
    """
    if state is None:
        state = observation.new_zeros(length, observation.shape[1], observation.shape[2] + 1)
    mark = state[..., -1].long()
    starts = torch.zeros_like(observation[..., 0], dtype=torch.bool) if is_first is None else is_first.clone()
    episode = torch.cat([mark.clamp(max=1) - 1, starts.long().cumsum(0)])
    starts[0] |= mark[-1] == 0  # nothing is remembered yet
    starts = torch.cat([mark == 2, starts])
    rows = torch.cat([state[..., :-1].to(observation.dtype), observation])

    is_kept = (episode[-length:] == episode[-1]).to(rows.dtype)
    next_mark = is_kept * (1 + starts[-length:])
    next_state = torch.cat([rows[-length:] * is_kept.unsqueeze(-1), next_mark.unsqueeze(-1)], dim=-1)
    return History(rows, starts, episode, next_state)
