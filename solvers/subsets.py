"""Choosing a set of devices: greedily, or every set in turn.

A set is judged by the parent's objective at the point that the remaining problem's solver finds.
Source: greedy rule arXiv 2007.07174 (abstract: add the device that helps most, stop when nothing
helps); spec rrm.md §5 problem C.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from rralloc.driver import solve
from rralloc.errors import NotOffered
from rralloc.forms import Coverage, Subsets
from rralloc.problem import Problem
from rralloc.solver import Solver
from rralloc.solvers._greedy_beam import growing
from rralloc.solvers.coverage import normalised
from rralloc.typing import Array, Point


class Greedy(Solver):
    """Start with nobody, add the device that improves the objective most, stop when none does.

    ``patience``: how many additions in a row may fail to improve before giving up.

    Where one beam must serve many (form Coverage), start at the strongest device and add the first
    outsider that can be served with all members, by value, then by gain; ``patience`` and
    ``inner`` play no part there. Source: spec ota.md §3 (e), a plain baseline.

    Choose this when sets are many and a good one is enough; it proves nothing and may stop early.
    """

    name = "greedy"
    rank = 55
    needs = (Subsets,)
    batched = False

    patience: int = 1
    inner: str | None = None

    def applies(self, problem: Problem) -> None:
        """Refuse a problem that has neither sets of devices nor a beam that serves them."""
        try:
            problem.view(Subsets)
        except NotOffered as why:
            try:
                problem.view(Coverage)
            except NotOffered as other:
                raise NotOffered(f"{why}; {other}") from None

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """Sets where the problem has them, else one beam."""
        try:
            problem.view(Subsets)
        except NotOffered:
            self._beam(problem, run)
        else:
            self._sets(problem, run)

    def _sets(self, problem: Any, run: Any) -> None:
        """All one-device extensions of the set are solved as one batch."""
        size = problem.view(Subsets).size
        mask, best, failed = np.zeros(size, dtype=bool), _worst(problem), 0
        while not mask.all() and failed < self.patience:
            run.check()
            trials = mask | np.eye(size, dtype=bool)[~mask]
            values, points = judge(problem, trials, self.inner)
            pick = int(_signed(problem, values).argmin())
            mask = trials[pick]
            if _signed(problem, values[pick]) < _signed(problem, best):
                best, failed = values[pick], 0
                run.offer({n: v[pick] for n, v in points.items()})
            else:
                failed += 1

    def _beam(self, problem: Any, run: Any) -> None:
        """One device more at a time; what was reached is offered also when the time is up."""
        form = problem.view(Coverage)
        columns, value = normalised(form)
        m = np.zeros(len(columns), dtype=complex)
        try:
            for beam in growing(columns, value):
                m = beam
                run.check()
        finally:
            run.offer(form.point(m))


class Exhaustive(Solver):
    """Every nonempty set, by size; exact up to ``limit`` devices.

    Choose this when K is small and certainty about the set is wanted.
    """

    name = "exhaustive"
    rank = 85
    needs = (Subsets,)
    batched = False

    limit: int = 16
    inner: str | None = None

    def applies(self, problem: Problem) -> None:
        """Refuse more than ``limit`` devices."""
        size = problem.view(Subsets).size
        if size > self.limit:
            raise NotOffered(f"{2**size:.1e} sets of {size} devices; limit is {self.limit}")

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """Sets of one size are solved as one batch."""
        self.applies(problem)
        size = problem.view(Subsets).size
        for count in range(1, size + 1):
            run.check()
            chosen = np.array(list(combinations(range(size), count)))
            masks = np.zeros((len(chosen), size), dtype=bool)
            np.put_along_axis(masks, chosen, True, axis=1)
            values, points = judge(problem, masks, self.inner)
            pick = int(_signed(problem, values).argmin())
            run.offer({n: v[pick] for n, v in points.items()})


def judge(
    problem: Problem, masks: Array, inner: str | None = None
) -> tuple[Array, dict[str, Array]]:
    """The parent's objective ``(M,)`` and points for sets ``(M, K)``; worst value if infeasible."""
    form = problem.view(Subsets)
    part = solve(form.fix(masks), inner, certify="none")
    points = dict(form.lift(masks, part.x))
    with np.errstate(invalid="ignore"):
        values = np.asarray(problem.objective(points))
    return np.where(np.isnan(values), _worst(problem), values), points


def _worst(problem: Problem) -> float:
    return np.inf if problem.sense == "min" else -np.inf


def _signed(problem: Problem, values: Any) -> Any:
    return values if problem.sense == "min" else -values
