"""Networks as a YAML file names them."""

from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from seqrl_lightning.networks import DuelingHead, Network, NetworkCallable, NoisyLinear

VECTORS = ("DeltaNet", "FFM", "FrameStack", "GRU", "LRU", "LSTM", "MLP", "MinGRU", "RNN", "Table", "Transformer")
IMAGES = ("ImpalaResNet", "NatureCNN")


def build(config: dict[str, Any], obs_shape: tuple[int, ...]) -> Network:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=NetworkCallable)
    net: Network = parser.instantiate_classes(parser.parse_object({"network": config})).network(obs_shape, (2, 3))
    return net


@pytest.mark.filterwarnings("ignore:.*instantiate_classes.*")
@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
def test_short_names_do(name: str) -> None:
    """Also where torch has a class of the same name."""
    obs_shape = (3, 36, 36) if name in IMAGES else (4,)
    net = build({"class_path": name}, obs_shape)
    assert type(net).__name__ == name
    assert net(torch.zeros(2, 1, *obs_shape))[0].shape == (2, 1, 2, 3)


@pytest.mark.filterwarnings("ignore:.*instantiate_classes.*")
def test_heads_and_layers_are_settings() -> None:
    head = {"class_path": "DuelingHead", "init_args": {"hidden_size": 8, "linear": "NoisyLinear"}}
    linear = {"class_path": "NoisyLinear", "init_args": {"sigma_0": 0.2}}
    net = build({"class_path": "MLP", "init_args": {"hidden_sizes": [16], "head": head, "linear": linear}}, (4,))
    assert isinstance(net.head, DuelingHead)
    assert [type(layer) for layer in net.head.value] == [NoisyLinear, nn.ReLU, NoisyLinear]
    (hidden,) = net.hidden  # type: ignore[misc, union-attr]
    assert hidden.weight_sigma[0, 0].item() == pytest.approx(0.2 / 4**0.5)
