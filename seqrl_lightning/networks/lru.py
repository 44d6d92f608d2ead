"""Linear recurrent units."""

import functools
import math

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.parallel import ParallelLayer, ParallelNetwork, feed_forward, forgets
from seqrl_lightning.networks.recurrent import chrono_biases
from seqrl_lightning.networks.scan import linear_scan
from seqrl_lightning.types import require


class LRU(ParallelNetwork):
    """Layers of linear recurrent units (arXiv:2303.06349), each followed by a feed-forward layer.

    Complex units, half as many as the layer is wide, decay and rotate at constant, learned rates:
    ``h[t] = lambda h[t - 1] + gamma B x[t]`` with ``|lambda| < 1`` and ``gamma = sqrt(1 - |lambda|^2)``; the layer's
    output is ``Re(C h) + D x`` (section 3). A unit's rotation tells how long ago it was written to. The state is
    ``[num_layers, B, hidden_size]``: real and imaginary parts, in turn.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Size of each layer, twice the number of its units.
        num_layers: Number of layers.
        chrono_init: The longest delay to bridge, in time steps: units start with time scales drawn from the delays up
            to it.
        max_phase: The largest initial angle by which a unit rotates in a step, in radians.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, ``hidden_size`` is odd, ``chrono_init`` is less than 3 or
            ``max_phase`` isn't in (0, 2 pi].
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        num_layers: int = 2,
        chrono_init: int = 128,
        max_phase: float = math.pi / 10,
        head: HeadCallable = LinearHead,
    ) -> None:
        require(hidden_size > 0 and hidden_size % 2 == 0, "model.network.hidden_size", hidden_size, "positive and even")
        require(0 < max_phase <= 2 * math.pi, "model.network.max_phase", max_phase, "in (0, 2 pi]")
        layer = functools.partial(LRULayer, hidden_size, chrono_init, max_phase)
        super().__init__(obs_shape, out_shape, hidden_size, num_layers, layer, head)


class LRULayer(ParallelLayer):
    """Linear recurrent units, then a feed-forward layer."""

    def __init__(self, hidden_size: int, chrono_init: int, max_phase: float) -> None:
        super().__init__()
        self.memory_size = hidden_size
        num_units = hidden_size // 2
        self.norm = nn.LayerNorm(hidden_size)
        modulus = chrono_biases(num_units, chrono_init).sigmoid()
        self.log_rate = nn.Parameter((-modulus.log()).log())  # nu in the paper: |lambda| = exp(-exp(nu))
        self.log_phase = nn.Parameter((max_phase * (1.0 - torch.rand(num_units))).log())  # theta in the paper
        self.log_gain = nn.Parameter((1.0 - modulus.square()).sqrt().log())  # gamma
        self.write = nn.Linear(hidden_size, hidden_size, bias=False)  # B
        self.read = nn.Linear(hidden_size, hidden_size)  # C
        self.skip = nn.Parameter(torch.randn(hidden_size))  # D
        self.feed_forward = feed_forward(hidden_size)

    def mix(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return a reading of the units' values. See :meth:`ParallelLayer.mix`."""
        decay = torch.polar((-self.log_rate.exp()).exp(), self.log_phase.exp()).view(1, 1, -1)
        rows = self.write(inputs).to(memory.dtype)
        written, initial = (torch.view_as_complex(x.view(*x.shape[:2], -1, 2)) for x in (rows, memory))
        written = written * self.log_gain.exp()
        values = torch.view_as_real(linear_scan(forgets(decay, is_first), written, initial)).flatten(-2)
        return self.read(values) + self.skip * inputs, values[-1:]
