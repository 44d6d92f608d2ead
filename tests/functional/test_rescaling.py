import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from seqrl_lightning.functional import rescale_values, unscale_values


def test_rescaling_by_hand() -> None:
    assert_close(rescale_values(tensor([3.0, -8.0, 0.0]), 0.01), tensor([1.0 + 0.03, -2.0 - 0.08, 0.0]))


@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_its_inverse_takes_every_value_back(epsilon: float) -> None:
    values = torch.cat([torch.linspace(-10.0, 10.0, 2001), torch.logspace(-6, 6, 200), -torch.logspace(-6, 6, 200)])
    assert_close(unscale_values(rescale_values(values, epsilon), epsilon), values, rtol=1e-5, atol=1e-7)
