"""Difference of convex functions: sparse and low-rank, the method coverage is measured against.

    min |x|_0  s.t.  tr M - g_k^H M g_k <= x_k,  x >= 0,  tr M = 1,  M >= 0,  rank M = 1

``x`` has at most c entries iff |x|_1 - |||x|||_c = 0, with |||x|||_c the sum of the c largest;
rank M = 1 iff tr M - |M|_2 = 0. Both subtracted terms are convex: replace them by their tangents.

Source: Yang, Jiang, Shi, Ding, arXiv 1812.11750 (abstract); spec ota.md §2.3, §3 (a). A
reconstruction, not the authors' code: without the quadratic proximal terms, and with tr M = 1 in
place of tr M >= 1, which only fixes the scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.forms import Handle
from rralloc.run import LaneRun
from rralloc.solvers._lifted import Lane, Lifted, coordinates, prefixes, ranked, shortest, sparse
from rralloc.typing import Array, Point

INNER, OUTER = 20, 30
"""Most programs for each c, and for each prefix."""
ZERO = 1e-6
"""A difference below this is zero."""


class DifferenceOfConvex(Lifted):
    """The DC program for the order of the devices, then DC feasibility down that order.

    ``engine``: ``CLARABEL``; ``SCS`` is slower and less exact. ``tol`` (1e-5) is the decrease at
    which an inner loop ends, ``max_iter`` the most semidefinite programs for an instance. With
    unequal values x_k costs w_k. Every eigenvector met on the way is counted as well.

    Choose this when the published method is the yardstick; ``coverage`` serves more devices in a
    hundredth of the time.
    """

    name = "dc"
    rank = 230

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Order the devices, then take the longest prefix that one beam serves."""
        lane = Lane(problem, run, self.engine, self.name)
        tol = 1e-5 if run.tol is None else run.tol
        if not lane.finished:
            with (
                lane.program(sparse(*lane.g.shape)) as program,
                lane.program(shortest(*lane.g.shape)) as relaxed,
            ):
                x, v = sparsest(lane, program, tol)
                detect(lane, program, relaxed, ranked(lane, x), v, tol)
        lane.end()


def sparsest(lane: Lane, handle: Handle, tol: float) -> tuple[Array, Array]:
    """x ``(K,)`` where the DC objective is zero for the least c, and a beam.

    c counts the devices that may lack something for nothing. Each c starts where the last ended.
    x is the program's own: what costs nothing is left between what it must be and 2, so that a
    device stays among the c largest. The least x possible serves up to half a device less.
    """
    w, rows = lane.value, lane.asked(np.zeros_like(lane.hopeful), lane.hopeful)
    x, v = np.zeros(len(w)), np.zeros(len(lane.g), dtype=complex)
    for c in range(int(lane.hopeful.sum()) + 1):
        last = np.inf
        for _ in range(INNER):
            # 1. The tangents: nothing is paid for the c largest, nor along the main direction.
            paid = np.where(largest(w * x, c), 0.0, w)
            # 2. Solve, and count what the main eigenvector serves.
            found = lane.answer(handle, rows=rows, cost=paid, pull=aside(v))
            if found is None:
                break
            x, v = found.x, found.main
            lane.offer(v)
            # 3. Stop at zero, or where it does not fall any more.
            gap = float((w * x)[~largest(w * x, c)].sum()) + found.rest
            if gap < ZERO or lane.finished:
                return x, v
            if last - gap < tol:
                break
            last = gap
    return x, v


def detect(
    lane: Lane, program: Handle, relaxed: Handle, order: Array, v: Array, tol: float
) -> None:
    """The longest prefix that one beam serves: rank one by DC, from all devices down to one.

    Where even a matrix of least trace exceeds 1 there is no beam. Asking that first gives the same
    answer as an infeasible program, which engines find hard to certify.
    """
    nobody, free = np.zeros_like(lane.hopeful), np.zeros(len(lane.value))
    for members in prefixes(lane, order):
        rows, last = lane.asked(members, nobody), np.inf
        least = lane.answer(relaxed, rows=rows)
        if least is None or least.size.sum() > 1:
            continue
        for _ in range(OUTER):
            # 1. A matrix for the prefix with the least outside the main direction.
            found = lane.answer(program, rows=rows, cost=free, pull=aside(v))
            if found is None:
                break
            # 2. Its main eigenvector is accepted if it serves the prefix.
            v = found.main
            if lane.offer(v)[members].all():
                return
            # 3. Stop where the rest does not fall any more.
            if found.rest < ZERO or last - found.rest < tol:
                break
            last = found.rest


def largest(x: Array, count: int) -> Array:
    """Mask of the ``count`` largest entries, equals by number."""
    mask = np.zeros(len(x), dtype=bool)
    mask[(-x).argsort(kind="stable")[:count]] = True
    return mask


def aside(v: Array) -> Array:
    """Coordinates of I - v v^H; <I - v v^H, M> is what M has outside v."""
    return coordinates(np.eye(len(v)) - np.outer(v, v.conj()))
