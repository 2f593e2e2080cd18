"""Certificates: search for a better witness, then let the problem evaluate it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rralloc.errors import NotOffered, SolverUnavailable
from rralloc.problem import Problem
from rralloc.solution import Solution, Status, codes, gap_between
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.grade import Effort


def certify(
    problem: Problem,
    sol: Solution,
    effort: Effort = "full",
    *,
    gap_tol: float = 1e-4,
    time_limit: float | None = None,
) -> Solution:
    """``sol`` with the best bound found: the point stays, bound, gap and status may improve.

    ``cheap`` evaluates the problem's bound at the point and the witness it came with; ``full``
    also runs every applicable solver whose witness proves something (``certifies``), each within
    ``time_limit`` seconds. A bound is always evaluated by ``problem.bound``, never taken from a
    solver.
    """
    if effort == "none" or not problem.bound_method:
        return sol
    best = _better(problem, np.asarray(sol.bound), problem.bound(sol.x, sol.duals or None))
    if effort == "full":
        for bound in _searched(problem, time_limit):
            best = _better(problem, best, bound)
    gap = gap_between(np.asarray(sol.objective), best)
    status = np.asarray(sol.status)
    proven = (status >= Status.FEASIBLE) & (gap <= gap_tol)
    return dataclasses.replace(
        sol,
        bound=best[()],
        gap=gap[()],
        bound_method=problem.bound_method,
        status=codes(np.where(proven, Status.GLOBAL, status), Status),
    )


def _better(problem: Problem, old: Array, new: Array) -> Array:
    return np.fmax(old, new) if problem.sense == "min" else np.fmin(old, new)


def _searched(problem: Problem, time_limit: float | None) -> list[Array]:
    from rralloc import registry
    from rralloc.driver import solve

    bounds = []
    for name, cls in registry.solver_classes().items():
        if cls.certifies:
            try:
                found = solve(problem, name, time_limit=time_limit)
            except (NotOffered, SolverUnavailable):
                continue
            bounds.append(np.asarray(found.bound))
    return bounds
