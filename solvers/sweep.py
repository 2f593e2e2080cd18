"""Sweep: solve every problem of a family of easier ones; the parent judges what they find."""

from __future__ import annotations

from typing import Any

import numpy as np

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
        for rule in problem.points().values():  # never below a rule of thumb
            run.offer(rule())
        if start is not None:
            run.offer(problem.project(start))
        for level in range(len(form.levels)):
            run.check()
            # 1. The easier problem, begun anew: none inherits a poor neighbourhood.
            limit = _left(run)
            easier = form.at(level)
            found = solve(easier, self.inner, certify="none", rng=run.rng, time_limit=limit).x
            if not _complete(found):
                continue
            run.offer(found)
            # 2. From there on in the problem itself.
            if refine is not None:
                run.check()
                better = solve(
                    problem, refine, start=found, certify="none", rng=run.rng, time_limit=_left(run)
                )
                if _complete(better.x):
                    run.offer(better.x)

    def _refiner(self, problem: Any) -> str | None:
        """``refine``, if the problem has what it takes."""
        try:
            problem.view(Surrogate)
        except NotOffered:
            return None
        return self.refine


def _left(run: Run) -> float | None:
    """Seconds for a solver inside; None without a deadline."""
    return max(run.time_left, 0.0) if np.isfinite(run.time_left) else None


def _complete(x: Point) -> bool:
    """Whether every lane got a point before the time was up."""
    return all(np.isfinite(v).all() for v in x.values())
