import pytest
import torch

from seqrl_lightning.functional import episodes_to_criterion, episodes_without_criterion, savings

BEST = 9.0


@pytest.mark.parametrize(
    ("returns", "expected"),
    [
        ([9, 9, 9, 9, 9], 1),  # mastered from the first episode on
        ([3, 9, 9, 9, 9, 9, 0], 2),
        ([9, 9, 9, 9, 8, 9, 9, 9, 9, 9], 6),  # four in a row are not enough
        ([10, 11, 9, 9, 9], 1),  # more than the best expected return is mastered, too
        ([9, 9, 9, 9], None),  # nobody knows the fifth
        ([8.9] * 10, None),
        ([float("nan"), 9, 9, 9, 9, 9], 2),
        ([9 - 1e-9] * 5, 1),  # rounding
        ([], None),
    ],
)
def test_the_criterion_is_the_first_of_five_mastered_episodes_in_a_row(
    returns: list[float], expected: int | None
) -> None:
    assert episodes_to_criterion(torch.tensor(returns, dtype=torch.float64), BEST) == expected


def test_rounding_does_not_decide_whether_an_episode_is_mastered() -> None:
    twentieths = torch.full((5, 20), 0.05, dtype=torch.float64).sum(1)  # as NBack pays for 20 answers
    thirds = torch.full((5, 3), 1 / 3, dtype=torch.float32).sum(1)
    assert episodes_to_criterion(twentieths, 1.0) == episodes_to_criterion(thirds, 1.0) == 1


def test_a_block_without_the_criterion_is_censored_where_it_could_still_begin() -> None:
    for num_episodes in range(12):
        known = int(episodes_without_criterion(torch.tensor(num_episodes)))
        returns = [0.0] * known + [BEST] * (num_episodes - known)  # at most four in a row
        assert episodes_to_criterion(torch.tensor(returns), BEST) is None
        assert episodes_to_criterion(torch.tensor([*returns, *[BEST] * 5]), BEST) == known + 1


def test_savings_compare_the_episodes_of_the_first_and_later_blocks() -> None:
    nan = torch.nan
    found = savings(torch.tensor([[10.0, 5.0, 20.0], [10.0, nan, 10.0], [nan, 5.0, 5.0]]))
    expected = torch.tensor([[0.5, -0.5], [nan, 0.0], [nan, nan]])
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_savings_are_bounded_and_change_their_sign_with_the_blocks() -> None:
    first, later = torch.meshgrid(torch.arange(2.0, 50), torch.arange(2.0, 50), indexing="ij")
    forth = savings(torch.stack([first, later], -1))
    assert forth.abs().max() < 1
    torch.testing.assert_close(savings(torch.stack([later, first], -1)), -forth)


def test_a_block_that_was_mastered_at_once_leaves_nothing_to_save() -> None:
    assert savings(torch.tensor([1.0, 17.0])).isnan().all()
    assert savings(torch.tensor([17.0, 1.0])).item() == pytest.approx(16 / 17)
