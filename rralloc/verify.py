"""The independent check of a point; shares no code with any solver.

``verify(problem, x)`` recomputes objective, every constraint and the KKT residual from the
problem's own formulas and the point alone. Nothing a solver says is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.derivatives import linearise, scales
from rralloc.errors import NotOffered
from rralloc.fields import Constraint
from rralloc.problem import Problem
from rralloc.solution import Solution, in_domain, point_like
from rralloc.typing import Array, Point

KKT_TOL = 1e-4
"""A KKT residual at most this makes a point LOCAL, unless the caller's ``tol`` says otherwise."""
ACTIVE = 1e-6
"""A constraint with scaled slack at most this counts as active in the KKT residual."""


@dataclass(frozen=True, eq=False)
class Check:
    """One constraint: worst residual over the batch, with unit and where it is."""

    name: str
    violation: float
    slack: float
    unit: str
    index: tuple[int, ...]

    def __str__(self) -> str:
        mark = "ok " if self.violation <= 1e-9 else "BAD"
        unit = "" if self.unit == "1" else f" {self.unit}"
        return (
            f"{mark} {self.name:28s} least slack {self.slack:+.3e}{unit} at {list(self.index)}, "
            f"scaled violation {self.violation:.1e}"
        )


@dataclass(frozen=True, eq=False)
class Report:
    """What ``verify`` found; ``str(report)`` is a table, ``ok(tol)`` the verdict on feasibility."""

    objective: Any
    violation: Any
    kkt: Any
    checks: tuple[Check, ...]
    false_claims: tuple[str, ...]
    unit: str
    sense: str

    def ok(self, feas_tol: float = 1e-9) -> bool:
        """Feasible within ``feas_tol``, in the objective's domain, no false claim."""
        inside = in_domain(self.objective, self.sense) & (np.asarray(self.violation) <= feas_tol)
        return bool(np.all(inside)) and not self.false_claims

    def __str__(self) -> str:
        head = f"objective {np.array2string(np.asarray(self.objective), threshold=4)} {self.unit}"
        claims = [f"BAD false claim: {c}" for c in self.false_claims]
        kkt = np.asarray(self.kkt)
        tail = [] if np.isnan(kkt).all() else [f"    KKT residual {np.nanmax(kkt):.1e}"]
        return "\n".join([head, *map(str, self.checks), *claims, *tail])


@np.errstate(all="ignore")  # a point may lie outside the domain
def verify(problem: Problem, x: Point | Solution) -> Report:
    """Recompute everything that can be known about ``x`` (a point or a Solution)."""
    given = point_like(x, tuple(v.name for v in problem.variables))
    missing = [v.name for v in problem.variables if not v.derived and v.name not in given]
    if missing:
        raise NotOffered(f"the point lacks {', '.join(missing)}; it has {', '.join(given)}")
    shaped = {n: _shaped(problem, n, v) for n, v in given.items()}
    full = problem.complete(shaped)
    claims = tuple(
        n
        for n, v in shaped.items()
        if not np.array_equal(v, full[n], equal_nan=v.dtype.kind in "fc")
    )
    checks = tuple(_check(c) for c in residuals(problem, full))
    return Report(
        objective=problem.objective(full),
        violation=violation(problem, full),
        kkt=kkt_residual(problem, full),
        checks=checks,
        false_claims=claims,
        unit=problem.unit,
        sense=problem.sense,
    )


def _shaped(problem: Problem, name: str, value: Array) -> Array:
    var = next(v for v in problem.variables if v.name == name)
    want = problem.shape_of(var)
    try:
        return np.broadcast_to(value, want)
    except ValueError:
        raise NotOffered(f"{name} has shape {value.shape}; the problem needs {want}") from None


def residuals(problem: Problem, x: Point) -> Iterator[Constraint]:
    """The variables' own bounds as constraints, then the problem's constraints."""
    for var in problem.variables:
        kind = np.dtype(var.dtype).kind
        if var.derived or kind not in "fi":
            continue
        if kind == "i":
            near = x[var.name] - np.rint(x[var.name])
            yield Constraint(f"{var.name} is an integer", near, var.unit, 1.0, equality=True)
        low, high, scale = problem.limits(var)
        if not (np.ndim(low) == 0 and low == -np.inf):
            yield Constraint(f"{var.name} >= {var.low}", x[var.name] - low, var.unit, scale)
        if not (np.ndim(high) == 0 and high == np.inf):
            yield Constraint(f"{var.name} <= {var.high}", high - x[var.name], var.unit, scale)
    yield from problem.constraints(x)


