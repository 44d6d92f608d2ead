"""A tree of sums, from which many things are drawn at once in proportion to their weights."""

import numpy as np

from seqrl_lightning.types import FloatArray, IntArray

_WIDTH = 32  # children of a node: few levels, as each costs a handful of NumPy calls whatever the batch's size


class SumTree:
    """Weights, and over them levels of sums of ``_WIDTH`` neighbours each, up to one node.

    Finding and changing B of N weights takes O(B log N). A changed node is summed up anew from its children, so that
    rounding errors never add up.

    Args:
        size: N, the number of weights; all are zero at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._levels: list[FloatArray] = []  # weights first, padded with zeros to whole nodes: [n / _WIDTH, _WIDTH]
        while True:
            num_nodes = -(-size // _WIDTH)
            self._levels.append(np.zeros((num_nodes, _WIDTH)))
            if num_nodes == 1:
                break
            size = num_nodes

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._levels[-1].sum())

    @property
    def weights(self) -> FloatArray:
        """All weights, [N] float64; not to be written to."""
        return self._levels[0].reshape(-1)[: self.size]

    def update(self, indices: IntArray, weights: FloatArray) -> None:
        """Sets the weights at ``indices`` ([B] int64; of equal ones the last holds) to ``weights`` ([B] float)."""
        if not indices.size:
            return
        self._levels[0].reshape(-1)[indices] = weights
        for level, sums in zip(self._levels, self._levels[1:], strict=False):
            indices = indices // _WIDTH
            sums.reshape(-1)[indices] = level[indices].sum(1)

    def find(self, mass: FloatArray) -> IntArray:
        """Where the weights, added up from the first on, exceed ``mass``.

        Args:
            mass: [B] float, in [0, total).

        Returns:
            [B] int64.
        """
        # The root is the same for all: one search in it is quicker than a row for each. By rounding there may be none.
        num_children = len(self._levels[-2]) if len(self._levels) > 1 else self.size
        root = self._levels[-1][0].cumsum()
        node: IntArray = np.minimum(root.searchsorted(mass, side="right"), num_children - 1)
        mass = mass - np.where(node > 0, root[node - 1], 0.0)
        first = np.arange(0, len(mass) * _WIDTH, _WIDTH)
        for level in reversed(self._levels[:-1]):
            weights = level.take(node, 0)
            sums = weights.cumsum(1)
            child = (sums > mass[:, None]).argmax(1)  # by rounding there may be none; then it is the first
            chosen = first + child
            mass -= sums.take(chosen)
            mass += weights.take(chosen)
            node = node * _WIDTH + child
        return np.minimum(node, self.size - 1)
