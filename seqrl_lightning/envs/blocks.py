"""Blocks: which order of the objects holds in which episodes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqrl_lightning.types import ConfigurationError, IntArray, require

BlockSpec = Mapping[str, Any]
"""One block of a config: ``sequence`` (an order of the objects, or a word) and ``episodes``."""

_SETTING = "data.env_kwargs.blocks"
_SWAP = re.compile(r"swap_(\d+)_(\d+)")


class BlockSchedule:
    """The orders of the objects, one after the other, and how many episodes each holds.

    A block's ``sequence`` is the objects in their order (``ADCBE``), or a word that says what changes against the
    block before: ``reversed``, or ``swap_2_4`` for the positions 2 and 4 (counted from 1). ``episodes`` may be left
    out for the last block, which holds until the end of the run in any case.

    Args:
        blocks: The blocks in their order; ``None`` stands for one block with the objects in the order given.
        objects: One letter for each object that can be in a sequence. Objects are identities: action k picks the
            k-th of them, whatever order holds.

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
        wanted = {"sequence"} if is_last else known
        require(
            wanted <= set(spec) <= known,
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
        """The block that holds after so many finished episodes, elementwise."""
        return np.asarray(np.searchsorted(self._ends, finished_episodes, side="right"))

    def check_block(self, block: int) -> int:
        """Returns ``block`` if there is one of that number.

        Raises:
            ConfigurationError: If there is none.
        """
        require(0 <= block < len(self), 'options["block"]', block, f"in 0 to {len(self) - 1}")
        return block


def order_of(sequence: str, previous: str, objects: str, setting: str) -> str:
    """The objects in the order that ``sequence`` names.

    Args:
        sequence: An order of the objects, ``reversed``, or ``swap_I_J``.
        previous: The order that the words change.
        objects: One letter for each object.
        setting: What an error is to name.

    Raises:
        ConfigurationError: If it isn't an order of all the objects.
    """
    if sequence == "reversed":
        return previous[::-1]
    if swap := _SWAP.fullmatch(sequence):
        i, j = int(swap[1]), int(swap[2])
        would_do = f"two different positions in 1 to {len(objects)}"
        require(i != j and min(i, j) >= 1 and max(i, j) <= len(objects), setting, sequence, would_do)
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
