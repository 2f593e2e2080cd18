"""Semidefinite relaxation of the shared beam without a semidefinite program.

The matrix M = V V^H is kept as V ``(N, r)``, r = floor(sqrt K) + 1, and improved by the same
least-distance steps as a beam; the multipliers prove a bound. Beams are then read from V.

Source: Burer and Monteiro 2003 (low-rank factorisation); spec ota.md §3 (d3), derived.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.forms import SharedBeam
from rralloc.numerics.beams import normal
from rralloc.numerics.least_distance import max_min
from rralloc.numerics.low_rank_sdr import low_rank_sdr
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.typing import Array, Point


class LowRankSDR(Solver):
    """Relax the beam to a few at once, prove a bound by the multipliers, round, improve.

    ``trials``: random combinations of the columns of V that are improved beside the main one.

    Choose this when a bound close to that of the semidefinite relaxation is wanted without cvxpy.
    """

    name = "low-rank-sdr"
    rank = 30
    needs = (SharedBeam,)
    certifies = True

    trials: int = 8

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """One instance after another."""
        form = problem.view(SharedBeam)
        for lane, g in enumerate(form.columns):
            run.check()
            scale = float(np.linalg.norm(g, axis=0).min())
            relaxed = low_rank_sdr(g / scale)
            m = rounded(g / scale, relaxed.V, run.rng, self.trials)
            one = np.array([lane])
            point = problem[one].view(SharedBeam).point(m[None])
            proof = {"dual_weight": relaxed.y[None]}
            run.offer(point, lanes=one, witness=proof, trace=run.watching)


def rounded(g: Array, V: Array, rng: np.random.Generator, trials: int) -> Array:
    """A beam of large least gain from V: its main column, and random mixtures, improved."""
    left, size, _ = np.linalg.svd(V, full_matrices=False)
    starts = [left[:, 0]]
    starts += [left @ (size * z) for z in normal(rng, (trials, len(size)))]
    return max((max_min(g, m, steps=50, tol=1e-9) for m in starts), key=lambda beam: beam.gain).m
