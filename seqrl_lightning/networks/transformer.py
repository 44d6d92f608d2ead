"""A Transformer over the last observations."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.history import with_history
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State, require


class Transformer(Network):
    """Causal self-attention over a window of the present episode (DTQN, arXiv:2206.01078).

    The gates around each part are GRU cells (GTrXL, arXiv:1910.06764, eq. 6) that start as identities. Time enters as a
    learned bias for each distance between two steps, and an additional input tells whether an episode starts. A layer
    looks back ``context_length - 1`` steps, so that all layers together look back ``num_layers`` times as far. The
    state holds that many observations, ``[num_layers * (context_length - 1), B, obs_size + 1]``, with a mark of those
    of the present episode in the last column: acting step by step gives the same outputs as reading the whole sequence.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Units of each layer.
        num_layers: Number of layers.
        num_heads: Number of attention heads in each layer.
        context_length: Number of observations that a layer attends to, including the present one.
        head: Builds the head.

    Raises:
        ConfigurationError: If a size is not positive, or ``hidden_size`` is not a multiple of ``num_heads``.
    """

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
        for name, size in (("num_layers", num_layers), ("num_heads", num_heads)):
            require(size > 0, f"model.network.{name}", size, "positive")
        require(context_length >= 2, "model.network.context_length", context_length, "at least 2")
        expected = f"a positive multiple of model.network.num_heads = {num_heads}"
        require(hidden_size > 0 and hidden_size % num_heads == 0, "model.network.hidden_size", hidden_size, expected)
        super().__init__(hidden_size, out_shape, head)
        self.context_length = context_length
        self.encoder = nn.Linear(math.prod(obs_shape) + 1, hidden_size)
        self.layers = nn.ModuleList(TransformerLayer(hidden_size, num_heads, context_length) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, hidden_size]``."""
        reach = self.context_length - 1
        inputs = observation.flatten(2).to(self.dtype)
        rows, starts, episode, next_state = with_history(inputs, state, is_first, len(self.layers) * reach)
        n_past = 0 if state is None else num_remembered(episode[: -len(inputs)])
        rows = torch.cat([rows, starts.unsqueeze(-1)], dim=-1)
        rows, episode = (x[-n_past - len(inputs) :] for x in (rows, episode))

        time = torch.arange(len(rows), device=rows.device)
        distance = time.unsqueeze(1) - time
        is_seen = (distance >= 0) & (distance <= reach)  # [query, key]
        if state is not None or is_first is not None:
            is_seen = is_seen & (episode.T.unsqueeze(2) == episode.T.unsqueeze(1)).unsqueeze(1)  # [B, 1, query, key]
        distance = distance.clamp(0, reach)

        features = self.encoder(rows).transpose(0, 1)  # [B, S + T, hidden_size]
        for layers_above, layer in zip(range(len(self.layers) - 1, -1, -1), self.layers, strict=True):
            n_rows = len(inputs) + layers_above * reach  # the layers above see nothing older
            features = layer(features, distance, is_seen, n_rows)
            distance, is_seen = (x[..., -n_rows:, -n_rows:] for x in (distance, is_seen))
        return self.norm(features).transpose(0, 1), next_state


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

    def forward(self, inputs: Tensor, distance: Tensor, is_seen: Tensor, n_rows: int) -> Tensor:
        """Compute the last ``n_rows`` rows.

        Args:
            inputs: [B, T, hidden_size] float.
            distance: [T, T] int64, the number of steps from the key (second dimension) to the query (first).
            is_seen: [T, T] or [B, 1, T, T] bool, whether the query attends to the key.
            n_rows: Number of rows to compute; all of them if it is larger than T.

        Returns:
            [B, min(n_rows, T), hidden_size] float.
        """
        n_rows = min(n_rows, inputs.shape[1])
        normed, inputs = self.norm(inputs), inputs[:, -n_rows:]
        query = self._heads(self.query(normed[:, -n_rows:]))
        key, value = (self._heads(x) for x in self.key_and_value(normed).chunk(2, dim=-1))
        bias = self.distance_bias[:, distance[-n_rows:]].masked_fill(~is_seen[..., -n_rows:, :], -torch.inf)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        outputs = self._gated(self.attention_gate, self.output(attended.transpose(1, 2).flatten(2)), inputs)
        return self._gated(self.feed_forward_gate, self.feed_forward(outputs), outputs)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    @staticmethod
    def _gated(gate: nn.Module, update: Tensor, inputs: Tensor) -> Tensor:
        outputs: Tensor = gate(update.relu().flatten(0, 1), inputs.flatten(0, 1))
        return outputs.view_as(inputs)


def num_remembered(episode: Tensor) -> int:
    """Number of the state's last rows that hold something in any column; the rows before them need not be read.

    An exported graph reads all rows, since its shapes can't depend on values; its outputs are the same.

    Args:
        episode: [S, B] int64, -1 for rows that hold nothing, which come first.
    """
    return len(episode) if torch.compiler.is_compiling() else int((episode >= 0).any(1).sum())


def gate(hidden_size: int) -> nn.GRUCell:
    """Make a GRU cell that initially passes its state through; the state is the residual stream between layers."""
    cell = nn.GRUCell(hidden_size, hidden_size)
    with torch.no_grad():
        cell.bias_ih.chunk(3)[1].add_(2.0)  # torch's order is reset, update, new
    return cell
