"""The facts about a task that measures depend on."""

from typing import Any, NamedTuple

from seqrl_lightning.types import Order


class TaskFacts(NamedTuple):
    """Facts that a task tells about itself; None for each one that it doesn't tell.

    A task tells them as attributes of these names, the order as ``order_by_block`` and ``mastery_return`` as
    ``optimal_return`` or, failing that, as the ``reward_threshold`` that it is registered with in Gymnasium.
    """

    num_positions: int | None = None  # an observation begins with the serial position, one-hot, of this size
    num_objects: int | None = None  # in the sequence; higher actions are distractors
    order: Order | None = None  # the objects' orders, where the block decides which one is right
    num_blocks: int = 1
    mastery_return: float | None = None  # return of a mastered episode: the best expected one

    @classmethod
    def of(cls, task: Any) -> "TaskFacts":
        """Read the facts.

        Args:
            task: The environment itself, without wrappers.
        """
        optimal_return = getattr(task, "optimal_return", None)
        threshold = None if task.spec is None else task.spec.reward_threshold
        return cls(
            num_positions=getattr(task, "num_positions", None),
            num_objects=getattr(task, "num_objects", None),
            order=getattr(task, "order_by_block", None),
            num_blocks=max(1, int(getattr(task, "num_blocks", 1))),
            mastery_return=threshold if optimal_return is None else float(optimal_return),
        )

    @property
    def num_picks(self) -> int | None:
        """Number of objects that complete the sequence."""
        return None if self.num_positions is None else self.num_positions - 1
