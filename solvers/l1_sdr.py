"""l1 and SDR: drop rank one, and count what is lacking instead of who lacks.

    min sum_k w_k x_k  s.t.  tr M - g_k^H M g_k <= x_k,  x >= 0,  tr M = 1,  M >= 0

One program orders the devices by x. Down that order, a prefix is tried by semidefinite relaxation,

    min tr M  s.t.  g_k^H M g_k >= 1,  M >= 0,

with 100 Gaussian randomisations and the main eigenvector.

Source: the baseline of arXiv 1812.11750 as recalled; spec ota.md §3 (b); a reconstruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.run import LaneRun
from rralloc.solvers._lifted import Lane, Lifted, by_relaxation, coordinates, ranked, sparse
from rralloc.typing import Array, Point


class L1SDR(Lifted):
    """One l1 program for the order, semidefinite relaxation with randomised rounding down it.

    ``engine``: ``CLARABEL``, or ``SCS``. ``max_iter``: most semidefinite programs for an instance.
    Random draws come from the ``rng`` of the call.

    Choose this when the textbook relaxation is the yardstick: it is what rank and sparsity cost
    when both are simply dropped.
    """

    name = "l1-sdr"
    rank = 240

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Order the devices, then take the longest prefix that a rounded relaxation serves."""
        lane = Lane(problem, run, self.engine, self.name)
        if not lane.finished:
            by_relaxation(lane, ranked(lane, least_total(lane)))
        lane.end()


def least_total(lane: Lane) -> Array:
    """What each device lacks ``(K,)`` where the weighted total is least; 0 without an answer."""
    rows = lane.asked(np.zeros_like(lane.hopeful), lane.hopeful)
    none = coordinates(np.zeros((len(lane.g), len(lane.g))))
    with lane.program(sparse(*lane.g.shape)) as handle:
        found = lane.answer(handle, rows=rows, cost=lane.value, pull=none)
    if found is None:
        return np.zeros(len(lane.value))
    lane.offer(found.main)
    return found.lack
