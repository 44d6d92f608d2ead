"""Base classes of networks whose memory is computed in parallel over time."""

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import Network, require_sizes
from seqrl_lightning.networks.recurrent import with_starts
from seqrl_lightning.types import State


class ParallelLayer(nn.Module):
    """A memory, then a feed-forward layer, each with a layer norm before it and a residual connection around it.

    A subclass builds ``norm``, the parts of its memory, and ``feed_forward``.
    """

    memory_size: int  # numbers that the layer carries from step to step
    norm: nn.Module
    feed_forward: nn.Module

    @abstractmethod
    def mix(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mix each row with what is remembered of the rows before it in its episode.

        Args:
            inputs: [T, B, hidden_size] float, normalized.
            memory: [1, B, memory_size] float, before the first row.
            is_first: [T, B] bool, or None: an episode starts in the row, so that the memory is empty there.

        Returns:
            [T, B, hidden_size], and the memory after the last row, [1, B, memory_size].
        """

    def forward(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the outputs, [T, B, hidden_size], and the memory after the last row; see :meth:`mix`."""
        mixed, memory = self.mix(self.norm(inputs), memory, is_first)
        outputs = inputs + mixed
        return outputs + self.feed_forward(outputs), memory


class ParallelNetwork(Network):
    """Layers of memory that are computed in parallel over time.

    A linear layer comes before the first of them. Each part has a layer norm before it and a residual connection around
    it. An additional input tells whether an episode starts. The state is ``[num_layers, B, memory_size]``.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Size of the layers' inputs and outputs.
        num_layers: Number of layers.
        layer: Builds a layer.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive.
    """

    remembers = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int,
        num_layers: int,
        layer: Callable[[], ParallelLayer],
        head: HeadCallable = LinearHead,
    ) -> None:
        require_sizes(hidden_size=hidden_size, num_layers=num_layers)
        super().__init__(hidden_size, out_shape, head)
        self.encoder = nn.Linear(math.prod(obs_shape) + 1, hidden_size)
        layers = [layer() for _ in range(num_layers)]
        self.memory_size = layers[0].memory_size
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(hidden_size)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``, and the state ``[num_layers, B, memory_size]``."""
        observation = observation.to(self.dtype)
        if state is None:
            state = observation.new_zeros(len(self.layers), observation.shape[1], self.memory_size)
        features = self.encoder(with_starts(observation, state, is_first))
        next_state = []
        for layer, memory in zip(self.layers, state.split(1), strict=True):
            features, memory = layer(features, memory, is_first)
            next_state.append(memory)
        return self.norm(features), torch.cat(next_state).to(state.dtype)


def feed_forward(hidden_size: int) -> nn.Sequential:
    """Make a feed-forward layer, ``[..., hidden_size] -> [..., hidden_size]``."""
    return nn.Sequential(
        nn.LayerNorm(hidden_size), nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size)
    )


def forgets(decay: Tensor, is_first: Tensor | None) -> Tensor:
    """Set decays to 0 where an episode starts.

    Args:
        decay: [T, B, ...], or with 1 for a size that is constant.
        is_first: [T, B] bool, or None.

    Returns:
        [T, B, ...].
    """
    return decay if is_first is None else decay * ~is_first.view(*is_first.shape, *[1] * (decay.dim() - 2))
