"""A Transformer over the last observations."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import Network, require_heads, require_sizes
from seqrl_lightning.types import State, require


class Transformer(Network):
    """Causal self-attention over a window of the current episode (DTQN, arXiv:2206.01078).

    The gates around each part are GRU cells (GTrXL, arXiv:1910.06764, eq. 6) that start as identities. Time enters as a
    learned bias for each distance between two steps, and an additional input tells whether an episode starts. A layer
    looks back ``context_length - 1`` steps, so that all layers together look back ``num_layers`` times as far.

    The state holds the keys and values of that many rows for each layer, ``[num_layers * (context_length - 1), B,
    2 * hidden_size + 1]``, with a mark of those of the current episode in the last column, so that acting computes one
    row a step. As long as the weights don't change, acting step by step gives the same outputs as reading the whole
    sequence.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of each layer.
        num_layers: Number of layers.
        num_heads: Number of attention heads in each layer.
        context_length: Number of observations that a layer attends to, including the current one.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``hidden_size`` is not a multiple of ``num_heads``.
    """

    remembers = True

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_size: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        context_length: int = 128,
        head: HeadCallable = LinearHead,
    ) -> None:
        require_sizes(num_layers=num_layers)
        require_heads(hidden_size, num_heads)
        require(context_length >= 2, "model.network.context_length", context_length, "at least 2")
        super().__init__(hidden_size, out_shape, head)
        self.context_length = context_length
        self.state_size = 2 * hidden_size + 1
        self.encoder = nn.Linear(math.prod(obs_shape) + 1, hidden_size)
        self.layers = nn.ModuleList(TransformerLayer(hidden_size, num_heads, context_length) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``, and the state."""
        inputs = observation.flatten(2).to(self.dtype)
        past = self._remembered(state, inputs)
        is_past = past[0][..., -1] > 0
        starts = torch.zeros_like(inputs[..., 0], dtype=torch.bool) if is_first is None else is_first.clone()
        starts[0] |= ~is_past[-1] if len(is_past) else True  # nothing is remembered yet
        episode = torch.cat([is_past.long() - 1, starts.long().cumsum(0)])  # [S + T, B]; -1 for rows that hold nothing

        distance, is_seen = self._attention_span(episode, len(inputs))
        features = self.encoder(torch.cat([inputs, starts.unsqueeze(-1)], dim=-1))
        memories = []
        for layer, memory in zip(self.layers, past, strict=True):
            features, memory = layer(features, memory, distance, is_seen)
            memories.append(memory)
        return self.norm(features), self._next_state(memories, episode)

    def _remembered(self, state: State, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of each layer that hold something in any column, [S, B, state_size].

        The outputs don't depend on the others. On a device and in an exported graph all rows are returned: their
        number must not depend on values.
        """
        if state is None:
            return (inputs.new_zeros(0, inputs.shape[1], self.state_size),) * len(self.layers)
        num_rows = len(self.layers) * (self.context_length - 1)
        fits = len(state) == num_rows and state.shape[2] == self.state_size
        must_be = f"[{num_rows}, B, {self.state_size}]"
        require(fits, "the shape of the Transformer's state", list(state.shape), must_be)
        past = state.chunk(len(self.layers))
        if torch.compiler.is_compiling() or state.device.type != "cpu":
            return tuple(past)
        num_empty = len(past[0]) - int(past[0][..., -1].any(1).sum())  # which come first
        return tuple(memory[num_empty:] for memory in past)

    def _attention_span(self, episode: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return the steps from each key to each query, [T, S + T], and whether it attends to it, [B, 1, T, S + T]."""
        time = torch.arange(len(episode), device=episode.device)
        distance = time[-length:].unsqueeze(1) - time
        is_near = (distance >= 0) & (distance < self.context_length)
        is_same = episode.T[:, -length:].unsqueeze(2) == episode.T.unsqueeze(1)
        return distance.clamp(0, self.context_length - 1), (is_near & is_same).unsqueeze(1)

    def _next_state(self, memories: list[Tensor], episode: Tensor) -> Tensor:
        """Return the last rows of each layer, zero where they don't belong to the current episode."""
        reach = self.context_length - 1
        is_kept = (episode[-reach:] == episode[-1]).unsqueeze(-1)
        padding = (0, 0, 0, 0, reach - len(is_kept), 0)
        return torch.cat([F.pad(memory[-reach:] * is_kept, padding) for memory in memories])


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward layer, each with a layer norm before it and a gate after it."""

    def __init__(self, hidden_size: int, num_heads: int, context_length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_and_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, context_length))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, 2 * hidden_size),
            nn.ReLU(),
            nn.Linear(2 * hidden_size, hidden_size),
        )
        self.attention_gate = gate(hidden_size)
        self.feed_forward_gate = gate(hidden_size)

    def forward(self, inputs: Tensor, memory: Tensor, distance: Tensor, is_seen: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the rows of ``inputs`` and to remembered ones before them.

        Args:
            inputs: [T, B, hidden_size] float.
            memory: [S, B, 2 * hidden_size + 1] float: keys and values of S earlier rows, and a mark.
            distance: [T, S + T] int64, the number of steps from the key (second dimension) to the query (first).
            is_seen: [B, 1, T, S + T] bool, whether the query attends to the key.

        Returns:
            [T, B, hidden_size], and the memory with the rows of ``inputs``, [S + T, B, 2 * hidden_size + 1].
        """
        normed = self.norm(inputs)
        written = F.pad(self.key_and_value(normed), (0, 1), value=1.0)
        memory = torch.cat([memory, written.to(memory.dtype)])
        rows = memory[..., :-1].to(normed.dtype)
        if rows.device.type != "cpu":  # a GPU's kernels read rows at even addresses only
            rows = rows.contiguous()
        key, value = (self._heads(x) for x in rows.chunk(2, dim=-1))
        bias = self.distance_bias[:, distance].masked_fill(~is_seen, -torch.inf)
        attended = F.scaled_dot_product_attention(self._heads(self.query(normed)), key, value, attn_mask=bias)
        outputs = self._gated(self.attention_gate, self.output(attended.permute(2, 0, 1, 3).flatten(2)), inputs)
        return self._gated(self.feed_forward_gate, self.feed_forward(outputs), outputs), memory

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).permute(1, 2, 0, 3)  # [T, B, D] -> [B, heads, T, D / heads]

    @staticmethod
    def _gated(gate: nn.Module, update: Tensor, inputs: Tensor) -> Tensor:
        outputs: Tensor = gate(update.relu().flatten(0, 1), inputs.flatten(0, 1))
        return outputs.view_as(inputs)


def gate(hidden_size: int) -> nn.GRUCell:
    """Make a GRU cell that initially passes its state through; the state is the residual stream between layers."""
    cell = nn.GRUCell(hidden_size, hidden_size)
    with torch.no_grad():
        cell.bias_ih.chunk(3)[1].add_(2.0)  # torch's order is reset, update, new
    return cell
