"""Several episodes in one sequence, laid out so that a fused recurrent kernel reads them in one call."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

READ, RESET, HOLD = range(3)
"""The kinds of a tape's rows."""


class Tape(NamedTuple):
    """The places of T rows of B columns among the L rows of a tape.

    A fused kernel carries its memory through all rows of a sequence. On a tape, an additional row that empties the
    memory comes before each row in which an episode starts, and rows that keep it fill the column up after its last
    row. ``L - T`` is the largest number of starts in a column. Where ``starts`` isn't on the CPU, nothing waits for
    that number, and the tape is long enough for a start in every row, ``L = 2 T - 1``.
    """

    position: Tensor  # [T, B] int64: where each row lies on the tape, flattened to [L * B]
    kind: Tensor  # [L, B, 3] float: one-hot READ, RESET or HOLD

    @classmethod
    def of(cls, starts: Tensor, like: Tensor) -> Self:
        """Lay rows out.

        Args:
            starts: [T, B] bool, on any device: an episode starts in the row. In row 0 it makes no difference.
            like: A tensor of the dtype and on the device to compute with.
        """
        (length, batch_size), device = starts.shape, like.device
        tape_length = length + int(starts[1:].sum(0).max()) if starts.device.type == "cpu" else 2 * length - 1
        num_resets = starts.to(device, non_blocking=True).long()
        num_resets[0] = 0
        row = torch.arange(length, device=device).unsqueeze(1) + num_resets.cumsum(0)
        position = row * batch_size + torch.arange(batch_size, device=device)
        kind = torch.full((tape_length, batch_size), RESET, device=device)
        kind.masked_fill_(torch.arange(tape_length, device=device).unsqueeze(1) > row[-1], HOLD)
        kind.view(-1).index_fill_(0, position.flatten(), READ)
        return cls(position, (kind.unsqueeze(-1) == torch.arange(3, device=device)).to(like.dtype))

    def write(self, rows: Tensor) -> Tensor:
        """Put rows on the tape, with zeros in its other rows. ``[T, B, F] -> [L, B, F]``."""
        tape = rows.new_zeros(self.kind[..., 0].numel(), rows.shape[-1])
        tape = tape.index_copy(0, self.position.flatten(), rows.flatten(0, 1))
        return tape.view(*self.kind.shape[:2], -1)

    def read(self, tape: Tensor, rows: slice = slice(None)) -> Tensor:
        """Take rows back from the tape. ``[L, B, F] -> [T, B, F]``, or those of the T that ``rows`` selects."""
        position = self.position[rows]
        return tape.flatten(0, 1).index_select(0, position.flatten()).view(*position.shape, -1)
