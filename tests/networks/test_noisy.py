import copy

import pytest
import torch
from torch.testing import assert_close

from seqrl_lightning import speed
from seqrl_lightning.networks import MLP, DuelingHead, LinearHead, NoisyLinear
from seqrl_lightning.types import ConfigurationError


def test_evaluation_uses_the_means() -> None:
    layer = NoisyLinear(4, 3).eval()
    inputs = torch.randn(5, 4)
    assert_close(layer(inputs), inputs @ layer.weight.T + layer.bias)


def test_training_draws_fresh_noise_from_torchs_generator_once_for_a_batch() -> None:
    layer = NoisyLinear(4, 3)
    inputs = torch.randn(1, 4).expand(6, 4)
    torch.manual_seed(1)
    first, second = layer(inputs), layer(inputs)
    assert not torch.allclose(first, second)
    assert_close(first, first[:1].expand(6, 3))
    torch.manual_seed(1)
    assert_close(layer(inputs), first)
    torch.manual_seed(1)
    assert_close(copy.deepcopy(layer)(inputs), first)  # no noise is stored
    assert set(layer.state_dict()) == {"weight", "bias", "weight_sigma", "bias_sigma"}


def test_the_noise_has_the_papers_mean_and_variance() -> None:
    """f(e)^2 = |e| has the mean sqrt(2 / pi), so a weight's noise has variance sigma^2 2 / pi, a bias's sqrt(2/pi)."""
    torch.manual_seed(0)
    layer, sigma_0, n_in = NoisyLinear(16, 2, sigma_0=0.4), 0.4, 16
    noise = torch.stack([layer(torch.ones(n_in)).detach() for _ in range(5_000)]) - layer.eval()(torch.ones(n_in))
    sigma = sigma_0 / n_in**0.5
    variance = sigma**2 * (n_in * 2 / torch.pi + (2 / torch.pi) ** 0.5)
    assert_close(noise.mean(0), torch.zeros(2), atol=0.03, rtol=0)
    assert_close(noise.var(0), torch.full((2,), variance), rtol=0.1, atol=0)
    assert layer.weight.abs().max() <= 1 / n_in**0.5


def test_gradients_reach_means_and_sigmas() -> None:
    net = MLP((4,), (2,), (8,), head=lambda *shapes: DuelingHead(*shapes, 8, NoisyLinear), linear=NoisyLinear)
    net(torch.randn(1, 5, 4))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert sum("sigma" in name for name, _ in net.named_parameters()) == 2 * 5
    assert speed.numpy_forward(net) is None


def test_a_noisy_head_acts_through_torch() -> None:
    net = MLP((4,), (2,), (8,), head=lambda *shapes: LinearHead(*shapes, NoisyLinear))
    assert speed.numpy_forward(net) is None


def test_a_negative_sigma_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="sigma_0 is -1"):
        NoisyLinear(3, 2, sigma_0=-1.0)
