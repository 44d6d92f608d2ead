"""Fast and forgetful memory."""

import functools
import math

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import require_sizes
from seqrl_lightning.networks.parallel import ParallelLayer, ParallelNetwork, feed_forward, forgets
from seqrl_lightning.networks.scan import linear_scan
from seqrl_lightning.types import require


class FFM(ParallelNetwork):
    """Layers of fast and forgetful memory (arXiv:2310.04128), each followed by a feed-forward layer.

    A few traces of the input, which a gate lets in, are summed: each fades at one rate and rotates at several, so
    that a reading tells what was seen, how often and how long ago (eq. 2 to 7). Traces that hardly fade act as
    counters. A second gate decides how much of the reading passes. The state is ``[num_layers, B, 2 * memory_size *
    context_size]``: real and imaginary parts, in turn.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Size of each layer's inputs and outputs.
        num_layers: Number of layers.
        memory_size: Number of traces, m in the paper.
        context_size: Number of rates at which each of them turns, c in the paper.
        longest_period: Time steps that the slowest of these rates takes for one turn.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``longest_period`` is less than 2.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        num_layers: int = 2,
        memory_size: int = 16,
        context_size: int = 2,
        longest_period: int = 1024,
        head: HeadCallable = LinearHead,
    ) -> None:
        require_sizes(memory_size=memory_size, context_size=context_size)
        require(longest_period >= 2, "model.network.longest_period", longest_period, "at least 2 time steps")
        layer = functools.partial(FFMLayer, hidden_size, memory_size, context_size, longest_period)
        super().__init__(obs_shape, out_shape, hidden_size, num_layers, layer, head)


class FFMLayer(ParallelLayer):
    """Fast and forgetful memory, then a feed-forward layer."""

    def __init__(self, hidden_size: int, memory_size: int, context_size: int, longest_period: int) -> None:
        super().__init__()
        self.memory_size = 2 * memory_size * context_size
        self.shape = (memory_size, context_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.write = nn.Linear(hidden_size, 2 * memory_size)  # traces and their gates
        self.log_rate = nn.Parameter(torch.linspace(math.log(1e-4), math.log(0.5), memory_size))  # |alpha|
        self.frequency = nn.Parameter(2 * math.pi / torch.linspace(2, longest_period, context_size))  # omega
        self.read = nn.Linear(self.memory_size, hidden_size)
        self.read_norm = nn.LayerNorm(hidden_size, elementwise_affine=False)
        self.pass_gate = nn.Linear(hidden_size, hidden_size)
        self.feed_forward = feed_forward(hidden_size)

    def mix(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the gate lets pass of a reading. See :meth:`ParallelLayer.mix`."""
        modulus = (-self.log_rate.exp()).exp().unsqueeze(1).expand(self.shape)
        decay = torch.polar(modulus, self.frequency.expand(self.shape)).view(1, 1, *self.shape)
        trace, gate = self.write(inputs).chunk(2, dim=-1)
        written = (trace * gate.sigmoid()).unsqueeze(-1).repeat(1, 1, 1, self.shape[1])
        initial = torch.view_as_complex(memory.view(*memory.shape[:2], *self.shape, 2))
        traces = linear_scan(forgets(decay, is_first), written, initial)
        values = torch.view_as_real(traces).flatten(2)
        return self.read_norm(self.read(values)) * self.pass_gate(inputs).sigmoid(), values[-1:]
