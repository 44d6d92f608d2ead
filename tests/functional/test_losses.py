import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import huber_losses, weighted_mean


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (1.0, [0.5 * 0.5**2, 1.0 * (3.0 - 0.5)]),  # inside: e^2 / 2; outside: delta * (|e| - delta / 2)
        (2.0, [0.5 * 0.5**2, 2.0 * (3.0 - 1.0)]),
        (None, [0.5 * 0.5**2, 0.5 * 3.0**2]),
    ],
)
def test_huber_losses_by_hand(delta: float | None, expected: list[float]) -> None:
    assert_close(huber_losses(tensor([0.5, -3.0]), tensor([0.0, 0.0]), delta), tensor(expected))


def test_the_gradient_is_the_error_cut_at_delta() -> None:
    prediction = tensor([0.5, -3.0], requires_grad=True)
    huber_losses(prediction, torch.zeros(2), 1.0).sum().backward()
    assert prediction.grad is not None
    assert_close(prediction.grad, tensor([0.5, -1.0]))


def test_weighted_mean_by_hand() -> None:
    losses = tensor([[1.0, 3.0]])
    assert_close(weighted_mean(losses, None), tensor(2.0))
    assert_close(weighted_mean(losses, tensor([[0.5, 0.0]])), tensor(0.5))  # 0: it does not count
