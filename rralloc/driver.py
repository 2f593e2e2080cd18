"""The driver: ``solve`` hands instances to a solver, keeps the clock, and has the result graded."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem, RRAllocError
from rralloc.grade import Effort, Tolerances, grade
from rralloc.numerics.counts import require_non_negative
from rralloc.problem import Problem
from rralloc.run import Callback, Interrupted, LaneRun, Run
from rralloc.solution import Solution, Stopped, point_like
from rralloc.solver import Nobody, Solver
from rralloc.typing import Array, Point
from rralloc.verify import KKT_TOL


def solve(
    problem: Problem,
    solver: str | Solver | type[Solver] | None = None,
    *,
    start: Point | Solution | None = None,
    tol: float | None = None,
    feas_tol: float = 1e-9,
    gap_tol: float = 1e-4,
    certify: Effort = "cheap",
    max_iter: int | None = None,
    time_limit: float | None = None,
    rng: np.random.Generator | int | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Solution:
    """Solve every instance of ``problem``; returns a point with what is proven about it.

    Parameters
    solver
        A name (``rr.solvers_for(problem)`` lists them), an instance or a class; None takes the
        problem's default. ``options`` are the solver's own settings.
    start
        A point or an earlier Solution. A solver that cannot use it says so in ``message``.
    tol
        The solver's own stopping tolerance, and the KKT tolerance of ``Status.LOCAL``
        (1e-4 when None).
    feas_tol, gap_tol
        FEASIBLE needs violation <= feas_tol; GLOBAL needs a bound that proves gap <= gap_tol too.
    certify
        ``none``: point and violation only, no bound, no KKT residual, no trace; ``cheap``: from
        the point and the solver's witness; ``full``: also search for a better witness
        (``rr.certify``).
    max_iter, time_limit
        Iterations, and wall seconds for the whole batch; instances not reached have
        ``stopped == TIME`` and ``status == NONE``.
    rng
        Generator or seed for solvers that draw.
    callback
        Called with each row of the trace; a true answer stops the run.
    """
    _check(
        certify, {"tol": tol, "feas_tol": feas_tol, "gap_tol": gap_tol, "time_limit": time_limit}
    )
    flat = problem.flat()
    barred = _barred(flat)
    chosen = _chosen(solver, flat, barred, options)
    clock = time.perf_counter(), time.process_time()
    run = Run(
        flat,
        tol=tol,
        feas_tol=feas_tol,
        gap_tol=gap_tol,
        max_iter=max_iter,
        deadline=np.inf if time_limit is None else clock[0] + time_limit,
        seed=rng,
        callback=callback,
        started=clock[0],
        traced=certify != "none",
    )
    begin = None if start is None else _flat_start(problem, start)
    _execute(chosen, flat, begin, run, barred)
    tolerances = Tolerances(feas_tol, gap_tol, KKT_TOL if tol is None else tol)
    found = grade(problem, chosen, run, barred, tolerances, certify)
    words = f"{chosen.label()} does not use the start."
    if begin is not None and not chosen.warm:
        found.__dict__["message"] = "; ".join(m for m in (found.message, words) if m)
    found.__dict__["seconds"] = time.perf_counter() - clock[0]
    found.__dict__["cpu_seconds"] = time.process_time() - clock[1]
    if certify == "full":
        from rralloc.certify import certify as search

        return search(
            problem, found, "full", gap_tol=gap_tol, feas_tol=feas_tol, time_limit=time_limit
        )
    return found


def _check(certify: str, settings: dict[str, float | None]) -> None:
    """Refuse settings that mean nothing before any work is done."""
    if certify not in ("none", "cheap", "full"):
        raise InvalidProblem(f"certify = {certify!r}; choose 'none', 'cheap' or 'full'")
    for name, value in settings.items():
        require_non_negative(name, value)


def _barred(flat: Problem) -> Array | None:
    """Mask ``(S,)`` of instances proven infeasible; None when there are none (the usual case)."""
    found = flat.infeasible()
    if found is False or not np.any(found):
        return None
    return np.broadcast_to(found, (flat.size,))


def _chosen(
    solver: str | Solver | type[Solver] | None,
    flat: Problem,
    barred: Array | None,
    options: dict[str, Any],
) -> Solver:
    """The solver, asked whether it applies on the instances that can be solved at all."""
    from rralloc import registry

    if barred is not None and not barred.all():
        flat = flat[~barred]
    elif barred is not None and solver is None:
        return Nobody()
    chosen = registry.resolve(solver, flat, options)
    chosen.available()
    return chosen


def _flat_start(problem: Problem, start: Point | Solution) -> dict[str, Array]:
    given = point_like(start, tuple(v.name for v in problem.variables))
    flat = {}
    for var in problem.variables:
        if var.name in given:
            shape = problem.shape_of(var)
            try:
                full = np.broadcast_to(given[var.name], shape)
            except ValueError:
                raise InvalidProblem(
                    f"start: {var.name} has shape {given[var.name].shape}; need {shape}"
                ) from None
            flat[var.name] = full.reshape((problem.size, *shape[len(problem.batch_shape) :]))
        elif not var.derived:
            raise InvalidProblem(f"start lacks {var.name}; it has {', '.join(given) or 'nothing'}")
    return flat


def _execute(
    chosen: Solver, flat: Problem, start: Point | None, run: Run, barred: Array | None
) -> None:
    """Hand over the feasible lanes, all at once or one by one."""
    if not chosen.batched:
        for lane in range(flat.size) if barred is None else np.flatnonzero(~barred):
            _one_lane(chosen, flat, start, run, int(lane))
    elif barred is None:
        _guarded(chosen, flat, start, run)
    elif not barred.all():
        lanes = np.flatnonzero(~barred)
        part = run.part(lanes)
        begin = None if start is None else {n: v[lanes] for n, v in start.items()}
        _guarded(chosen, part.problem, begin, part)
        run.merge(part, lanes)


def _guarded(chosen: Solver, problem: Any, start: Point | None, run: Run | LaneRun) -> None:
    try:
        chosen.solve(problem, start, run)
    except Interrupted as stop:
        run.end(stop.reason)
    except RRAllocError:
        raise
    except Exception as error:
        if not chosen.foreign:
            raise
        run.end(Stopped.ERROR, words=f"{type(error).__name__}: {error}")


def _one_lane(chosen: Solver, flat: Problem, start: Point | None, run: Run, lane: int) -> None:
    reason = run.interruption()
    if reason is not None:
        run.end(reason, lane)
        return
    begin = None if start is None else {n: v[lane] for n, v in start.items()}
    _guarded(chosen, flat[lane], begin, LaneRun(run, lane))
