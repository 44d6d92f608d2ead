from typing import Any

import pytest
import torch
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from seqrl_lightning.networks import DuelingHead, LinearHead
from seqrl_lightning.types import ConfigurationError


@pytest.mark.parametrize("head", [LinearHead, DuelingHead])
@pytest.mark.parametrize("out_shape", [(3,), (3, 5)])
@pytest.mark.parametrize("leading", [(7,), (4, 7), (4, 7, 2)])
def test_any_leading_dimensions(head: Any, out_shape: tuple[int, ...], leading: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = head(6, out_shape)
    features = torch.randn(*leading, 6)
    outputs = net(features)
    assert outputs.shape == (*leading, *out_shape)
    one_by_one = torch.stack([net(row) for row in features.view(-1, 6)])
    assert_close(outputs, one_by_one.view_as(outputs))


def set_weights(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)  # type: ignore[operator, union-attr]
        layer.bias.copy_(bias)  # type: ignore[operator, union-attr]


def test_dueling_by_hand() -> None:
    """V = 2x + 1; A = (x, -x, 3x + 3); so for x = 3: V = 7, A = (3, -3, 12) with mean 4."""
    head = DuelingHead(1, (3,))
    set_weights(head.value[0], tensor([[2.0]]), tensor([1.0]))
    set_weights(head.advantage[0], tensor([[1.0], [-1.0], [3.0]]), tensor([0.0, 0.0, 3.0]))
    assert_close(head(tensor([[3.0]])), tensor([[7.0 - 1.0, 7.0 - 7.0, 7.0 + 8.0]]))


def test_dueling_takes_the_mean_over_actions_for_each_atom() -> None:
    head = DuelingHead(1, (2, 3))
    set_weights(head.value[0], torch.zeros(3, 1), tensor([10.0, 20.0, 30.0]))
    set_weights(head.advantage[0], torch.zeros(6, 1), tensor([1.0, 2.0, 3.0, 5.0, 8.0, 1.0]))
    expected = tensor([[10.0 - 2, 20.0 - 3, 30.0 + 1], [10.0 + 2, 20.0 + 3, 30.0 - 1]])
    assert_close(head(torch.ones(1)), expected)


def test_hidden_layers_of_the_streams() -> None:
    head = DuelingHead(6, (3,), hidden_size=4)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters() if p.ndim == 2}
    assert sorted(shapes.values()) == [(1, 4), (3, 4), (4, 6), (4, 6)]
    with pytest.raises(ConfigurationError, match="hidden_size is 0"):
        DuelingHead(6, (3,), hidden_size=0)
