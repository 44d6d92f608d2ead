"""The progress of the whole run, over all the processes that collect."""

import torch

from seqrl_lightning.collect.collector import Collector
from seqrl_lightning.types import Progress


def publish_progress(collector: Collector, run: Progress, device: torch.device) -> None:
    """Write the run's progress and statistics, the same in all processes, so that they learn and stop alike.

    Args:
        collector: Acts in this process, and receives the progress of the others. All processes call at the same time.
        run: The run's progress, which is written.
        device: Where processes exchange tensors.
    """
    own, world_size = collector.progress, collector.world_size
    counts = [own.env_steps, own.episodes, own.env_faults, own.block, collector.reached_block]
    if world_size > 1:
        mine = torch.tensor(counts, device=device)
        rows = [torch.empty_like(mine) for _ in range(world_size)]
        torch.distributed.all_gather(rows, mine)
        table = torch.stack(rows)
        counts = [*table[:, :3].sum(0).tolist(), int(table[:, 3].min()), int(table[:, 4].max())]
    run.env_steps, run.episodes, run.env_faults, run.block, collector.reached_block = counts
    run.epsilon = own.epsilon
    if collector.normalization is not None:
        collector.normalization.share(world_size)
    collector.episodes_elsewhere = run.episodes - own.episodes
    collector.follow_block()
    if collector.block_of is not None:
        run.block = own.block
