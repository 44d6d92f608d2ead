"""A memory of associations, written by the delta rule."""

import functools
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.networks.network import require_heads
from seqrl_lightning.networks.parallel import ParallelLayer, ParallelNetwork, feed_forward

_CHUNK = 32


class DeltaNet(ParallelNetwork):
    """Layers of fast weights that the delta rule writes (arXiv:2102.11174), each followed by a feed-forward layer.

    Each head remembers a matrix, which maps keys to values. A row of the input looks up a query, ``o[t] = S[t] q[t]``,
    after it has corrected what its key maps to: ``S[t] = S[t - 1] + beta[t] (v[t] - S[t - 1] k[t]) k[t]^T`` (eq. 24). A
    key that recurs thus replaces its value. Keys and queries have length 1 after a SiLU, and time is read in
    chunks (arXiv:2406.06484, section 3). The state is ``[num_layers, B, hidden_size ** 2 / num_heads]``: the matrices.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_size: Size of each layer's inputs and outputs.
        num_layers: Number of layers.
        num_heads: Number of matrices in each layer, of ``hidden_size / num_heads`` rows and columns.
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
        num_heads: int = 2,
        head: HeadCallable = LinearHead,
    ) -> None:
        require_heads(hidden_size, num_heads)
        layer = functools.partial(DeltaNetLayer, hidden_size, num_heads)
        super().__init__(obs_shape, out_shape, hidden_size, num_layers, layer, head)


class DeltaNetLayer(ParallelLayer):
    """Fast weights, then a feed-forward layer."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.memory_size = hidden_size**2 // num_heads
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.strength = nn.Linear(hidden_size, num_heads)  # the logit of beta
        self.read_norm = nn.LayerNorm(hidden_size // num_heads, bias=False)
        self.read = nn.Linear(hidden_size, hidden_size)
        self.feed_forward = feed_forward(hidden_size)

    def mix(self, inputs: Tensor, memory: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the queries find. See :meth:`ParallelLayer.mix`."""
        query, key, value = self.query_key_value(inputs).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key = (F.normalize(F.silu(x), dim=-1) for x in (query, key))
        strength = self.strength(inputs).sigmoid().unsqueeze(-1)
        matrix = memory.view(inputs.shape[1], self.num_heads, key.shape[-1], -1)
        with _full_precision(inputs.device.type):  # there is no triangular solver of half precision
            query, key, value, strength = (x.to(memory.dtype) for x in (query, key, value, strength))
            found, matrix = delta_rule(query, key, value, strength, is_first, matrix)
        return self.read(self.read_norm(found).flatten(2)), matrix.reshape(memory.shape)


def _full_precision(device_type: str) -> AbstractContextManager[object]:
    """Switch autocast off, on devices that have it: ``meta``, on which the networks of files are built, hasn't."""
    has_autocast = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if has_autocast else nullcontext()


def delta_rule(
    query: Tensor, key: Tensor, value: Tensor, strength: Tensor, is_first: Tensor | None, matrix: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute ``S[t] = S[t - 1] + k[t] (beta[t] (v[t] - k[t] S[t - 1]))^T`` and ``o[t] = q[t] S[t]``, chunk by chunk.

    Within a chunk, what each row writes, ``u[t] = beta[t] (v[t] - k[t] S[t - 1])``, depends on what the rows before it
    in its episode wrote: a triangular system of linear equations (arXiv:2406.06484, eq. 8 to 11).

    Args:
        query: [T, B, H, K] float, of H heads.
        key: [T, B, H, K] float, of length 1.
        value: [T, B, H, V] float.
        strength: [T, B, H, 1] float in [0, 1], beta.
        is_first: [T, B] bool, or None: an episode starts in the row, so that S is zero before it.
        matrix: [B, H, K, V] float, S before the first row.

    Returns:
        o, [T, B, H, V], and S after the last row.
    """
    length, size = len(query), min(len(query), _CHUNK)

    def in_chunks(rows: Tensor) -> Tensor:  # [T, B, H, D] -> [n, B, H, size, D]
        padded = F.pad(rows, (0, 0, 0, 0, 0, 0, 0, -length % size))
        return padded.view(-1, size, *rows.shape[1:]).permute(0, 2, 3, 1, 4)

    query, key, value, strength = (in_chunks(x) for x in (query, key, value, strength))
    starts = query.new_zeros(length, query.shape[1]) if is_first is None else is_first
    episode = in_chunks(starts[..., None, None].long()).cumsum(-2)  # in the chunk, [n, B, 1, size, 1]
    is_seen = (episode == episode.mT).tril().to(key.dtype)
    is_carried = (episode == 0).to(key.dtype)  # the matrix before the chunk is not yet forgotten
    is_kept = (episode == episode[..., -1:, :]).to(key.dtype)  # nor is the row after the chunk

    system = strength * (key @ key.mT) * is_seen  # the diagonal is taken to be 1
    targets = strength * torch.cat([value, key * is_carried], dim=-1)
    solution = torch.linalg.solve_triangular(system, targets, upper=False, unitriangular=True) if size > 1 else targets
    to_write, to_correct = solution.split([value.shape[-1], key.shape[-1]], dim=-1)
    attention = query @ key.mT * is_seen
    chunks = (to_write, to_correct, query * is_carried, attention, (key * is_kept).mT, is_carried[..., -1:, :])
    found = []
    for write, correct, carried_query, attends, kept_key, carries in zip(*(x.unbind() for x in chunks), strict=True):
        written = write - correct @ matrix
        found.append(carried_query @ matrix + attends @ written)
        matrix = carries * matrix + kept_key @ written
    return torch.stack(found).permute(0, 3, 1, 2, 4).flatten(0, 1)[:length], matrix
