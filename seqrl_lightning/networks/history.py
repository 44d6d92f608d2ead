"""The last observations as the state of a network."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqrl_lightning.types import State


class History(NamedTuple):
    """S remembered observations, followed by the T observations of this call."""

    rows: Tensor  # [S + T, B, obs_size] float
    starts: Tensor  # [S + T, B] bool: an episode starts in this row
    episode: Tensor  # [S + T, B] int64: number of the row's episode; -1 for rows that hold nothing
    next_state: Tensor  # [S, B, obs_size + 1]


def with_history(observation: Tensor, state: State, is_first: Tensor | None, length: int) -> History:
    """Prepend the observations in a network's state to those of this call.

    The state holds the last ``length`` observations with a mark in the last column: 0 for a row that holds nothing, 1
    for an observation of the current episode, 2 for the first one of that episode. It depends on no weights, so that a
    stored state never becomes stale.

    Args:
        observation: [T, B, obs_size] float.
        state: [length, B, obs_size + 1] float, from an earlier call, or None.
        is_first: [T, B] bool, or None.
        length: Number of observations in the state.
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
