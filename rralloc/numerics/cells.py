"""A cut of a box into cells that covers it by construction: a binary tree of halvings.

Branch and bound proposes the tree; whoever evaluates the bound rebuilds the cells from it, so a
forgotten cell cannot make a bound look better than it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rralloc.typing import Array


@dataclass(frozen=True, eq=False)
class CellTree:
    """Node i is cut across ``axis[i]`` at fraction 1/2 into nodes ``child[i]`` and ``child[i]+1``.

    ``axis[i] == -1`` marks a leaf. Node 0 is the whole box; children come after their parents.
    """

    axis: Array
    child: Array

    def cells(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Corners ``(leaves, n)`` of the leaves; together they are exactly the box.

        Raises ValueError where the arrays are not such a tree: then they prove nothing.
        """
        self._check(lower.size)
        count = self.axis.size
        low, high = np.empty((count, lower.size)), np.empty((count, lower.size))
        low[0], high[0] = lower, upper
        for layer in self._layers():
            axis, first = self.axis[layer], self.child[layer]
            for side in (0, 1):
                low[first + side], high[first + side] = low[layer], high[layer]
            rows = np.arange(layer.size)
            middle = (low[layer][rows, axis] + high[layer][rows, axis]) / 2
            high[first, axis], low[first + 1, axis] = middle, middle
        leaf = self.axis < 0
        return low[leaf], high[leaf]

    def _check(self, size: int) -> None:
        """Children come after their parent, and every node but the root is child exactly once."""
        inner = np.flatnonzero(self.axis >= 0)
        first, count = self.child[inner], self.axis.size
        if np.any(self.axis >= size) or np.any(first <= inner) or np.any(first + 1 >= count):
            raise ValueError("not a tree of cells: an axis or a child is out of range")
        reached = np.bincount(np.concatenate([first, first + 1]), minlength=count)
        if not np.all(reached[1:] == 1):
            raise ValueError("not a tree of cells: every node must be reached once")

    def _layers(self) -> list[Array]:
        """Inner nodes by depth, so that each layer is cut at once."""
        layers, here = [], np.array([0])
        while here.size:
            inner = here[self.axis[here] >= 0]
            if inner.size:
                layers.append(inner)
            here = np.concatenate([self.child[inner], self.child[inner] + 1])
        return layers
