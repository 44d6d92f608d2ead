"""The last observations as a network's state."""

import torch
from torch import Tensor

from seqrl_lightning.types import State


def with_history(
    observation: Tensor, state: State, is_first: Tensor | None, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Puts the observations that a network remembers before those that it reads.

    The state is the last ``length`` observations and, in the last column, whether they belong to the present episode:
    [length, B, obs_size + 1]. It depends on no weights, so what is stored of it never gets old.

    Args:
        observation: [T, B, obs_size] float.
        state: What an earlier call has returned, or None.
        is_first: [T, B] bool, or None.
        length: How many observations are remembered.

    Returns:
        rows: [length + T, B, obs_size].
        episode: [length + T, B] int64, the same for rows of the same episode; -1 for rows that aren't remembered.
        next_state: [length, B, obs_size + 1].
    """
    if state is None:
        state = observation.new_zeros(length, observation.shape[1], observation.shape[2] + 1)
    present = torch.zeros_like(observation[..., 0], dtype=torch.int64)
    if is_first is not None:
        present = is_first.long().cumsum(0)
    rows = torch.cat([state[..., :-1].to(observation.dtype), observation])
    episode = torch.cat([state[..., -1].long() - 1, present])

    kept, is_kept = rows[-length:], (episode[-length:] == episode[-1]).unsqueeze(-1)
    next_state = torch.cat([kept * is_kept, is_kept.to(rows.dtype)], dim=-1)
    return rows, episode, next_state
