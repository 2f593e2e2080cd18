"""Reweighted l2 and SDR: squares that weigh little where much is lacking, to mimic |x|_p^p.

    min sum_k w_k (x_k'^2 + eps^2)^{p/2 - 1} x_k^2  s.t.  tr M - g_k^H M g_k <= x_k,  tr M = 1, ...

with x' the last x, p = 1/2 and eps falling from 0.1 to 0.001. The last x orders the devices; down
that order a prefix is tried by semidefinite relaxation as in ``l1-sdr``.

Source: the baseline of arXiv 1812.11750 as recalled; spec ota.md §3 (b); a reconstruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.run import LaneRun
from rralloc.solvers._lifted import Lane, Lifted, by_relaxation, ranked, squares
from rralloc.typing import Array, Point

P = 0.5
EPS = np.concatenate([np.geomspace(0.1, 0.001, 12), np.full(8, 0.001)])
"""One program each."""


class ReweightedL2SDR(Lifted):
    """Up to 20 reweighted programs for the order, semidefinite relaxation and rounding down it.

    ``engine``: ``CLARABEL``, or ``SCS``. ``tol`` (1e-4): the reweighting ends where x moves by
    less. ``max_iter``: most semidefinite programs for an instance. Random draws come from the
    ``rng`` of the call.

    Choose this when the reweighted relaxation is the yardstick; it serves hardly more devices than
    ``l1-sdr``.
    """

    name = "reweighted-l2-sdr"
    rank = 250

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Order the devices, then take the longest prefix that a rounded relaxation serves."""
        lane = Lane(problem, run, self.engine, self.name)
        if not lane.finished:
            lack = reweighted(lane, 1e-4 if run.tol is None else run.tol)
            by_relaxation(lane, ranked(lane, lack))
        lane.end()


def reweighted(lane: Lane, tol: float) -> Array:
    """What each device lacks ``(K,)`` after the last reweighting."""
    rows = lane.asked(np.zeros_like(lane.hopeful), lane.hopeful)
    x = np.zeros(len(lane.value))
    with lane.program(squares(*lane.g.shape)) as handle:
        for eps in EPS:
            # 1. Large x, small weight; relative to the largest weight there can be.
            weight = lane.value * (x**2 / eps**2 + 1) ** (P / 2 - 1)
            # 2. Solve, and count what the main eigenvector serves.
            found = lane.answer(handle, rows=rows, cost=np.sqrt(weight))
            if found is None:
                break
            lane.offer(found.main)
            # 3. Stop where x stands still at the smallest eps.
            moved, x = float(np.abs(found.lack - x).max()), found.lack
            if lane.finished or (eps == EPS[-1] and moved < tol):
                break
    return x
