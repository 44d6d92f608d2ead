"""The facts about a task that measures depend on."""

import math
from numbers import Integral, Real
from typing import NamedTuple

from seqrl_lightning.types import Order, Task, stated


def _finite(value: object) -> float | None:
    """Return a number that a float can hold; None for anything else, which means something else than a fact."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(task: Task, name: str, largest: int = 4096) -> int | None:
    """Return a number of things; None for one beyond what tables of measures have room for."""
    value = stated(task, name)
    if not isinstance(value, Integral) or isinstance(value, bool):
        return None
    return int(value) if 0 < int(value) <= largest else None


class TaskFacts(NamedTuple):
    """Facts that a task states about itself; None for each one that it doesn't state.

    A task states them as attributes of these names, the order as ``order_by_block`` and ``mastery_return`` as
    ``optimal_return`` or, failing that, as the ``reward_threshold`` that it is registered with in Gymnasium.
    """

    num_positions: int | None = None  # an observation begins with the serial position, one-hot, of this size
    num_objects: int | None = None  # in the sequence; higher actions are distractors
    order: Order | None = None  # the objects' orders, where the block decides which one is right
    num_blocks: int = 1
    mastery_return: float | None = None  # return of a mastered episode: the best expected one
    memoryless_return: float | None = None  # best expected one of policies that see the current observation only
    num_symbols: int | None = None  # an observation begins with the symbol shown, one-hot or zeros, of this size
    num_contexts: int | None = None  # an observation ends with the context, one-hot, of this size

    @classmethod
    def of(cls, task: Task) -> "TaskFacts":
        """Read the facts.

        Args:
            task: The environment itself, without wrappers. An attribute of it that raises is ignored, with a warning.
        """
        optimal_return, order = _finite(stated(task, "optimal_return")), stated(task, "order_by_block")
        threshold = None if task.spec is None else _finite(task.spec.reward_threshold)
        return cls(
            num_positions=_count(task, "num_positions"),
            num_objects=_count(task, "num_objects"),
            order=order if isinstance(order, Order) else None,
            num_blocks=_count(task, "num_blocks", 1_000_000) or 1,
            mastery_return=threshold if optimal_return is None else optimal_return,
            memoryless_return=_finite(stated(task, "memoryless_return")),
            num_symbols=_count(task, "num_symbols"),
            num_contexts=_count(task, "num_contexts"),
        )

    @property
    def num_picks(self) -> int | None:
        """Number of objects that complete the sequence."""
        return None if self.num_positions is None else self.num_positions - 1

    @property
    def block_names(self) -> list[str]:
        """The name of each block: its number and, if it decides one, the order of its objects, ``block 0: ABC``."""
        names = [f"block {block}" for block in range(self.num_blocks)]
        if self.order is None:
            return names
        orders = ["".join(self.order.letters[i] for i in row) for row in self.order.sequences]
        return [f"{name}: {order}" for name, order in zip(names, orders, strict=True)]
