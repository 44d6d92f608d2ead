"""Heads map features to outputs, ``[..., feature_size] -> [..., *out_shape]``, with any leading dimensions.

``out_shape`` is ``(n_actions,)`` or ``(n_actions, n_atoms)``.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from seqrl_lightning.types import require

HeadCallable = Callable[[int, tuple[int, ...]], nn.Module]
"""Builds a head from ``feature_size`` and ``out_shape``."""

LinearCallable = Callable[[int, int], nn.Module]
"""Builds a linear layer from its input size and output size, like ``torch.nn.Linear``."""


class LinearHead(nn.Module):
    """One linear layer.

    Args:
        feature_size: Size of the torso's output.
        out_shape: Shape of one output.
        linear: Builds the layer.
    """

    def __init__(self, feature_size: int, out_shape: tuple[int, ...], linear: LinearCallable = nn.Linear) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.output = linear(feature_size, math.prod(out_shape))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., *out_shape]``."""
        outputs: Tensor = self.output(features)
        return outputs if len(self.out_shape) == 1 else outputs.view(*features.shape[:-1], *self.out_shape)


class DuelingHead(nn.Module):
    """A stream for the state's value and one for the actions' advantages (arXiv:1511.06581, eq. 9).

    ``Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')``, for each atom if the outputs are distributions.

    Args:
        feature_size: Size of the torso's output.
        out_shape: Shape of one output, with the actions as the first dimension.
        hidden_size: Units of a hidden layer in each stream; None for no hidden layer.
        linear: Builds the layers.

    Raises:
        ConfigurationError: If a hidden layer has no units.
    """

    def __init__(
        self,
        feature_size: int,
        out_shape: tuple[int, ...],
        hidden_size: int | None = None,
        linear: LinearCallable = nn.Linear,
    ) -> None:
        super().__init__()
        require(
            hidden_size is None or hidden_size > 0,
            "model.network.head.hidden_size",
            hidden_size,
            "positive, or null for none",
        )
        self.out_shape = tuple(out_shape)

        def stream(n_out: int) -> nn.Sequential:
            if hidden_size is None:
                return nn.Sequential(linear(feature_size, n_out))
            return nn.Sequential(linear(feature_size, hidden_size), nn.ReLU(), linear(hidden_size, n_out))

        self.value = stream(math.prod(self.out_shape[1:]))
        self.advantage = stream(math.prod(self.out_shape))

    def forward(self, features: Tensor) -> Tensor:
        """``[..., feature_size] -> [..., *out_shape]``."""
        leading = features.shape[:-1]
        value = self.value(features).view(*leading, 1, *self.out_shape[1:])
        advantage = self.advantage(features).view(*leading, *self.out_shape)
        outputs: Tensor = value + (advantage - advantage.mean(-len(self.out_shape), keepdim=True))
        return outputs
