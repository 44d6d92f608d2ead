"""The multilayer perceptron."""

import itertools
import math

import numpy as np
from torch import Tensor, nn

from seqrl_lightning.networks.numpy_layers import NumPyLayers
from seqrl_lightning.types import Array, FloatArray, State, require


class MLP(nn.Module):
    """Linear layers with ReLU between them, on the flattened observation.

    Args:
        obs_shape: Shape of one observation.
        n_actions: Number of actions.
        hidden_sizes: Units of each hidden layer.

    Raises:
        ConfigurationError: If a hidden layer has no units.
    """

    def __init__(self, obs_shape: tuple[int, ...], n_actions: int, hidden_sizes: tuple[int, ...] = (128, 128)) -> None:
        super().__init__()
        require(min(hidden_sizes, default=1) > 0, "model.network.hidden_sizes", hidden_sizes, "positive sizes")
        sizes = [math.prod(obs_shape), *hidden_sizes]
        self.hidden = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes))
        self.head = nn.Linear(sizes[-1], n_actions)
        self._numpy_layers = NumPyLayers([*self.hidden, self.head])

    def forward(self, observation: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Values every action. ``[T, B, *obs] -> [T, B, n_actions]``; the state is handed through."""
        length, batch_size = observation.shape[:2]
        # Two dimensions in between: a linear layer would flatten three, and unflatten them, forward and backward.
        features = observation.reshape(length * batch_size, -1).to(self.head.weight.dtype)
        for layer in self.hidden:
            features = layer(features).relu_()
        return self.head(features).view(length, batch_size, -1), state

    def forward_numpy(self, observation: Array) -> FloatArray:
        """What ``forward`` computes, for one step on the CPU in float32. ``[N, *obs] -> [N, n_actions]``."""
        features: FloatArray = np.asarray(observation, np.float32).reshape(len(observation), -1)
        *hidden, (weight, bias) = self._numpy_layers()
        for hidden_weight, hidden_bias in hidden:
            features = features @ hidden_weight
            features += hidden_bias
            np.maximum(features, 0.0, out=features)
        return features @ weight + bias
