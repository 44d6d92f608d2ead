import pytest
import torch

from seqrl_lightning.metrics import EpisodeStatistics


def test_statistics_by_hand_over_several_updates() -> None:
    statistics = EpisodeStatistics()
    statistics.update(torch.tensor([1.0, 3.0]), torch.tensor([5, 7]), torch.tensor([False, False]))
    statistics.update(torch.tensor([8.0]), torch.tensor([9]), torch.tensor([True]))
    values = {name: float(value) for name, value in statistics.compute().items()}
    std = (((1 - 4) ** 2 + (3 - 4) ** 2 + (8 - 4) ** 2) / 3) ** 0.5
    expected = {
        "return_mean": 4.0,
        "return_std": std,
        "return_min": 1.0,
        "episode_length_mean": 7.0,
        "episodes_cut": 1.0,
    }
    assert values == pytest.approx(expected)