def scaled_violation(constraint: Constraint) -> Array:
    """max(0, -slack) / scale elementwise; |slack| for an equality; inf where not a number."""
    slack = -np.abs(constraint.slack) if constraint.equality else constraint.slack
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = -slack / np.abs(constraint.scale)
    return np.where(slack >= 0, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def violation(problem: Problem, x: Point) -> Array:
    """The worst scaled violation of each instance ``(...)``."""
    worst: Array = np.zeros(problem.batch_shape)
    for constraint in residuals(problem, x):
        each = scaled_violation(constraint)
        axes = tuple(range(len(problem.batch_shape), each.ndim))
        worst = np.maximum(worst, each.max(axis=axes) if axes else each)
    return worst


def _check(constraint: Constraint) -> Check:
    slack = -np.abs(constraint.slack) if constraint.equality else np.asarray(constraint.slack)
    each = scaled_violation(constraint)
    depth = np.where(each > 0, each, -slack / np.maximum(np.abs(constraint.scale), 1e-300))
    index = tuple(int(i) for i in np.unravel_index(np.argmax(depth), depth.shape))
    return Check(constraint.name, float(each.max()), float(np.min(slack)), constraint.unit, index)


def kkt_residual(problem: Problem, x: Point, where: Array | None = None) -> Array:
    """Stationarity with least-squares multipliers of the active constraints, batch ``(...)``.

    min over mu >= 0 (free for equalities) of |grad f - J' mu|_inf in dimensionless coordinates z,
    divided by |f - f0| / max(1, |z|_inf) with f0 the objective of the problem's start, so that
    neither a constant added to f nor a steep slope held by a bound hides what is left to gain;
    by |f| or |grad f|_inf where x is the start itself. NaN where derivatives are not offered or
    not asked for.
    """
    out: Array = np.full(problem.batch_shape, np.nan)
    if not problem.differentiable:
        return out
    for index in np.ndindex(problem.batch_shape):
        if where is None or where[index]:
            one = problem[index] if index else problem
            try:
                out[index] = _kkt_one(one, {n: v[index] for n, v in x.items()})
            except NotOffered:
                return out
    return out


def _kkt_one(problem: Problem, x: Point) -> float:
    from scipy.optimize import nnls

    here = linearise(problem, x)
    if not (np.isfinite(here.value) and np.isfinite(here.gradient).all()):
        return float("nan")
    descent = here.gradient if problem.sense == "min" else -here.gradient
    rows = [here.jacobian[(here.slack <= ACTIVE) | here.equality], *_active_bounds(problem, x)]
    rows.append(-here.jacobian[here.equality])
    active = np.vstack(rows)
    size = _gained(problem, x, here.value) or float(np.abs(descent).max(initial=0.0))
    if size == 0.0 or not np.isfinite(active).all():
        return 0.0 if size == 0.0 else float("nan")
    if active.shape[0]:
        try:
            multiplier, _ = nnls(active.T, descent / size)
        except RuntimeError:  # nnls gave up: the residual of no multipliers is still valid
            multiplier = np.zeros(active.shape[0])
        return float(np.abs(descent / size - active.T @ multiplier).max())
    return float(np.abs(descent / size).max())


def _gained(problem: Problem, x: Point, value: float) -> float:
    """What moving from the problem's start to x changed, for one unit of movement; 0 if unknown.

    A change below 1e-8 of the value is none: then the value itself is the measure.
    """
    with np.errstate(all="ignore"):
        change = abs(value - float(problem.objective(problem.initial())))
    spread = max(1.0, *(float(np.abs(x[n] / s).max()) for n, s in scales(problem).items()))
    change = change if change > 1e-8 * abs(value) else abs(value)
    return change / spread if np.isfinite(change) else 0.0


def _active_bounds(problem: Problem, x: Point) -> list[Array]:
    scale = scales(problem)
    total = sum(s.size for s in scale.values())
    rows, first = [], 0
    for var in problem.variables:
        if var.derived:
            continue
        low, high, _ = problem.limits(var)
        size = scale[var.name].size
        unit = np.eye(total)[first : first + size]
        below = (x[var.name] - low) / scale[var.name] <= ACTIVE
        above = (high - x[var.name]) / scale[var.name] <= ACTIVE
        rows += [unit[below.ravel()], -unit[above.ravel()]]
        first += size
    return rows
