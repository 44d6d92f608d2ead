"""A sum tree: draws many indices at once in proportion to their weights."""

import numpy as np

from seqrl_lightning.types import FloatArray, IntArray

_WIDTH = 32  # children of a node; wide, because each level costs a handful of NumPy calls for any batch size


class SumTree:
    """N weights under levels of sums, each over ``_WIDTH`` nodes of the level below, up to a single root.

    Finding or changing B weights takes O(B log N). The sums above a changed weight are recomputed from their
    children, so that rounding errors never accumulate.

    Args:
        size: N; all weights are zero at first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._levels: list[FloatArray] = []  # the weights first, padded with zeros to whole nodes [n, _WIDTH]
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
        """All weights, [N] float64; a view, not to be written to."""
        return self._levels[0].reshape(-1)[: self.size]

    def update(self, indices: IntArray, weights: FloatArray) -> None:
        """Set the weights at ``indices`` ([B] int64; for equal ones the last holds) to ``weights`` ([B] float)."""
        if not indices.size:
            return
        self._levels[0].reshape(-1)[indices] = weights
        for level, sums in zip(self._levels, self._levels[1:], strict=False):
            indices = indices // _WIDTH
            sums.reshape(-1)[indices] = level[indices].sum(1)

    def find(self, mass: FloatArray) -> IntArray:
        """Return the first index at which the cumulative sum of the weights exceeds ``mass``.

        Args:
            mass: [B] float, in [0, total).

        Returns:
            [B] int64.
        """
        # All share the root: one search in its cumulative sums is faster than a row of them for each. Rounding may
        # leave no such child; then the last one is taken.
        num_children = len(self._levels[-2]) if len(self._levels) > 1 else self.size
        root = self._levels[-1][0].cumsum()
        node: IntArray = np.minimum(root.searchsorted(mass, side="right"), num_children - 1)
        mass = mass - np.where(node > 0, root[node - 1], 0.0)
        first = np.arange(0, len(mass) * _WIDTH, _WIDTH)
        for level in reversed(self._levels[:-1]):
            weights = level.take(node, 0)
            sums = weights.cumsum(1)
            child = (sums > mass[:, None]).argmax(1)  # rounding may leave none; then it is the first one
            chosen = first + child
            mass -= sums.take(chosen)
            mass += weights.take(chosen)
            node = node * _WIDTH + child
        return np.minimum(node, self.size - 1)
