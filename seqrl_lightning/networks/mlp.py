"""The multilayer perceptron."""

import itertools
import math

from torch import Tensor, nn

from seqrl_lightning.networks.heads import HeadCallable, LinearCallable, LinearHead
from seqrl_lightning.networks.network import Network
from seqrl_lightning.types import State, require


class MLP(Network):
    """Linear layers, each followed by a ReLU, on the flattened observation.

    Args:
        obs_shape: Shape of one observation.
        out_shape: Shape of the outputs for one observation.
        hidden_sizes: Units of each hidden layer.
        head: Builds the head.
        linear: Builds the hidden layers.
        layer_norm: Whether each hidden layer is normalised before its ReLU (as in PQN, arXiv:2407.04811).

    Raises:
        ConfigurationError: If a hidden layer has no units.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden_sizes: tuple[int, ...] = (128, 128),
        head: HeadCallable = LinearHead,
        linear: LinearCallable = nn.Linear,
        layer_norm: bool = False,
    ) -> None:
        require(min(hidden_sizes, default=1) > 0, "model.network.hidden_sizes", hidden_sizes, "positive sizes")
        sizes = [math.prod(obs_shape), *hidden_sizes]
        super().__init__(sizes[-1], out_shape, head)

        def layer(n_in: int, n_out: int) -> nn.Module:
            return nn.Sequential(linear(n_in, n_out), nn.LayerNorm(n_out)) if layer_norm else linear(n_in, n_out)

        self.hidden = nn.ModuleList(layer(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes))

    def torso(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, feature_size]``; the state is passed through."""
        return self._features(observation).view(*observation.shape[:2], -1), state

    def forward(self, observation: Tensor, state: State = None, is_first: Tensor | None = None) -> tuple[Tensor, State]:
        """``[T, B, *obs] -> [T, B, *out_shape]``; the state is passed through."""
        if type(self).torso is not MLP.torso:  # a subclass computes other features
            return super().forward(observation, state, is_first)
        length, batch_size = observation.shape[:2]
        return self.head(self._features(observation)).view(length, batch_size, *self.out_shape), state

    def _features(self, observation: Tensor) -> Tensor:
        # Two dimensions up to the end: a linear layer would flatten three, and unflatten them, forward and backward.
        length, batch_size = observation.shape[:2]
        features = observation.reshape(length * batch_size, -1).to(self.dtype)
        for layer in self.hidden:
            features = layer(features).relu_()
        return features
