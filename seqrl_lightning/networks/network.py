"""What every network is: a torso and a head."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearHead
from seqrl_lightning.types import State


class Network(nn.Module):
    """A torso that turns observations into features, and a head that turns features into outputs.

    A subclass writes ``torso``, and is built as ``Net(obs_shape, out_shape, **settings)``. Between two calls a network
    carries a ``state``: one float32 tensor with the batch in dimension 1, ``[S, B, ...]``, or None for "nothing yet",
    which is also what a feed-forward network carries. ``is_first[t, b]`` says that row t starts a new episode: its
    state is reset before row t is read. None says that no row does.

    Args:
        feature_size: Features that the torso puts out.
        out_shape: What the head puts out for each observation: ``(n_actions,)`` for Q-values,
            ``(n_actions, n_atoms)`` for distributions.
        head: Builds the head from ``feature_size`` and ``out_shape``.
    """

    def __init__(self, feature_size: int, out_shape: tuple[int, ...], head: HeadCallable = LinearHead) -> None:
        super().__init__()
        self.feature_size = feature_size
        self.out_shape = tuple(out_shape)
        self.head = head(feature_size, self.out_shape)
        self._typical = (next(self.head.parameters()),)  # looked up once: it takes as long as a small layer

    @property
    def dtype(self) -> torch.dtype:
        """What observations are cast to before they are computed with."""
        return self._typical[0].dtype

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """Reads observations in order.

        Args:
            observation: [T, B, *obs] of any dtype.
            state: What an earlier call has returned, or None.
            is_first: [T, B] bool, or None.

        Returns:
            Features [T, B, feature_size], and the state after the last row.
        """
        raise NotImplementedError

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """The same as ``torso``, with the head's outputs [T, B, *out_shape] instead of features."""
        features, state = self.torso(observation, state, is_first)
        return self.head(features), state


NetworkCallable = Callable[[tuple[int, ...], tuple[int, ...]], Network]
"""Builds a network from ``obs_shape`` and ``out_shape``."""
