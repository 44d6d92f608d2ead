import copy
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seqrl_lightning.networks import MLP, Table
from seqrl_lightning.types import ConfigurationError


@pytest.mark.parametrize("network", [MLP, Table])
def test_observations_of_any_dtype_are_taken(network: type) -> None:
    net = network((3,), (2,))
    observation = torch.randint(0, 2, (1, 4, 3), dtype=torch.uint8)
    assert_close(net(observation, None)[0], net(observation.float(), None)[0])
    assert net.double()(observation, None)[0].dtype == torch.float64
    assert copy.deepcopy(net).float()(observation, None)[0].dtype == torch.float32


def test_the_mlp_has_the_layers_it_was_asked_for() -> None:
    shapes = [tuple(p.shape) for p in MLP((10,), (4,), (32, 16)).parameters() if p.ndim == 2]
    assert sorted(shapes) == [(4, 16), (16, 32), (32, 10)]
    assert [tuple(p.shape) for p in MLP((10,), (4,), ()).parameters()] == [(4, 10), (4,)]


def test_layer_norm_comes_before_the_relu() -> None:
    net = MLP((3,), (2,), (8,), layer_norm=True)
    features, _ = net.torso(1000.0 * torch.randn(1, 5, 3))
    weight, bias = net.hidden[0][0].weight, net.hidden[0][0].bias  # type: ignore[index]
    observation = torch.randn(1, 5, 3)
    before = observation @ weight.T + bias
    normed = (before - before.mean(-1, keepdim=True)) / (before.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert_close(net.torso(observation)[0], normed.relu())
    assert features.max() < 8**0.5  # no element of a normalized vector is larger


def test_the_table_starts_at_zero_and_looks_up() -> None:
    net = Table((3,), (2,))
    assert net.table.weight.count_nonzero() == 0
    with torch.no_grad():
        net.table.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert_close(net(torch.eye(3).unsqueeze(0), None)[0][0], torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]))


def test_a_layer_without_units_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"model.network.hidden_sizes is \(8, 0\)"):
        MLP((3,), (2,), (8, 0))


class Doubled(MLP):
    """An MLP whose features are twice as large."""

    def torso(self, observation: Any, state: Any = None, is_first: Any = None) -> Any:
        features, state = super().torso(observation, state, is_first)
        return 2.0 * features, state


def test_a_torso_of_ones_own_is_what_forward_computes() -> None:
    net = Doubled((3,), (2,))
    observation = torch.randn(1, 5, 3)
    assert_close(net(observation)[0], net.head(net.torso(observation)[0]))
    assert_close(net.torso(observation)[0], 2.0 * MLP.torso(net, observation)[0])
