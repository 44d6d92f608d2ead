"""Networks as a YAML file names them."""

from typing import Any

import pytest
from jsonargparse import ArgumentParser
from torch import nn

from seqrl_lightning.networks import DuelingHead, Network, NetworkCallable, NoisyLinear
from seqrl_lightning.parts import blank_observations
from tests.networks.exported import NETWORKS, shape_read_by


def build(config: dict[str, Any], obs_shape: tuple[int, ...]) -> Network:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=NetworkCallable)
    net: Network = parser.instantiate_classes(parser.parse_object({"network": config})).network(obs_shape, (2, 3))
    return net


@pytest.mark.filterwarnings("ignore:.*instantiate_classes.*")
@pytest.mark.parametrize("name", NETWORKS)
def test_short_names_do(name: str) -> None:
    """Also where torch has a class of the same name."""
    obs_shape = shape_read_by(name)
    net = build({"class_path": name}, obs_shape)
    assert type(net) is NETWORKS[name]
    assert net(blank_observations(obs_shape, 2))[0].shape == (2, 1, 2, 3)


@pytest.mark.filterwarnings("ignore:.*instantiate_classes.*")
def test_heads_and_layers_are_settings() -> None:
    head = {"class_path": "DuelingHead", "init_args": {"hidden_size": 8, "linear": "NoisyLinear"}}
    linear = {"class_path": "NoisyLinear", "init_args": {"sigma_0": 0.2}}
    net = build({"class_path": "MLP", "init_args": {"hidden_sizes": [16], "head": head, "linear": linear}}, (4,))
    assert isinstance(net.head, DuelingHead)
    assert [type(layer) for layer in net.head.value] == [NoisyLinear, nn.ReLU, NoisyLinear]
    (hidden,) = net.hidden  # type: ignore[misc, union-attr]
    assert hidden.weight_sigma[0, 0].item() == pytest.approx(0.2 / 4**0.5)
