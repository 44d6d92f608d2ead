"""Recurrent networks with gates, computed by torch's kernels, and what all recurrent networks share."""

import itertools
import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import Network, require_sizes
from seqrl_lightning.networks.tape import Tape
from seqrl_lightning.types import State, require

_SATURATED = 1e4  # the sigmoid of it is exactly 1, and of its negative exactly 0; float16 holds it


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
        hidden_size: Units of each layer of the core.
        encoder_size: Units of a linear layer with ReLU between observation and core; None for no such layer.
        num_layers: Layers of the core.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive.
    """

    remembers = True
    numbers_per_unit = 1  # in the state: 1 for h, 2 for h and c

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        encoder_size: int | None = None,
        num_layers: int = 1,
        head: HeadCallable = LinearHead,
    ) -> None:
        require_sizes(hidden_size=hidden_size, encoder_size=encoder_size, num_layers=num_layers)
        super().__init__(hidden_size, out_shape, head)
        self.state_size = self.numbers_per_unit * hidden_size
        obs_size = math.prod(obs_shape)
        self.encoder = (
            nn.Identity() if encoder_size is None else nn.Sequential(nn.Linear(obs_size, encoder_size), nn.ReLU())
        )
        self.core = self.build_core((encoder_size or obs_size) + 1, hidden_size, num_layers)

    @abstractmethod
    def build_core(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Build the core, one of torch's."""

    def run_core(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core over rows in which no episode starts.

        Args:
            inputs: [T, B, input_size] float.
            state: [num_layers, B, state_size] float.

        Returns:
            Features, [T, B, hidden_size], and the state after the last row.
        """
        features, state = self.core(inputs, state)
        return features, state

    def run_episodes(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core over several episodes, from each row in which one starts in any column to the next such row.

        Args:
            inputs: [T, B, input_size] float.
            state: [num_layers, B, state_size] float, zero where an episode starts in row 0.
            starts: [T, B] bool, on any device: an episode starts in the row.

        Returns:
            Features, [T, B, hidden_size], and the state after the last row.
        """
        segments = []
        if starts.device.type == "cpu":
            rows = [0, *(starts[1:].any(1).nonzero().flatten() + 1).tolist(), len(inputs)]
        else:  # which rows start one isn't known here, so each may
            rows = list(range(len(inputs) + 1))
        starts = starts.to(state.device, non_blocking=True)
        for first, end in itertools.pairwise(rows):
            state = state.masked_fill(starts[first].unsqueeze(-1), 0.0)
            segment, state = self.run_core(inputs[first:end], state)
            segments.append(segment)
        return torch.cat(segments), state

    def run_torso(
        self, observation: Tensor, state: State = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Call ``torso`` with ``is_first`` where it is: on the CPU it is read; nothing waits for another device."""
        return self.torso(observation, state, is_first)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``, and the state ``[num_layers, B, state_size]``."""
        observation = observation.to(self.dtype)
        if state is None:
            state = observation.new_zeros(self.core.num_layers, observation.shape[1], self.state_size)
        starts = None if is_first is None else is_first.to(state.device, non_blocking=True)
        inputs = with_starts(self.encoder(observation.flatten(2)), state, starts)
        if starts is not None:
            state = state.masked_fill(starts[0].unsqueeze(-1), 0.0)
        if is_first is None or not _may_start_later(is_first):
            features, next_state = self.run_core(inputs, state)
        else:
            features, next_state = self.run_episodes(inputs, state, is_first)
        return features, next_state.to(state.dtype)


class GatedNetwork(RecurrentNetwork):
    """A recurrent network whose gates keep and reset its memory.

    Episodes that start within a batch cost little: additional rows, in which the gates are shut, reset the memory
    between two episodes, so that the core reads all of them in one call (see :class:`Tape`).

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of each layer of the core.
        encoder_size: Units of a linear layer with ReLU between observation and core; None for no such layer.
        chrono_init: The longest delay to bridge, in time steps: the gates of half of the units start with time scales
            drawn from the delays up to it (arXiv:1804.11188). The other half keeps torch's initialization, with short
            time scales; None keeps it for all units.
        num_layers: Layers of the core.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``chrono_init`` is less than 3.
    """

    gates_to_reset: tuple[float, ...]  # in torch's order: -1 for a gate that is shut, 1 for open, 0 for either
    gates_to_hold: tuple[float, ...]

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        encoder_size: int | None = None,
        chrono_init: int | None = 128,
        num_layers: int = 1,
        head: HeadCallable = LinearHead,
    ) -> None:
        super().__init__(obs_shape, out_shape, hidden_size, encoder_size, num_layers, head)
        if chrono_init is not None:
            for layer in range(num_layers):
                self.init_memory(layer, chrono_biases(hidden_size // 2, chrono_init))
        gates = torch.tensor([self.gates_to_reset, self.gates_to_hold]).T
        self.gate_weights: Tensor  # [gates * hidden_size, 2], of the inputs that mark a tape's rows
        self.register_buffer("gate_weights", _SATURATED * gates.repeat_interleave(hidden_size, 0), persistent=False)

    @abstractmethod
    def init_memory(self, layer: int, biases: Tensor) -> None:
        """Set the biases of the gates that keep the memory, for the first half of a layer's units.

        A gate that keeps much writes little. Where an episode starts there is nothing to keep: in the first layer, the
        weight of the last input, which marks starts, cancels the bias, so that the first observation is written as if
        there were none.

        Args:
            layer: Number of the layer.
            biases: [hidden_size // 2] float.
        """

    @abstractmethod
    def run_layer(self, inputs: Tensor, state: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Run one layer with other weights than its own.

        Args:
            inputs: [T, B, input_size] float.
            state: [1, B, state_size] float.
            weights: Of inputs and of recurrence, then their biases.

        Returns:
            Features, [T, B, hidden_size], and the state after the last row.
        """

    @abstractmethod
    def with_h(self, state: Tensor, h: Tensor) -> Tensor:
        """Replace the part of the state that is a layer's output, in [1, B, state_size], by [1, B, hidden_size]."""

    def run_episodes(self, inputs: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core over all episodes in one call for each layer.

        The inputs' bias becomes the weight of an input that is 0 in rows that reset or hold. ``torch.compile`` can't
        compile kernels with weights that aren't a module's.
        """
        if torch.compiler.is_compiling():
            return super().run_episodes(inputs, state, starts)
        tape = Tape.of(starts, like=inputs)
        features, next_state = tape.write(inputs), []
        for layer_state, (w_inputs, w_recurrent, b_inputs, b_recurrent) in zip(
            state.unsqueeze(1), self.core.all_weights, strict=True
        ):
            weight = torch.cat([w_inputs, b_inputs.unsqueeze(1), self.gate_weights], dim=1)
            weights = [weight, w_recurrent, torch.zeros_like(b_inputs), b_recurrent]
            features, last = self.run_layer(torch.cat([features, tape.kind], dim=-1), layer_state, weights)
            next_state.append(self.with_h(last, tape.read(features, slice(-1, None))))
        return tape.read(features), torch.cat(next_state)


class GRU(GatedNetwork):
    """A gated recurrent unit (arXiv:1406.1078). Its state is ``[num_layers, B, hidden_size]``.

    Settings as for :class:`GatedNetwork`.
    """

    gates_to_reset = (-1.0, -1.0, 0.0)  # torch's order is reset, update, new
    gates_to_hold = (-1.0, 1.0, 0.0)

    def build_core(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Build torch's GRU."""
        return nn.GRU(input_size, hidden_size, num_layers)

    @torch.no_grad()
    def init_memory(self, layer: int, biases: Tensor) -> None:
        """Set the update gate, which keeps the memory where it is open."""
        weight, _, bias, _ = self.core.all_weights[layer]
        slow = slice(len(biases))
        bias.chunk(3)[1][slow] = biases
        if layer == 0:
            weight[:, -1].chunk(3)[1][slow] = -biases

    def run_layer(self, inputs: Tensor, state: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Run one layer."""
        return torch.gru(inputs, state, weights, True, 1, 0.0, self.training, False, False)

    def with_h(self, state: Tensor, h: Tensor) -> Tensor:
        """The state is the layer's output."""
        return h


class LSTM(GatedNetwork):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).

    Its state is h and c, ``[num_layers, B, 2 * hidden_size]``.

    Settings as for :class:`GatedNetwork`.
    """

    numbers_per_unit = 2
    gates_to_reset = (-1.0, -1.0, 0.0, -1.0)  # torch's order is input, forget, cell, output
    gates_to_hold = (-1.0, 1.0, 0.0, 0.0)

    def build_core(self, input_size: int, hidden_size: int, num_layers: int) -> nn.RNNBase:
        """Build torch's LSTM."""
        return nn.LSTM(input_size, hidden_size, num_layers)

    @torch.no_grad()
    def init_memory(self, layer: int, biases: Tensor) -> None:
        """Set the forget gate, and the input gate to the opposite."""
        weight, _, bias, _ = self.core.all_weights[layer]
        write, forget, _, _ = bias.chunk(4)
        slow = slice(len(biases))
        forget[slow], write[slow] = biases, -biases
        if layer == 0:
            weight[:, -1].chunk(4)[0][slow] = biases

    def run_core(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the core, with h and c side by side in the state."""
        h, c = state.chunk(2, dim=-1)
        features, (h, c) = self.core(inputs, (h.contiguous(), c.contiguous()))
        return features, torch.cat([h, c], dim=-1)

    def run_layer(self, inputs: Tensor, state: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Run one layer, with h and c side by side in the state."""
        h, c = (part.contiguous() for part in state.chunk(2, dim=-1))
        features, h, c = torch.lstm(inputs, (h, c), weights, True, 1, 0.0, self.training, False, False)
        return features, torch.cat([h, c], dim=-1)

    def with_h(self, state: Tensor, h: Tensor) -> Tensor:
        """Replace h; c is right, since rows that hold keep it."""
        return torch.cat([h, state.chunk(2, dim=-1)[1]], dim=-1)


def _may_start_later(is_first: Tensor) -> bool:
    """Whether an episode may start after row 0: known on the CPU, assumed on other devices, for which nothing waits."""
    if len(is_first) == 1:  # as when acting
        return False
    return is_first.device.type != "cpu" or bool(is_first[1:].any())


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
