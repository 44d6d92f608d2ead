"""Minimal gated recurrent units."""

import functools

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.parallel import ParallelLayer, ParallelNetwork, feed_forward, forgets
from seqrl_lightning.networks.recurrent import chrono_biases
from seqrl_lightning.networks.scan import linear_scan


class MinGRU(ParallelNetwork):
    """Layers of minimal gated recurrent units (arXiv:2410.01201), each followed by a feed-forward layer.

    The gate and the candidate of a unit depend on its input alone: ``h[t] = (1 - z[t]) h[t - 1] + z[t] c[t]`` with
    ``z = sigmoid(W x)`` and ``c = V x``. All time steps can therefore be computed at once. Gates can depend on memory
    from the second layer on, through their input. The state is ``[num_layers, B, hidden_size]``.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of each layer.
        num_layers: Number of layers.
        chrono_init: The longest delay to bridge, in time steps (arXiv:1804.11188): half of the units start with time
            scales up to it. None to start with half-open gates.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``chrono_init`` is less than 3.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        num_layers: int = 2,
        chrono_init: int | None = 128,
        head: HeadCallable = LinearHead,
    ) -> None:
        layer = functools.partial(MinGRULayer, hidden_size, chrono_init)
        super().__init__(obs_shape, out_shape, hidden_size, num_layers, layer, head)


class MinGRULayer(ParallelLayer):
    """Minimal gated recurrent units, then a feed-forward layer."""

    def __init__(self, hidden_size: int, chrono_init: int | None) -> None:
        super().__init__()
        self.memory_size = hidden_size
        self.norm = nn.LayerNorm(hidden_size)
        self.gate_and_candidate = nn.Linear(hidden_size, 2 * hidden_size)
        self.feed_forward = feed_forward(hidden_size)
        if chrono_init is not None:
            with torch.no_grad():
                self.gate_and_candidate.bias[: hidden_size // 2] = -chrono_biases(hidden_size // 2, chrono_init)

    def mix(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the units' values. See :meth:`ParallelLayer.mix`."""
        gate, candidate = self.gate_and_candidate(inputs).chunk(2, dim=-1)
        gate = gate.sigmoid()
        values = linear_scan(forgets(1.0 - gate, is_first), gate * candidate, memory)
        return values, values[-1:]
