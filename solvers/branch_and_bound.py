"""Branch and bound over boxes: a global answer with a proof, for a handful of coordinates.

Cut the box whose bound is best, halve it across the axis where that helps most, drop what cannot
beat the incumbent; the tree of cuts is the witness. Vectorised: the worst few hundred cells are
cut together. Source: standard; cell bounds are the problem's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rralloc.forms import Boxes
from rralloc.numerics.cells import CellTree
from rralloc.problem import Problem
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.typing import Array, Point
from rralloc.verify import violation


class BranchAndBound(Solver):
    """Global optimum of a problem with up to about six coordinates, with the cells that prove it.

    Stops at relative gap ``gap`` (None: half the caller's ``gap_tol``; CONVERGED), after ``cells``
    cells (ITERATIONS) or at the time limit, keeping its best point and a valid bound in every case.

    Choose this when a local method is not enough and K is small; the number of cells grows
    exponentially with K.
    """

    name = "branch-and-bound"
    rank = 90
    needs = (Boxes,)
    batched = False
    warm = True
    certifies = True

    gap: float | None = None
    cells: int = 2_000_000
    width: int = 512

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """Bound, branch, prune; offer every better cell centre."""
        tree = _Tree(problem.view(Boxes), 1.0 if problem.sense == "max" else -1.0)
        goal = run.gap_tol / 2 if self.gap is None else self.gap
        rules = problem.points().values() if start is None else (lambda: start,)
        best = max(
            (self._value(problem, rule(), run, tree.sign) for rule in rules), default=-np.inf
        )
        try:
            while tree.open.size and not _closed(tree.open_bound(), best, goal):
                if tree.count > self.cells:
                    run.end(Stopped.ITERATIONS, f"stopped at {tree.count} cells")
                    break
                run.check()
                for y in tree.cut(self.width, best):
                    point = tree.form.point(y)
                    best = max(best, self._value(problem, point, run, tree.sign))
            else:
                if best == -np.inf:
                    run.end(Stopped.CONVERGED, "no cell holds a feasible point")
        finally:  # an interrupted search has proven something too
            run.count(tree.count)
            run.prove({"cells": tree.witness()})

    def _value(self, problem: Problem, point: Point, run: Any, sign: float) -> float:
        """The signed objective of a feasible point, which is offered; -inf if not feasible."""
        if violation(problem, point) > run.feas_tol:
            return -np.inf
        run.offer(point)
        return sign * float(problem.objective(point))


def _closed(bound: float, best: float, goal: float) -> bool:
    return best > -np.inf and bound - best <= goal * abs(best)


@dataclass
class _Tree:
    """Open and closed cells in growing arrays; a cell is a node of the witness tree."""

    form: Boxes
    sign: float
    count: int = 1
    open: Array = field(default_factory=lambda: np.array([0]))

    def __post_init__(self) -> None:
        n = self.form.lower.size
        self.low, self.high = np.empty((1024, n)), np.empty((1024, n))
        self.axis, self.child = np.full(1024, -1), np.full(1024, -1)
        self.value = np.full(1024, -np.inf)
        self.low[0], self.high[0] = self.form.lower, self.form.upper
        self.value[0] = self.sign * self.form.bound(self.low[:1], self.high[:1])[0]

    def open_bound(self) -> float:
        """The best value that an open cell may still hold."""
        return float(self.value[self.open].max(initial=-np.inf))

    def cut(self, width: int, best: float) -> Array:
        """Halve the most promising cells; returns centres ``(., n)`` worth trying."""
        ranked = self.open[np.argsort(-self.value[self.open])]
        chosen, rest = ranked[:width], ranked[width:]
        axis = self._axes(chosen)
        first = self.count + 2 * np.arange(chosen.size)
        self._grow(self.count + 2 * chosen.size)
        self.axis[chosen], self.child[chosen] = axis, first
        middle = (self.low[chosen, axis] + self.high[chosen, axis]) / 2
        for side in (0, 1):
            self.low[first + side], self.high[first + side] = self.low[chosen], self.high[chosen]
        self.high[first, axis], self.low[first + 1, axis] = middle, middle
        fresh = np.arange(self.count, self.count + 2 * chosen.size)
        self.count += 2 * chosen.size
        own = self.sign * self.form.bound(self.low[fresh], self.high[fresh])
        self.value[fresh] = np.minimum(own, np.repeat(self.value[chosen], 2))
        fresh = fresh[self.value[fresh] > best]
        rest = rest[self.value[rest] > best]
        self.open = np.concatenate([rest, fresh])
        top = fresh[np.argsort(-self.value[fresh])[:4]]
        return (self.low[top] + self.high[top]) / 2

    def _axes(self, chosen: Array) -> Array:
        """The axis whose halving lowers the worse of the two bounds most."""
        low, high = self.low[chosen], self.high[chosen]
        worst = np.empty(low.shape)
        for axis in range(low.shape[1]):
            middle = (low[:, axis] + high[:, axis]) / 2
            left, right = high.copy(), low.copy()
            left[:, axis], right[:, axis] = middle, middle
            halves = [self.form.bound(low, left), self.form.bound(right, high)]
            worst[:, axis] = np.maximum(*(self.sign * h for h in halves))
        # An axis that always helps a little must not be cut to nothing while the others stay wide.
        width = (high - low) / (self.form.upper - self.form.lower)
        worst = np.where(width < 0.1 * width.max(-1, keepdims=True), np.inf, worst)
        # Bounds may not move at all at first: then the widest axis breaks the tie.
        return (worst - 1e-9 * width).argmin(-1)

    def _grow(self, need: int) -> None:
        while need > self.axis.size:
            self.low, self.high = (
                np.concatenate([a, np.empty_like(a)]) for a in (self.low, self.high)
            )
            self.axis, self.child = (
                np.concatenate([a, np.full(a.size, -1)]) for a in (self.axis, self.child)
            )
            self.value = np.concatenate([self.value, np.full(self.value.size, -np.inf)])

    def witness(self) -> CellTree:
        """The cuts made so far."""
        return CellTree(self.axis[: self.count].copy(), self.child[: self.count].copy())
