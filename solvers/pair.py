"""Two devices: the best common beam in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import SharedBeam
from rralloc.numerics.pair import pair_beam
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.typing import Point


class PairFormula(Solver):
    """The optimum for one or two devices, with the dual weight that proves it.

    Source: ota.md §2.4, derived.

    Choose this when there are two devices, or one.
    """

    name = "pair"
    rank = 10
    needs = (SharedBeam,)
    certifies = True

    def applies(self, problem: Problem) -> None:
        """Refuse more than two devices."""
        size = problem.view(SharedBeam).columns.shape[-1]
        if size > 2:
            raise NotOffered(f"K = {size} devices; the formula is for one and two")

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """The formula; a single device is a pair with itself."""
        self.applies(problem)
        form = problem.view(SharedBeam)
        g = form.columns
        found = pair_beam(g[..., 0], g[..., -1])
        proof = np.stack([found.weight, 1 - found.weight], -1)
        if g.shape[-1] == 1:
            proof = proof.sum(-1, keepdims=True)
        run.offer(form.point(found.m), witness={"dual_weight": proof})
