import pytest
import torch

from seqrl_lightning.functional import savings, trials_to_criterion


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ([0.8, 0.8, 0.8, 0.8], 1),
        ([0.2, 1.0, 1.0, 0.4, 0.8, 0.8], 2),  # the mean over 2..5 is 0.8
        ([1.0, 0.0, 1.0, 1.0, 1.0, 1.0], 3),  # the first one is followed by a failure
        ([0.6, 1.0, 1.0, 1.0, 1.0], 2),  # its own completion counts too
        ([1.0, 1.0, 1.0], None),  # nobody knows the fourth
        ([float("nan"), 1.0, 1.0, 1.0, 1.0], 2),
        ([0.7] * 10, None),
        ([], None),
    ],
)
def test_trials_to_criterion(completion: list[float], expected: int | None) -> None:
    assert trials_to_criterion(torch.tensor(completion, dtype=torch.float64)) == expected


def test_savings_are_of_the_first_blocks_trials() -> None:
    nan = torch.nan
    found = savings(torch.tensor([[10.0, 5.0, 20.0], [10.0, nan, 10.0], [nan, 5.0, 5.0]]))
    expected = torch.tensor([[0.5, -1.0], [nan, 0.0], [nan, nan]])
    torch.testing.assert_close(found, expected, equal_nan=True)
