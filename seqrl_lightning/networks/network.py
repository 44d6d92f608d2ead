"""The contract of all networks: a torso and a head."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.types import State, require


class Network(nn.Module):
    """A torso that turns observations into features, and a head that turns features into outputs.

    A subclass defines ``torso`` and is built as ``Net(obs_shape, out_shape, **settings)``. Between two calls a network
    carries a ``state``: one float32 tensor with the batch in dimension 1, ``[S, B, ...]``, or None if there is nothing
    to carry yet; a feed-forward network always carries None. ``is_first[t, b]`` means that a new episode starts in row
    t: its state is reset before row t is read. If ``is_first`` is None, no row starts one.

    Args:
        feature_size: Size of the torso's output.
        out_shape: Shape of the head's output for one observation: ``(n_actions,)`` for Q-values,
            ``(n_actions, n_atoms)`` for distributions.
        head: Builds the head from ``feature_size`` and ``out_shape``.

    Attributes:
        remembers: Whether it carries a state from step to step.
        reads_parts: Whether it is built from a :class:`~seqrl_lightning.parts.PackedShape`, and reads observations
            that have parts.
    """

    remembers: bool = False
    reads_parts: bool = False

    def __init__(self, feature_size: int, out_shape: tuple[int, ...], head: HeadCallable = LinearHead) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.out_shape = tuple(out_shape)
        self.head = head(feature_size, self.out_shape)
        self._typical = (next(self.head.parameters()),)  # kept, because looking it up takes as long as a small layer

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that observations are cast to before they enter the first layer."""
        return self._typical[0].dtype

    def take_head(self) -> nn.Module:
        """Return the head, and leave none: the network's outputs are then its features, which something else reads."""
        head, self.head = self.head, nn.Identity()
        self.out_shape = (self.feature_size,)
        self._typical = (next(self.parameters(), self._typical[0]),)
        return head

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute features from observations, in their order.

        Args:
            observation: [T, B, *obs] of any dtype.
            state: The state that an earlier call returned, or None.
            is_first: [T, B] bool, or None.

        Returns:
            Features [T, B, feature_size], and the state after the last row.
        """
        raise NotImplementedError

    def run_torso(
        self, observation: Tensor, state: State = None, is_first: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Call ``torso`` with ``is_first`` on its device; batches hold it on the CPU."""
        if is_first is not None:
            is_first = is_first.to(observation.device, non_blocking=True)
        return self.torso(observation, state, is_first)

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Compute the head's outputs [T, B, *out_shape] from observations, and the state after the last row.

        Args as for ``torso``; ``is_first`` may be on the CPU where the observations are on another device.
        """
        features, state = self.run_torso(observation, state, is_first)
        return self.head(features), state


NetworkCallable = Callable[[tuple[int, ...], tuple[int, ...]], Network]
"""Builds a network from ``obs_shape`` and ``out_shape``."""


def require_sizes(**sizes: int | None) -> None:
    """Refuse sizes of a network that are given but not positive.

    Raises:
        ConfigurationError: If one isn't.
    """
    for name, size in sizes.items():
        require(size is None or size > 0, f"model.network.{name}", size, "positive")


def require_heads(hidden_size: int, num_heads: int) -> None:
    """Refuse a layer that can't be divided among its heads.

    Raises:
        ConfigurationError: If it can't.
    """
    require_sizes(num_heads=num_heads)
    must_be = f"a positive multiple of model.network.num_heads = {num_heads}"
    require(hidden_size > 0 and hidden_size % num_heads == 0, "model.network.hidden_size", hidden_size, must_be)
