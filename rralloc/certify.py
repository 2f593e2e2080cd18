"""Certificates: search for a better witness, then let the problem evaluate it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered, SolverUnavailable
from rralloc.problem import Problem
from rralloc.solution import STATIONARY, Solution, Status, codes, gap_between, in_domain
from rralloc.typing import Array, Point, Witness
from rralloc.verify import KKT_TOL, violation

if TYPE_CHECKING:
    from rralloc.grade import Effort


def certify(
    problem: Problem,
    sol: Solution,
    effort: Effort = "full",
    *,
    gap_tol: float = 1e-4,
    feas_tol: float = 1e-9,
    time_limit: float | None = None,
) -> Solution:
    """``sol`` with the best bound found: the point stays; the rest is judged anew from it.

    The bound that ``sol`` claims is not believed: it is evaluated again from point and witness.
    ``cheap`` evaluates the problem's bound at the point and the witness it came with; ``full``
    also runs every applicable solver whose witness proves something (``certifies``), each within
    ``time_limit`` seconds. A bound is always evaluated by ``problem.bound``, never taken from a
    solver.
    """
    if problem != sol.problem:
        raise InvalidProblem("certify: the solution is of another problem; solve this one first")
    if effort == "none" or not problem.bound_method:
        return sol
    best = np.asarray(bound_at(problem, sol.x, sol.duals))
    if effort == "full":
        for found in _searched(problem, gap_tol, time_limit):
            bound = tighter(problem, best, np.asarray(found.bound))
            if found.duals and (np.asarray(found.bound) == bound).all():  # its witness proves all
                sol = dataclasses.replace(sol, duals=found.duals)
            best = bound
    return _regraded(problem, sol, best, gap_tol, feas_tol)


def bound_at(problem: Problem, x: Point | None, witness: Witness | None) -> Array:
    """``problem.bound(x, witness)``; numbers that are none prove nothing.

    Where an instance's part of the witness holds NaN or inf, in any of its numeric arrays, all of
    them are left out and the instance is bounded by the point, and by what else the witness holds
    (a tree of cells). NaN stands, too, where a solver left an instance without a witness.
    """
    if not witness:
        return problem.bound(x)
    held = {n: np.asarray(v) for n, v in witness.items()}
    broken = _broken(problem, held)
    if not broken.any():
        return problem.bound(x, held)
    others = {n: v for n, v in held.items() if v.dtype.kind not in "fc"}
    without = problem.bound(x, others or None)
    return without if broken.all() else np.where(broken, without, problem.bound(x, held))


def _broken(problem: Problem, witness: Witness) -> Array:
    """The instances ``(...)`` of which the witness says something that is no finite number."""
    batch = problem.batch_shape
    broken = np.zeros(batch, dtype=bool)
    for value in witness.values():
        if value.dtype.kind in "fc":
            odd = ~np.isfinite(value)
            by_instance = value.shape[: len(batch)] == batch
            axes = tuple(range(len(batch), value.ndim)) if by_instance else None
            broken |= odd.any(axis=axes)  # one witness for all instances counts for all
    return broken


def _regraded(
    problem: Problem, sol: Solution, bound: Array, gap_tol: float, feas_tol: float
) -> Solution:
    """Objective, violation, gap and status anew from the point and the bound."""
    with np.errstate(all="ignore"):
        objective, worst = problem.objective(sol.x), violation(problem, sol.x)
        gap = gap_between(objective, bound)
    old = np.asarray(sol.status)
    held = old >= Status.VIOLATED
    feasible = held & (worst <= feas_tol) & in_domain(objective, problem.sense)
    status = np.where(held, np.where(feasible, Status.FEASIBLE, Status.VIOLATED), old)
    status = np.where(feasible & (np.asarray(sol.kkt) <= KKT_TOL), Status.LOCAL, status)
    status = np.where(feasible & (gap <= gap_tol), Status.GLOBAL, status)
    words = sol.message
    if not (status == Status.LOCAL).any():
        words = words.replace(STATIONARY, "").strip("; ")
    return dataclasses.replace(
        sol,
        problem=problem,
        objective=objective[()],
        violation=worst[()],
        bound=bound[()],
        gap=gap[()],
        bound_method=problem.bound_method,
        status=codes(status, Status),
        message=words,
    )


def tighter(problem: Problem, old: Any, new: Any) -> Array:
    """The better of two valid bounds, instance by instance; NaN is none."""
    return np.fmax(old, new) if problem.sense == "min" else np.fmin(old, new)


def _searched(problem: Problem, gap_tol: float, time_limit: float | None) -> list[Solution]:
    from rralloc import registry
    from rralloc.driver import solve

    answers = []
    for name, cls in registry.solver_classes().items():
        if cls.certifies:
            try:
                found = solve(problem, name, gap_tol=gap_tol, time_limit=time_limit)
            except (NotOffered, SolverUnavailable):
                continue
            answers.append(found)
    return answers
