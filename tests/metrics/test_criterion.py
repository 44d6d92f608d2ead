"""The criterion as a metric: whatever the episodes are divided into, the numbers are those of the function."""

import pytest
import torch

from seqrl_lightning.functional import episodes_to_criterion
from seqrl_lightning.metrics import EpisodesToCriterion

BEST = 5.0


def numbers(metric: EpisodesToCriterion) -> dict[str, float]:
    return {tag: float(value) for tag, value in metric.compute().items() if not value.isnan()}


def add(metric: EpisodesToCriterion, block: int, *returns: float) -> None:
    metric.update(torch.full((len(returns),), block), torch.tensor(returns))


def test_blocks_meet_the_criterion_one_after_the_other() -> None:
    metric = EpisodesToCriterion(BEST, num_blocks=2)
    for episode_return in [0.0] * 9 + [5.0] * 5:
        add(metric, 0, episode_return)
    assert numbers(metric) == {"learning/episodes_to_criterion/block_0": 10.0}
    add(metric, 1, 5.0, 5.0, 5.0)
    add(metric, 1, 5.0)
    add(metric, 1, 5.0, 0.0)
    assert numbers(metric) == {
        "learning/episodes_to_criterion/block_0": 10.0,
        "learning/episodes_to_criterion/block_1": 1.0,
        "learning/savings/block_1": pytest.approx(1 - 1 / 10),
    }


def test_a_criterion_that_was_met_stays_met_when_it_was() -> None:
    metric = EpisodesToCriterion(BEST, num_blocks=1)
    add(metric, 0, *[5.0] * 5)
    add(metric, 0, *[0.0] * 3, *[5.0] * 9)
    assert numbers(metric) == {"learning/episodes_to_criterion/block_0": 1.0}


def test_blocks_that_have_not_met_it_are_censored() -> None:
    metric = EpisodesToCriterion(BEST, num_blocks=3)
    add(metric, 0, 0.0, *[5.0] * 5)
    add(metric, 1, *[0.0] * 10, *[5.0] * 2)  # may begin with the ninth: the last four are open
    episodes, is_met = metric.by_block()
    assert episodes.tolist() == [2.0, 8.0, 0.0]
    assert is_met.tolist() == [True, False, False]


def test_episodes_of_several_blocks_may_come_in_turns() -> None:
    metric = EpisodesToCriterion(BEST, num_blocks=2)
    metric.update(torch.tensor([0, 1] * 6), torch.tensor([0.0, 5.0] + [5.0, 5.0] * 5))
    assert metric.episodes.tolist() == [2.0, 1.0]


def test_a_task_that_tells_no_blocks_has_one() -> None:
    metric = EpisodesToCriterion(BEST, num_blocks=1)
    metric.update(torch.tensor([3, 7, 3, 7, 1]), torch.full((5,), 5.0))
    assert metric.episodes.tolist() == [1.0]


@pytest.mark.parametrize("seed", range(5))
def test_any_division_gives_the_number_of_the_function(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    returns = 5.0 * (torch.rand(60, generator=generator) < 0.75)
    sizes = torch.randint(1, 9, (60,), generator=generator).tolist()
    metric = EpisodesToCriterion(BEST, num_blocks=1)
    left = returns
    for size in sizes:
        metric.update(torch.zeros(len(left[:size]), dtype=torch.int64), left[:size])
        left = left[size:]
    expected = episodes_to_criterion(returns, BEST)
    assert expected is not None
    assert metric.episodes.tolist() == [expected]


def test_the_state_is_exact() -> None:
    metric, other = (EpisodesToCriterion(BEST, num_blocks=1) for _ in range(2))
    metric.persistent(True)
    other.persistent(True)
    add(metric, 0, 0.0, 5.0, 5.0, 5.0)
    other.load_state_dict(metric.state_dict())
    add(other, 0, 5.0, 5.0)
    assert other.episodes.tolist() == [2.0]
