"""Sweep: solve every problem of a family of easier ones; the parent judges what they find."""

from __future__ import annotations

from typing import Any

from rralloc.driver import solve
from rralloc.errors import NotOffered
from rralloc.forms import Surrogate
from rralloc.forms import Sweep as SweepForm
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.typing import Point


class Sweep(Solver):
    """The best point that a family of easier problems yields, then ascent from there.

    ``inner``: solver of the easier problems (None: their default). ``refine``: solver that goes on
    from the best point of each instance, where the problem offers a surrogate; None for none.

    Choose this when one number (a threshold, a size) is all that keeps a problem from being easy.
    """

    name = "sweep"
    rank = 45
    needs = (SweepForm,)
    warm = True

    inner: str | None = None
    refine: str | None = "sca"

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Offer what each level finds; the run keeps the best for each instance."""
        form = problem.view(SweepForm)
        if start is not None:
            run.offer(problem.project(start))
        # 1. Every level; each starts anew, so that none inherits a poor neighbourhood.
        for level in range(len(form.levels)):
            run.check()
            run.offer(solve(form.at(level), self.inner, certify="none", rng=run.rng).x)
        # 2. From the best of them on.
        try:
            problem.view(Surrogate)
        except NotOffered:
            return
        if self.refine is not None:
            run.check()
            best = {n: v.copy() for n, v in run.x.items()}
            run.offer(solve(problem, self.refine, start=best, certify="none", rng=run.rng).x)
