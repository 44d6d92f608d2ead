import copy
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from seqrl_lightning.networks import DuelingHead, ImpalaResNet, NatureCNN, NoisyLinear
from seqrl_lightning.networks.cnn import ResidualBlock, channels_first
from seqrl_lightning.types import ConfigurationError


@pytest.mark.parametrize("network", [NatureCNN, ImpalaResNet])
@pytest.mark.parametrize("obs_shape", [(40, 44), (4, 40, 44), (40, 44, 3), (2, 40, 44, 3)])
def test_images_of_any_layout(network: Any, obs_shape: tuple[int, ...]) -> None:
    net = network(obs_shape, (3, 5), hidden_size=16)
    observation = torch.randint(0, 256, (2, 3, *obs_shape), dtype=torch.uint8)
    outputs, state = net(observation, None)
    assert outputs.shape == (2, 3, 3, 5)
    assert state is None
    assert_close(outputs, net(observation / 255.0)[0])  # uint8 is scaled, float isn't


def test_channels_are_the_smaller_of_the_first_and_the_last_dimension() -> None:
    image = torch.rand(2, 3, 8, 9)
    assert_close(channels_first(image), image)
    assert_close(channels_first(image.permute(0, 2, 3, 1)), image)
    assert_close(channels_first(image[:, 0]), image[:, :1])
    stack = torch.rand(2, 4, 8, 9, 3)  # four images in color: the first one's channels come first
    assert channels_first(stack).shape == (2, 12, 8, 9)
    assert_close(channels_first(stack)[:, :3], stack[:, 0].permute(0, 3, 1, 2))


def test_nature_is_as_large_as_published() -> None:
    """Atari's 4 x 84 x 84 and 18 actions: 1,693,362 parameters."""
    assert sum(p.numel() for p in NatureCNN((4, 84, 84), (18,)).parameters()) == (
        (4 * 64 * 32 + 32) + (32 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (3136 * 512 + 512) + (512 * 18 + 18)
    )


def test_impala_features_have_one_size_for_all_images() -> None:
    sizes = {ImpalaResNet((3, n, n), (2,), width_scale=2, hidden_size=None).feature_size for n in (64, 84, 96)}
    assert sizes == {64 * 6 * 6}
    assert ImpalaResNet((4, 84, 84), (2,), pool_size=None, hidden_size=None).feature_size == 32 * 11 * 11


def test_a_residual_block_without_weights_is_the_identity() -> None:
    block = ResidualBlock(4, spectral_norm=False)
    images = torch.randn(2, 4, 5, 5)
    assert not torch.allclose(block(images), images)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    assert_close(block(images), images)


def test_spectral_norm_holds_the_residual_convolutions_largest_singular_value_at_one() -> None:
    torch.manual_seed(0)
    net = ImpalaResNet((3, 16, 16), (2,), spectral_norm=True, hidden_size=8)
    normed = [m for m in net.modules() if hasattr(m, "parametrizations")]
    assert len(normed) == 3 * 2 * 2
    for _ in range(30):  # each forward pass in training mode is a step of the power iteration
        net(torch.rand(1, 1, 3, 16, 16))
    for layer in normed:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert_close(largest, torch.tensor(1.0), atol=0.02, rtol=0)
    same = copy.deepcopy(net).eval()
    observation = torch.rand(1, 2, 3, 16, 16)
    assert_close(same(observation)[0], net.eval()(observation)[0])


def test_gradients_reach_every_parameter() -> None:
    head = lambda *shapes: DuelingHead(*shapes, hidden_size=8, linear=NoisyLinear)  # noqa: E731
    net = ImpalaResNet((3, 16, 16), (2, 4), spectral_norm=True, hidden_size=None, head=head)
    net(torch.rand(2, 2, 3, 16, 16))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("network", "obs_shape", "message"),
    [
        (NatureCNN, (10,), r"the observations' shape is \(10,\); it must be an image's"),
        (NatureCNN, (3, 20, 20), "at least 36 x 36"),
        (ImpalaResNet, (10,), "an image's"),
    ],
)
def test_what_is_no_image_is_refused(network: Any, obs_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        network(obs_shape, (2,))


def test_nature_normalizes_each_layer() -> None:
    network = NatureCNN((4, 84, 84), (6,), layer_norm=True)
    norms = [tuple(layer.normalized_shape) for layer in network.modules() if isinstance(layer, torch.nn.LayerNorm)]
    assert norms == [(32, 20, 20), (64, 9, 9), (64, 7, 7), (512,)]  # as in CleanRL's PQN
