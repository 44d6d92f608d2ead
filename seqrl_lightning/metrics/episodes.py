"""Statistics of the returns and lengths of episodes."""

import torch
from torch import Tensor
from torchmetrics import Metric


class EpisodeStatistics(Metric):
    """Mean, standard deviation and minimum of the return, and mean length, over the episodes of all processes.

    Episodes that were cut, because they didn't end by themselves, count with their return until then.
    """

    full_state_update = False
    count: Tensor
    return_sum: Tensor
    return_square_sum: Tensor
    return_min: Tensor
    length_sum: Tensor
    cut_count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("count", "return_sum", "return_square_sum", "length_sum", "cut_count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("return_min", torch.full((), torch.inf, dtype=torch.float64), dist_reduce_fx="min")

    def update(self, returns: Tensor, lengths: Tensor, is_cut: Tensor) -> None:
        """Add episodes.

        Args:
            returns: [N] float, the undiscounted sum of rewards of each episode.
            lengths: [N] int64, the number of env steps of each episode.
            is_cut: [N] bool, whether it was cut before its end.
        """
        returns = returns.to(self.return_sum)
        self.count += returns.numel()
        self.return_sum += returns.sum()
        self.return_square_sum += returns.square().sum()
        self.return_min = torch.minimum(self.return_min, returns.min())
        self.length_sum += lengths.to(self.length_sum).sum()
        self.cut_count += is_cut.to(self.cut_count).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return ``return_mean``, ``return_std`` (over episodes), ``return_min`` and ``episode_length_mean``.

        ``episodes_cut``, the number of episodes that were cut, is there if there are any.
        """
        mean = self.return_sum / self.count
        variance = (self.return_square_sum / self.count - mean.square()).clamp(min=0)
        statistics = {
            "return_mean": mean,
            "return_std": variance.sqrt(),
            "return_min": self.return_min,
            "episode_length_mean": self.length_sum / self.count,
        }
        if self.cut_count > 0:
            statistics["episodes_cut"] = self.cut_count
        return {name: value.float() for name, value in statistics.items()}
