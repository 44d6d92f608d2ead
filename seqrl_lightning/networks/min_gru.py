"""A recurrent network that is computed in parallel over time."""

import math

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.networks.recurrent import chrono_biases, with_starts
from seqrl_lightning.networks.scan import linear_scan
from seqrl_lightning.types import State, require


class MinGRU(Network):
    """Layers of minimal gated recurrent units (arXiv:2410.01201), each followed by a feed-forward layer.

    The gate and the candidate of a unit depend on its input alone: ``h[t] = (1 - z[t]) h[t - 1] + z[t] c[t]`` with
    ``z = sigmoid(W x)`` and ``c = V x``. All time steps can therefore be computed at once. Gates can depend on memory
    from the second layer on, through their input. Each part has a layer norm before it and a residual connection around
    it. An additional input tells whether an episode starts. The state is ``[num_layers, B, hidden_size]``.

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
        for name, size in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            require(size > 0, f"model.network.{name}", size, "positive")
        super().__init__(hidden_size, out_shape, head)
        self.encoder = nn.Linear(math.prod(obs_shape) + 1, hidden_size)
        self.layers = nn.ModuleList(MinGRULayer(hidden_size, chrono_init) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``, and the state ``[num_layers, B, hidden_size]``."""
        observation = observation.to(self.dtype)
        if state is None:
            state = observation.new_zeros(len(self.layers), observation.shape[1], self.feature_size)
        features = self.encoder(with_starts(observation, state, is_first))
        keeps = None if is_first is None else ~is_first.unsqueeze(-1)
        next_state = []
        for layer, hidden in zip(self.layers, state.split(1), strict=True):
            features, hidden = layer(features, hidden, keeps)
            next_state.append(hidden)
        return self.norm(features), torch.cat(next_state)


class MinGRULayer(nn.Module):
    """Minimal gated recurrent units, then a feed-forward layer."""

    def __init__(self, hidden_size: int, chrono_init: int | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.gate_and_candidate = nn.Linear(hidden_size, 2 * hidden_size)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
        )
        if chrono_init is not None:
            with torch.no_grad():
                self.gate_and_candidate.bias[: hidden_size // 2] = -chrono_biases(hidden_size // 2, chrono_init)

    def forward(self, inputs: Tensor, hidden: Tensor, keeps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the outputs, [T, B, hidden_size], and the memory after the last row, [1, B, hidden_size].

        Args:
            inputs: [T, B, hidden_size] float.
            hidden: [1, B, hidden_size] float, the memory before the first row.
            keeps: [T, B, 1] bool, false where an episode starts; None if none does.
        """
        gate, candidate = self.gate_and_candidate(self.norm(inputs)).chunk(2, dim=-1)
        gate = gate.sigmoid()
        decay = 1.0 - gate if keeps is None else (1.0 - gate) * keeps
        memory = linear_scan(decay, gate * candidate, hidden)
        outputs = inputs + memory
        return outputs + self.feed_forward(outputs), memory[-1:]
