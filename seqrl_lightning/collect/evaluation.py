"""The greedy episodes of an evaluation."""

from collections.abc import Iterator

from torch.utils.data import IterableDataset

from seqrl_lightning.types import EvaluationTask, Progress


class EvaluationTasks(IterableDataset[EvaluationTask]):
    """The episodes of an evaluation, under the rule of each block or in the task as it is.

    The dataset is iterable so that every process plays all of it, from its own seeds, instead of a share.

    Args:
        first_seed: The seed of the first episode; the others follow it.
        num_rounds: How many times all environments play an episode, for each block.
        num_envs: Environments that are played side by side.
        num_blocks: Blocks of the task; 0 for a task in which one rule holds throughout.
        progress: How far the run is; the block that it is in counts as the run's own result too.
    """

    def __init__(self, first_seed: int, num_rounds: int, num_envs: int, num_blocks: int, progress: Progress) -> None:
        self.first_seed = first_seed
        self.num_rounds = num_rounds
        self.num_envs = num_envs
        self.num_blocks = num_blocks
        self.progress = progress

    def __len__(self) -> int:
        return self.num_rounds * max(1, self.num_blocks)

    def __iter__(self) -> Iterator[EvaluationTask]:
        for round_ in range(self.num_rounds):
            seed = self.first_seed + round_ * self.num_envs
            if not self.num_blocks:
                yield EvaluationTask(seed, None, ("",))
            for block in range(self.num_blocks):
                names = (f"block_{block}/", "") if block == self.progress.block else (f"block_{block}/",)
                yield EvaluationTask(seed, {"block": block}, names)
