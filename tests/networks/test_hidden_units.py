"""Units of networks: which can be told apart, how active they are, and how they begin anew."""

import functools

import pytest
import torch
from torch import nn

from seqrl_lightning.networks import (
    GRU,
    MLP,
    Composed,
    DuelingHead,
    NatureCNN,
    NoisyLinear,
    SmallCNN,
    Table,
    Transformer,
)
from seqrl_lightning.networks.hidden_units import hidden_layers, mean_activations, recycle, reset
from seqrl_lightning.parts import PackedShape

PARTS = PackedShape({"numbers": ("float32", (4,)), "flags": ("uint8", (3,))})
CORE = functools.partial(MLP, hidden_sizes=(9, 8))
DUELING = functools.partial(DuelingHead, hidden_size=5)
OBSERVED = {"CNN": (3, 5, 5), "CNN without a linear layer": (1, 36, 36), "parts": PARTS}
NETWORKS = {
    "MLP": (lambda: MLP((4,), (3,), (8, 6)), {"hidden.0": 8, "hidden.1": 6}),
    "normalized": (lambda: MLP((4,), (3,), (8, 6), layer_norm=True), {"hidden.0.0": 8, "hidden.1.0": 6}),
    "dueling": (
        lambda: MLP((4,), (3,), (8,), head=DUELING),
        {"hidden.0": 8, "head.value.0": 5, "head.advantage.0": 5},
    ),
    "noisy": (lambda: MLP((4,), (3,), (8,), linear=NoisyLinear), {"hidden.0": 8}),
    "CNN": (
        lambda: SmallCNN((3, 5, 5), (2,), (4, 6), 7),
        {"convolutions.0.0": 4, "convolutions.1.0": 6, "hidden.0": 7},
    ),
    "CNN without a linear layer": (
        lambda: NatureCNN((1, 36, 36), (2,), None),
        {"convolutions.0": 32, "convolutions.2": 64, "convolutions.4": 64},
    ),
    "parts": (
        lambda: Composed(PARTS, (2,), network=CORE),
        {"core.hidden.0": 9, "core.hidden.1": 8},
    ),
    "memory with a head": (lambda: GRU((4,), (3,), 8, head=DUELING), {"head.value.0": 5, "head.advantage.0": 5}),
    "Transformer": (
        lambda: Transformer((4,), (3,), hidden_size=8, num_heads=2),
        {"layers.0.feed_forward.1": 16, "layers.1.feed_forward.1": 16},
    ),
    "memory alone": (lambda: GRU((4,), (3,), 8), {}),
    "table": (lambda: Table((4,), (3,)), {}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_units_that_can_be_told_apart(name: str) -> None:
    build, expected = NETWORKS[name]
    assert {layer.name: layer.num_units for layer in hidden_layers(build())} == expected


def test_activations_are_those_behind_the_relu_by_hand() -> None:
    net = MLP((1,), (1,), (3,))
    with torch.no_grad():
        net.hidden[0].weight.copy_(torch.tensor([[1.0], [-1.0], [2.0]]))  # type: ignore[operator]
        net.hidden[0].bias.zero_()  # type: ignore[operator]
    with mean_activations(hidden_layers(net)) as means:
        net(torch.tensor([[[1.0], [-3.0]]]))
    assert means()[0].tolist() == [0.5, 1.5, 1.0]
    assert not net.head.output._forward_pre_hooks  # acting in NumPy asks for it


@pytest.mark.parametrize(
    "build", [lambda: SmallCNN((3, 4, 5), (2,), (4, 6), 7), lambda: SmallCNN((3, 4, 5), (2,), (4,), None)]
)
def test_channels_keep_their_weights_where_pixels_are_flattened(build: functools.partial[nn.Module]) -> None:
    """A channel that is made constant is the only one whose weights change the mean that its readers see."""
    net = build()
    (*_, layer) = [of for of in hidden_layers(net) if of.name.startswith("convolutions")]
    with torch.no_grad():
        for parameter in layer.incoming[0].parameters():
            parameter.fill_(0.1)  # active on any pixels
            parameter[2] = 0.0
    with mean_activations([layer]) as means:
        net(torch.rand(1, 6, 3, 4, 5))
    assert (means()[0] == 0).tolist() == [channel == 2 for channel in range(layer.num_units)]


@pytest.mark.parametrize("name", [name for name, (_, layers) in NETWORKS.items() if layers and name != "normalized"])
def test_recycling_silent_units_changes_no_output_and_no_other_weight(name: str) -> None:
    build = NETWORKS[name][0]
    net, fresh = build().eval(), build()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for parameter in net.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    layer, new = hidden_layers(net)[0], hidden_layers(fresh)[0]
    with torch.no_grad():
        for parameter in layer.incoming[0].parameters():
            parameter[1] = 0.0  # a unit that is silent
    observation = torch.zeros(2, 3, *OBSERVED.get(name, (4,)), dtype=torch.uint8 if name == "parts" else torch.float32)
    observation = observation if name == "parts" else torch.rand_like(observation)
    expected, before = net(observation)[0], {key: value.clone() for key, value in net.state_dict().items()}
    is_recycled = torch.arange(layer.num_units) == 1
    recycle(layer, new, is_recycled, optimizer)
    torch.testing.assert_close(net(observation)[0], expected)
    for parameter, renewed in zip(layer.incoming[0].parameters(), new.incoming[0].parameters(), strict=True):
        assert torch.equal(parameter[1], renewed[1])
        moments = optimizer.state[parameter]["exp_avg"]
        assert (moments.reshape(layer.num_units, -1) == 0).all(1).tolist() == is_recycled.tolist()
    for reader in layer.readers:
        weight = reader.weight.flatten(1)  # type: ignore[operator,union-attr]
        columns = weight.reshape(len(weight), layer.num_units, -1)
        assert (columns == 0).all(2).all(0).tolist() == is_recycled.tolist()
    touched = {id(p) for module in (*layer.incoming, *layer.readers) for p in module.parameters()}
    for key, parameter in net.named_parameters():
        assert id(parameter) in touched or torch.equal(parameter, before[key])


def test_a_reset_module_is_a_new_one_with_a_new_optimizer_state() -> None:
    net, fresh = MLP((4,), (3,), (8,)), MLP((4,), (3,), (8,))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for parameter in net.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    reset(net.head, fresh.head, optimizer)
    assert torch.equal(net.head.output.weight, fresh.head.output.weight)
    assert not torch.equal(net.hidden[0].weight, fresh.hidden[0].weight)  # type: ignore[arg-type]
    assert all(not value.any() for value in optimizer.state[net.head.output.weight].values())
    assert optimizer.state[net.hidden[0].weight]["step"] == 1  # type: ignore[index]
