"""Multistart: a local solver from several starts, the best end point kept.

The first start is the caller's (or ``problem.initial()``), the others are ``problem.sample``.
Source: standard; the share of starts that agree says how much to trust the best.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rralloc.driver import solve
from rralloc.errors import NotOffered, UnknownOption
from rralloc.forms import Smooth
from rralloc.problem import Problem
from rralloc.run import Interrupted, LaneRun
from rralloc.solution import Solution, Status, Stopped
from rralloc.solver import Solver
from rralloc.typing import Array, Point

SAME = 1e-6
"""End points whose objectives differ by less than this, relative, count as the same value."""


class Multistart(Solver):
    """Run a local solver from ``starts`` points and keep the best end point.

    ``inner``: name of the local solver (``multistart:pyomo`` for short); it must use a start.
    ``starts``: how many, the caller's start or the default one included. Random starts come from
    the ``rng`` of the call, so a seed repeats them.

    Statuses: CONVERGED once every start was tried and at least one run converged; TIME or USER
    when cut short; what the inner solver said when none of its runs converged. ``message`` tells
    how many starts reached the best value within 1e-6, among those that ended feasible.

    Choose this when local optima differ and no bound tells how good one is: many starts that
    agree are evidence, not proof.
    """

    name = "multistart"
    rank = 70
    needs = (Smooth,)
    batched = False
    warm = True
    variant = "inner"

    inner: str = "scipy:slsqp"
    starts: int = 10

    def available(self) -> None:
        """Options make sense; the inner solver is asked when the problem is known."""
        if self.starts < 1:
            raise UnknownOption(f"multistart: starts = {self.starts}; at least one is needed")
        if self.inner.partition(":")[0] == self.name:
            raise UnknownOption("multistart: the inner solver must be another one")

    def applies(self, problem: Problem) -> None:
        """The problem is smooth, and the inner solver takes it and uses its start."""
        super().applies(problem)
        self._local(problem)

    def _local(self, problem: Problem) -> Solver:
        from rralloc import registry

        local = registry.resolve(self.inner, problem)
        local.available()
        local.applies(problem)
        if not local.warm:
            raise NotOffered(f"{local.label()} ignores its start: {self.starts} runs would be one")
        return local

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """One inner run after another, until all starts or the time are used up."""
        local, ends, reason = self._local(problem), [], None
        try:
            for begin in self._begins(problem, start, run):
                run.check()
                ends.append(_descend(local, problem, begin, run))
                if ends[-1].status > Status.INFEASIBLE:
                    run.offer(ends[-1].x)
            run.check()
        except Interrupted as stop:
            reason = stop.reason
        run.count(int(sum(end.iterations for end in ends)))
        run.end(_ending(ends) if reason is None else reason, self._words(problem.sense, ends))

    def _begins(self, problem: Any, start: Point | None, run: LaneRun) -> Iterator[Point]:
        yield problem.initial() if start is None else start
        for _ in range(self.starts - 1):
            yield problem.sample(run.rng)

    def _words(self, sense: str, ends: list[Solution]) -> str:
        values = [float(end.objective) for end in ends if end.status >= Status.FEASIBLE]
        tried = (
            f"{len(ends)} starts"
            if len(ends) == self.starts
            else (f"{len(ends)} of {self.starts} starts")
        )
        said = {end.message for end in ends if end.stopped != Stopped.CONVERGED and end.message}
        parts = [_agreement(np.array(values), sense, tried), *sorted(said)[:3]]
        return f"multistart: {'; '.join(parts)}"


def _descend(local: Solver, problem: Any, begin: Point, run: LaneRun) -> Solution:
    return solve(
        problem,
        local,
        start=begin,
        tol=run.tol,
        feas_tol=run.feas_tol,
        certify="none",
        max_iter=run.max_iter,
        time_limit=run.time_left if np.isfinite(run.time_left) else None,
        rng=run.rng,
    )


def _ending(ends: list[Solution]) -> Stopped:
    reasons = [end.stopped for end in ends]
    last: Stopped = reasons[-1]
    return Stopped.CONVERGED if Stopped.CONVERGED in reasons else last


def _agreement(values: Array, sense: str, tried: str) -> str:
    if not values.size:
        return f"none of {tried} ended at a feasible point"
    best = values.min() if sense == "min" else values.max()
    same = np.abs(values - best) <= SAME * max(abs(best), 1e-300)
    return f"{int(same.sum())} of {tried} reached the best value"
