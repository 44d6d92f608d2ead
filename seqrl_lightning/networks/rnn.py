"""A recurrent network without gates."""

import itertools

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.recurrent import RecurrentNetwork


class RNN(RecurrentNetwork):
    """A simple recurrent network with tanh units (Elman, Cognitive Science 14, 1990).

    Its state is ``[num_layers, B, hidden_size]``. It has no gates: recurrent weights start as an orthogonal matrix, so
    that memory fades slowly. Each row in which an episode starts in any column begins another call of torch's kernel.

    Settings as for :class:`RecurrentNetwork`.
    """

    def build_core(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Build torch's RNN."""
        core = nn.RNN(input_size, hidden_size, num_layers)
        for _, recurrent_weight, *_ in core.all_weights:
            nn.init.orthogonal_(recurrent_weight)
        return core

    def run_episodes(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core from each row in which an episode starts to the next one."""
        segments = []
        rows = [0, *(starts[1:].any(1).nonzero().flatten() + 1).tolist(), len(inputs)]
        starts = starts.to(state.device, non_blocking=True)
        for first, end in itertools.pairwise(rows):
            state = state.masked_fill(starts[first].unsqueeze(-1), 0.0)
            segment, state = self.run_core(inputs[first:end], state)
            segments.append(segment)
        return torch.cat(segments), state
