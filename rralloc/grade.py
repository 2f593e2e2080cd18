"""The verdict on a point: objective, violation, bound, gap, KKT residual, status.

Everything is recomputed by the problem's own formulas from the point alone; what the solver said
is kept as words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rralloc.certify import bound_at
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solution import (
    STATIONARY,
    Solution,
    Status,
    Stopped,
    codes,
    gap_between,
    in_domain,
)
from rralloc.typing import Array
from rralloc.verify import kkt_residual, violation

if TYPE_CHECKING:
    from rralloc.solver import Solver

Effort = Literal["none", "cheap", "full"]


class Tolerances(NamedTuple):
    """What counts as feasible, as proven, as stationary."""

    feasible: float
    gap: float
    kkt: float


def grade(
    problem: Problem,
    chosen: Solver,
    run: Run,
    barred: Array | None,
    tol: Tolerances,
    effort: Effort,
) -> Solution:
    """The Solution of a finished run, in the problem's batch shape."""
    flat, x, raw = run.problem, _points(run), None
    bounded = effort != "none" and bool(flat.bound_method)
    with np.errstate(all="ignore"):
        if chosen.foreign and run.filled.any():
            raw, x = violation(flat, x), flat.project(x)
        x = flat.complete(x)
        objective, worst = flat.objective(x), violation(flat, x)
        bound = bound_at(flat, x, run.witness) if bounded else np.full(flat.size, np.nan)
        if not run.filled.all():
            objective, worst = (np.where(run.filled, v, np.nan) for v in (objective, worst))
        if barred is not None:
            bound = np.where(barred, np.nan, bound)
        gap = gap_between(objective, bound)
    status, kkt = _status(flat, x, run, barred, (objective, worst, gap), tol, effort)
    lowest = int(status.min())
    if lowest <= Status.VIOLATED:  # a bound that excludes everything proves that nothing exists
        hopeless = bound == (-np.inf if flat.sense == "max" else np.inf)
        status[hopeless & (status <= Status.VIOLATED)] = Status.INFEASIBLE
    shape = problem.batch_shape

    def shaped(values: Array) -> Array:
        return values.reshape(shape + values.shape[1:])[()]

    return Solution(
        problem=problem,
        solver=chosen.label(),
        x={n: v.reshape(shape + v.shape[1:]) for n, v in x.items()},
        objective=shaped(objective),
        bound=shaped(bound),
        gap=shaped(gap),
        bound_method=flat.bound_method if effort != "none" else "",
        violation=shaped(worst),
        raw_violation=shaped(worst if raw is None else raw),
        kkt=shaped(kkt),
        status=codes(status.reshape(shape), Status),
        stopped=codes(run.stopped.reshape(shape), Stopped),
        iterations=shaped(run.iterations),
        seconds=0.0,
        cpu_seconds=0.0,
        message=_message(flat, run, barred, status if lowest < Status.GLOBAL else None, objective),
        duals={n: v.reshape(shape + v.shape[1:]) for n, v in run.witness.items()},
        trace=run.trace,
    )


def _status(
    flat: Problem,
    x: dict[str, Array],
    run: Run,
    barred: Array | None,
    found: tuple[Array, Array, Array],
    tol: Tolerances,
    effort: Effort,
) -> tuple[Array, Array]:
    """Codes ``(S,)`` and KKT residuals, the latter only where no bound proves the optimum."""
    objective, worst, gap = found
    # Infinitely bad means outside the domain (no rate, a biased law): not a feasible point.
    feasible = (worst <= tol.feasible) & in_domain(objective, flat.sense)
    proven = feasible & (gap <= tol.gap)
    kkt = np.full(flat.size, np.nan)
    if proven.all():
        return np.full(flat.size, Status.GLOBAL), kkt
    status = np.where(run.filled, Status.VIOLATED, Status.NONE)
    if barred is not None:
        status[barred & ~run.filled] = Status.INFEASIBLE
    status[feasible] = Status.FEASIBLE
    if effort != "none":
        kkt = kkt_residual(flat, x, feasible & ~proven)
        status[kkt <= tol.kkt] = Status.LOCAL
    status[proven] = Status.GLOBAL
    return status, kkt


def _points(run: Run) -> dict[str, Array]:
    """The incumbents; NaN where a lane has none (its status says so)."""
    out = {}
    for var in run.problem.variables:
        value = run.x.get(var.name)
        if value is None:
            if var.derived:
                continue
            kind = var.dtype if np.dtype(var.dtype).kind in "fc" else float
            value = np.full(run.problem.shape_of(var), np.nan, dtype=kind)
        out[var.name] = value
    return out


def _message(
    flat: Problem, run: Run, barred: Array | None, status: Array | None, objective: Array
) -> str:
    note = flat.note()
    parts = [note] if note else []
    if status is not None:  # some point is not proven optimal
        outside = int((~in_domain(objective, flat.sense) & ~np.isnan(objective)).sum())
        if outside:
            said_of = f"{outside} of {flat.size} points"
            parts.append(f"{said_of} outside the objective's domain (infinite)")
        if flat.bound_method and (status == Status.LOCAL).any():
            parts.append(STATIONARY)
    if barred is not None:
        for lane in np.flatnonzero(barred)[:3]:
            parts.append(f"instance {lane}: {flat[int(lane)].why_infeasible()}")
        if barred.sum() > 3:
            parts.append(f"and {int(barred.sum()) - 3} more infeasible instances")
    said: dict[str, list[int]] = {}
    for lane, words in run.words.items():
        said.setdefault(words, []).append(lane)
    for words, lanes in said.items():
        where = "" if flat.size == 1 else f" ({len(lanes)} of {flat.size} instances)"
        parts.append(f"{words}{where}")
    if flat.size > 1 and int(run.stopped.max()) >= Stopped.TIME:
        late = int((run.stopped == Stopped.TIME).sum())
        parts.append(f"time limit: {late} of {flat.size} instances not finished" if late else "")
    return "; ".join(p for p in parts if p)
