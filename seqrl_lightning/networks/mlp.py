"""The multilayer perceptron."""

import itertools
import math

from torch import Tensor, nn

from seqrl_lightning.types import State, require


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
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], n_actions)

    def forward(self, observation: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Values every action. ``[T, B, *obs] -> [T, B, n_actions]``; the state is handed through."""
        features = observation.flatten(2).to(self.head.weight.dtype)
        return self.head(self.body(features)), state
