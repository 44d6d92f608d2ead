"""Tasks whose blocks follow the episodes that the learner has seen, over all environments."""

from typing import Protocol, runtime_checkable

from seqrl_lightning.envs.faults import EnvValueError, short
from seqrl_lightning.envs.infos import as_int
from seqrl_lightning.signals import EndedBySignal
from seqrl_lightning.types import IntArray, Task, one_line, stated


@runtime_checkable
class FollowsBlocks(Protocol):
    """A task whose blocks last as many episodes as the learner sees, over all environments."""

    next_block: int | None  # of the episodes that start from now on; None: the task counts its own episodes

    def block_of(self, finished_episodes: int) -> IntArray | int:
        """Return the block of the episode that follows this many finished ones."""


def num_blocks_of(task: Task) -> int:
    """Return the number of blocks that a task states by its attribute ``num_blocks``; 0 if it states none."""
    return as_int(stated(task, "num_blocks"), 0, 1_000_000) or 0  # an attribute with any meaning


def block_after(task: FollowsBlocks, finished_episodes: int, num_blocks: int) -> int:
    """Return the block of the episode that follows this many finished ones.

    Raises:
        EnvValueError: If the task's ``block_of`` raises, or returns anything but one of its blocks.
    """
    call = f"block_of({finished_episodes})"
    must_be = f"a block, 0 to {num_blocks - 1}"
    try:
        returned = task.block_of(finished_episodes)
    except EndedBySignal:
        raise
    except (Exception, SystemExit) as error:  # a task may raise anything
        reason = one_line(f"{type(error).__name__}: {error}")
        raise EnvValueError(f"{call} raises {reason}; it must return {must_be}") from error
    block = as_int(returned, 0, num_blocks)
    if block is None:
        raise EnvValueError(f"{call} returns {short(returned)}; it must return {must_be}")
    return block
