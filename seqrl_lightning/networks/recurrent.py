"""Gated recurrent networks, computed by torch's fused kernels."""

import math

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State, require


def with_starts(observation: Tensor, state: Tensor, is_first: Tensor | None) -> Tensor:
    """Flatten observations and append a column that is 1 where an episode starts.

    Without it, gates would have to learn to recognize an empty state.

    Args:
        observation: [T, B, *obs] float.
        state: [S, B, state_size] float; where it is zero, an episode starts in row 0.
        is_first: [T, B] bool, or None.

    Returns:
        [T, B, obs_size + 1] float.
    """
    starts = observation.new_zeros(*observation.shape[:2], 1)
    if is_first is not None:
        starts.copy_(is_first.unsqueeze(-1))
    starts[0].masked_fill_(~state.any(0).any(-1, keepdim=True), 1.0)
    return torch.cat([observation.flatten(2), starts], dim=-1)


class RecurrentNetwork(Network):
    """A recurrent core on the flattened observation, optionally with a linear layer and ReLU before it.

    An additional input tells whether an episode starts.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of the core.
        encoder_size: Units of a linear layer with ReLU between observation and core; None for no such layer.
        chrono_init: The longest delay to bridge, in time steps: the gates of half of the units start with time scales
            drawn from the delays up to it (arXiv:1804.11188). The other half keeps torch's initialization, with short
            time scales; None keeps it for all units.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``chrono_init`` is less than 3.
    """

    numbers_per_unit: int  # in the state: 1 for h, 2 for h and c

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        encoder_size: int | None = None,
        chrono_init: int | None = 128,
        head: HeadCallable = LinearHead,
    ) -> None:
        for name, size in (("hidden_size", hidden_size), ("encoder_size", encoder_size)):
            require(size is None or size > 0, f"model.network.{name}", size, "positive")
        super().__init__(hidden_size, out_shape, head)
        self.state_size = self.numbers_per_unit * hidden_size
        obs_size = math.prod(obs_shape)
        self.encoder = (
            nn.Identity() if encoder_size is None else nn.Sequential(nn.Linear(obs_size, encoder_size), nn.ReLU())
        )
        self.core = self.build_core((encoder_size or obs_size) + 1, hidden_size)
        if chrono_init is not None:
            self.init_memory(chrono_biases(hidden_size // 2, chrono_init))

    def build_core(self, input_size: int, hidden_size: int) -> nn.Module:
        """Build the core: ``inputs [T, B, input_size], state -> features [T, B, hidden_size], state``."""
        raise NotImplementedError

    @torch.no_grad()
    def init_memory(self, biases: Tensor) -> None:
        """Set the biases of the gates that keep the memory, for the first half of the units.

        A gate that keeps much writes little. Where an episode starts there is nothing to keep: the weight of the last
        input, which marks starts, cancels the bias, so that the first observation is written as if there were none.

        Args:
            biases: [hidden_size // 2] float.
        """
        raise NotImplementedError

    def run_core(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core over rows in which no episode starts.

        Args:
            inputs: [T, B, input_size] float.
            state: [1, B, state_size] float.

        Returns:
            Features, [T, B, hidden_size], and the state after the last row.
        """
        features, state = self.core(inputs, state)
        return features, state

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``, and the state ``[1, B, state_size]``."""
        observation = observation.to(self.dtype)
        if state is None:
            state = observation.new_zeros(1, observation.shape[1], self.state_size)
        inputs = with_starts(self.encoder(observation.flatten(2)), state, is_first)
        if is_first is None:
            return self.run_core(inputs, state)
        features = []
        # If no episode starts after row 0, as in most batches, this is one call of the fused kernel.
        starts = [0, *(is_first[1:].any(1).nonzero().flatten() + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(inputs)], strict=True):
            state = state.masked_fill(is_first[start].unsqueeze(-1), 0.0)
            segment, state = self.run_core(inputs[start:end], state)
            features.append(segment)
        return torch.cat(features) if len(features) > 1 else features[0], state


class GRU(RecurrentNetwork):
    """A gated recurrent unit (arXiv:1406.1078). Its state is ``[1, B, hidden_size]``.

    Settings as for :class:`RecurrentNetwork`.
    """

    numbers_per_unit = 1

    def build_core(self, input_size: int, hidden_size: int) -> nn.Module:
        """Build torch's GRU."""
        return nn.GRU(input_size, hidden_size)

    @torch.no_grad()
    def init_memory(self, biases: Tensor) -> None:
        """Set the update gate, which keeps the memory where it is open. Torch's order is reset, update, new."""
        slow = slice(len(biases))
        self.core.bias_ih_l0.chunk(3)[1][slow] = biases  # type: ignore[operator]
        self.core.weight_ih_l0[:, -1].chunk(3)[1][slow] = -biases  # type: ignore[index]


class LSTM(RecurrentNetwork):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997). Its state is h and c, ``[1, B, 2 * hidden_size]``.

    Settings as for :class:`RecurrentNetwork`.
    """

    numbers_per_unit = 2

    def build_core(self, input_size: int, hidden_size: int) -> nn.Module:
        """Build torch's LSTM."""
        return nn.LSTM(input_size, hidden_size)

    @torch.no_grad()
    def init_memory(self, biases: Tensor) -> None:
        """Set the forget gate, and the input gate to the opposite. Torch's order is input, forget, cell, output."""
        write, forget, _, _ = self.core.bias_ih_l0.chunk(4)  # type: ignore[operator]
        slow = slice(len(biases))
        forget[slow], write[slow] = biases, -biases
        self.core.weight_ih_l0[:, -1].chunk(4)[0][slow] = biases  # type: ignore[index]

    def run_core(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core, with h and c side by side in the state."""
        h, c = state.chunk(2, dim=-1)
        features, (h, c) = self.core(inputs, (h.contiguous(), c.contiguous()))
        return features, torch.cat([h, c], dim=-1)


def chrono_biases(size: int, longest_delay: int) -> Tensor:
    """Draw biases of gates that forget after 1 to ``longest_delay - 1`` steps: ``log(U(1, longest_delay - 1))``.

    Args:
        size: Number of gates.
        longest_delay: In time steps, at least 3.

    Returns:
        [size] float32.
    """
    require(longest_delay >= 3, "model.network.chrono_init", longest_delay, "at least 3 time steps, or null")
    return torch.empty(size).uniform_(1.0, longest_delay - 1.0).log()
