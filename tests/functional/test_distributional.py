import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import categorical_projection, quantile_huber_losses, quantile_midpoints


def projection_by_the_paper(probabilities: torch.Tensor, values: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Algorithm 1 of arXiv:1707.06887, atom by atom."""
    v_min, v_max = float(support[0]), float(support[-1])
    step = (v_max - v_min) / (len(support) - 1)
    projected = torch.zeros(len(support))
    for probability, value in zip(probabilities.tolist(), values.tolist(), strict=True):
        b = (min(max(value, v_min), v_max) - v_min) / step
        lower, upper = int(b), min(int(b) + 1, len(support) - 1)
        projected[lower] += probability * (1 - (b - lower))
        projected[upper] += probability * (b - lower)
    return projected


def test_the_projection_by_hand() -> None:
    support = tensor([0.0, 1.0, 2.0])
    probabilities = tensor([0.5, 0.25, 0.25])
    values = tensor([0.25, 1.0, 9.0])  # between two atoms, on one, beyond the end
    assert_close(categorical_projection(probabilities, values, support), tensor([0.375, 0.375, 0.25]))


def test_the_projection_equals_the_papers_loop() -> None:
    torch.manual_seed(0)
    support = torch.linspace(-3.0, 5.0, 11)
    probabilities = torch.rand(6, 11).softmax(-1)
    values = torch.randn(6, 11) * 4
    projected = categorical_projection(probabilities, values, support)
    for row in range(6):
        expected = projection_by_the_paper(probabilities[row], values[row], support)
        assert_close(projected[row], expected, atol=1e-5, rtol=1e-4)
    assert_close(projected.sum(-1), torch.ones(6))


def test_the_quantile_midpoints() -> None:
    assert_close(quantile_midpoints(4), tensor([0.125, 0.375, 0.625, 0.875]))


def test_quantile_huber_losses_by_hand() -> None:
    quantiles, fractions = tensor([[0.0, 4.0]]), tensor([0.25, 0.75])
    targets = tensor([[1.0, 2.0]])
    # errors: (1, 2) of the first quantile, below; (-3, -2) of the second, above the targets
    first = 0.25 * (0.5 * 1.0**2 + (2.0 - 0.5)) / 2
    second = 0.25 * ((3.0 - 0.5) + (2.0 - 0.5)) / 2
    assert_close(quantile_huber_losses(quantiles, fractions, targets, 1.0), tensor([first + second]))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("kappa", [1e-3, None])
def test_its_minimum_is_the_quantile(kappa: float | None) -> None:
    targets = torch.arange(1.0, 101.0)[None]
    fractions = tensor([0.1, 0.5, 0.9])
    quantiles = torch.full((1, 3), 50.0, requires_grad=True)
    optimizer = torch.optim.SGD([quantiles], lr=1.0)
    for _ in range(2000):
        optimizer.zero_grad()
        quantile_huber_losses(quantiles, fractions, targets, kappa).sum().backward()
        optimizer.step()
    assert_close(quantiles.detach(), tensor([[10.0, 50.0, 90.0]]), atol=1.5, rtol=0.0)
