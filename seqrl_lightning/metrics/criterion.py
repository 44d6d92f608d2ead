"""Episodes to criterion and savings, as a metric that is updated during a run."""

import torch
from torch import Tensor
from torchmetrics import Metric

from seqrl_lightning.functional import (
    CRITERION_EPISODES,
    episodes_to_criterion,
    episodes_without_criterion,
    savings,
)


class EpisodesToCriterion(Metric):
    """Episodes to criterion of each block, and savings in later blocks.

    The numbers are those of :func:`seqrl_lightning.functional.episodes_to_criterion` and
    :func:`~seqrl_lightning.functional.savings`, however the episodes are split over updates. Every process is updated
    with the episodes of all processes, so nothing is reduced.

    Args:
        mastery_return: The return of a mastered episode.
        num_blocks: Number of blocks of the task, at least 1.

    A block that has not met the criterion is NaN here; :meth:`by_block` tells how long it has lasted without it.

    >>> metric = EpisodesToCriterion(mastery_return=9.0, num_blocks=1)
    >>> for episode_return in (9.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0):
    ...     metric.update(torch.tensor([0]), torch.tensor([episode_return]))
    >>> metric.compute()
    {'learning/episodes_to_criterion/block_0': tensor(3., dtype=torch.float64)}
    """

    full_state_update = False
    count: Tensor  # [num_blocks] int64: episodes so far
    recent: Tensor  # [num_blocks, CRITERION_EPISODES - 1] float64: the latest returns, NaN before the first ones
    episodes: Tensor  # [num_blocks] float64: episodes to criterion; NaN as long as it isn't met

    def __init__(self, mastery_return: float, num_blocks: int) -> None:
        super().__init__(sync_on_compute=False)
        self.mastery_return = mastery_return
        unknown = torch.full((num_blocks, CRITERION_EPISODES - 1), torch.nan, dtype=torch.float64)
        self.add_state("count", torch.zeros(num_blocks, dtype=torch.int64), dist_reduce_fx=None)
        self.add_state("recent", unknown, dist_reduce_fx=None)
        self.add_state("episodes", unknown[:, 0].clone(), dist_reduce_fx=None)

    def update(self, block: Tensor, returns: Tensor) -> None:
        """Add episodes of all environments and processes, in the order in which they ended.

        Args:
            block: [E] int64, the block whose rule held in each episode; all 0 for tasks with one block.
            returns: [E] float, the undiscounted return of each episode.
        """
        block = block.clamp(0, len(self.count) - 1)  # info["block"] of a task without num_blocks means something else
        for k in sorted(set(block.tolist())):
            new = returns[block == k].to(self.recent)
            latest = torch.cat([self.recent[k], new])
            if self.episodes[k].isnan():
                first = episodes_to_criterion(latest, self.mastery_return)
                if first is not None:
                    self.episodes[k] = self.count[k] - self.recent.shape[1] + first
            self.recent[k] = latest[len(new) :]
            self.count[k] += len(new)

    def by_block(self) -> tuple[Tensor, Tensor]:
        """Return the episodes to criterion with the blocks that have not met it as censored observations.

        Returns:
            [num_blocks] float64, the episodes to criterion or, where it was not met, the number of episodes after which
            it is known to begin (:func:`seqrl_lightning.functional.episodes_without_criterion`); and [num_blocks] bool,
            whether it was met.
        """
        is_met = ~self.episodes.isnan()
        return torch.where(is_met, self.episodes, episodes_without_criterion(self.count)), is_met

    def compute(self) -> dict[str, Tensor]:
        """Return ``learning/episodes_to_criterion/block_0`` and so on, ``learning/savings/block_1`` and so on."""
        return {
            **{f"learning/episodes_to_criterion/block_{k}": value for k, value in enumerate(self.episodes)},
            **{f"learning/savings/block_{k + 1}": value for k, value in enumerate(savings(self.episodes))},
        }
