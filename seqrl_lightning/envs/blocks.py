"""Blocks of episodes, each with an order of the objects."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqrl_lightning.types import ConfigurationError, IntArray, require

BlockSpec = Mapping[str, Any]
"""One block in a config: ``sequence`` (an order of the objects, or a word) and ``episodes`` (their number)."""

_SETTING = "data.env_kwargs.blocks"
_SWAP = re.compile(r"swap_(\d+)_(\d+)")


class BlockSchedule:
    """The order of the objects in each block, and the number of episodes of each.

    The ``sequence`` of a block is the objects in their order (``ADCBE``) or a word for the change from the block
    before: ``reversed``, or ``swap_2_4`` for the positions 2 and 4 (counted from 1). ``episodes`` may be left out of
    the last block, which holds until the end of the run in any case.

    Args:
        blocks: The blocks, first to last; None for one block with the order of ``objects``.
        objects: One letter for each object. Objects are identities: action k picks the k-th of them, whatever order
            holds.

    Attributes:
        names: The order of each block, as letters.
        sequences: ``[blocks, n] int64``, the same as indices of objects.

    Raises:
        ConfigurationError: If a sequence isn't an order of all the objects, or ``episodes`` isn't positive.
    """

    def __init__(self, blocks: Sequence[BlockSpec] | None, objects: str) -> None:
        require(
            len(objects) >= 2 and len(set(objects)) == len(objects),
            "data.env_kwargs.objects",
            objects,
            "at least two letters, each of them once",
        )
        specs = [{"sequence": objects}] if blocks is None else blocks
        require(len(specs) > 0, _SETTING, blocks, "a list of at least one block")
        orders: list[str] = []
        for k, spec in enumerate(specs):
            self._check_keys(k, spec, is_last=k == len(specs) - 1)
            previous = orders[-1] if orders else objects
            orders.append(order_of(str(spec["sequence"]), previous, objects, f"{_SETTING}[{k}].sequence"))
        self.names = tuple(orders)
        self.sequences: IntArray = np.array([[objects.index(letter) for letter in order] for order in orders])
        self._ends: IntArray = np.cumsum([spec["episodes"] for spec in specs[:-1]], dtype=np.int64)

    @staticmethod
    def _check_keys(k: int, spec: BlockSpec, is_last: bool) -> None:
        known = {"sequence", "episodes"}
        required = {"sequence"} if is_last else known
        require(
            required <= set(spec) <= known,
            f"{_SETTING}[{k}]",
            dict(spec),
            f"given by {' and '.join(sorted(known))}",
        )
        episodes = spec.get("episodes", 1)
        is_count = isinstance(episodes, int) and not isinstance(episodes, bool) and episodes > 0
        require(is_count, f"{_SETTING}[{k}].episodes", episodes, "a number of episodes, at least 1")

    def __len__(self) -> int:
        return len(self.names)

    def block_of(self, finished_episodes: IntArray | int) -> IntArray:
        """Return the block of the episode that follows this many finished ones, elementwise."""
        return np.asarray(np.searchsorted(self._ends, finished_episodes, side="right"))


def order_of(sequence: str, previous: str, objects: str, setting: str) -> str:
    """Return the objects in the order that ``sequence`` describes, as letters.

    Args:
        sequence: An order of the objects, ``reversed``, or ``swap_I_J``.
        previous: The order that the two words change.
        objects: One letter for each object.
        setting: The name of the setting in an error.

    Raises:
        ConfigurationError: If ``sequence`` isn't an order of all the objects.
    """
    if sequence == "reversed":
        return previous[::-1]
    if swap := _SWAP.fullmatch(sequence):
        i, j = int(swap[1]), int(swap[2])
        allowed = f"two different positions in 1 to {len(objects)}"
        require(i != j and min(i, j) >= 1 and max(i, j) <= len(objects), setting, sequence, allowed)
        letters = list(previous)
        letters[i - 1], letters[j - 1] = letters[j - 1], letters[i - 1]
        return "".join(letters)
    if unknown := sorted(set(sequence) - set(objects)):
        raise ConfigurationError(
            f"{setting} is {sequence!r}, but {', '.join(unknown)} is not among the objects {objects}; "
            "it must be an order of these objects, 'reversed', or 'swap_I_J'"
        )
    require(sorted(sequence) == sorted(objects), setting, sequence, f"an order of {objects}, each object once")
    return sequence
