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
    """The best point that a family of easier problems yields, each improved by ascent.

    ``inner``: solver of the easier problems (None: their default). ``refine``: solver that goes on
    from what each level found, where the problem offers a surrogate; None for none.

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
        form, refine = problem.view(SweepForm), self._refiner(problem)
        if start is not None:
            run.offer(problem.project(start))
        for level in range(len(form.levels)):
            run.check()
            # 1. The easier problem, begun anew: none inherits a poor neighbourhood.
            found = solve(form.at(level), self.inner, certify="none", rng=run.rng).x
            run.offer(found)
            # 2. From there on in the problem itself.
            if refine is not None:
                run.check()
                run.offer(solve(problem, refine, start=found, certify="none", rng=run.rng).x)

    def _refiner(self, problem: Any) -> str | None:
        """``refine``, if the problem has what it takes."""
        try:
            problem.view(Surrogate)
        except NotOffered:
            return None
        return self.refine
