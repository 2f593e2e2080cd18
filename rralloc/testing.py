"""Conformance of a problem: every promise its forms make, tried on one small instance or batch.

    >>> from rralloc.problems import WaterFilling
    >>> from rralloc.testing import check
    >>> check(WaterFilling.random(K=3, batch=2, rng=0))[:4]
    ['fields', 'indexing', 'baselines', 'projection']

Take K of 3 to 6, a batch of 2 to 4. Infeasible instances meet the first two checks only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from rralloc import forms, registry
from rralloc.driver import solve
from rralloc.errors import NotOffered
from rralloc.problem import Problem, stack
from rralloc.typing import Array, Point, Witness
from rralloc.verify import violation

FEAS_TOL = 1e-9
CLOUD = 24
"""Random points for each statement about all points."""


def check(problem: Problem, rng: np.random.Generator | int = 0) -> list[str]:
    """Run every check that applies; returns their names.

    Raises ``AssertionError`` with one sentence: problem, form, what is wrong, at which instance.
    """
    case, ran = _Case(problem, np.random.default_rng(rng)), []
    for test in _CHECKS if case.flat.size else _CHECKS[:2]:
        case.form = test.__name__
        try:
            names = test(case)
        except NotOffered:
            continue
        ran += [test.__name__] if names is None else names
    return ran


class _Case:
    """The problem under test, its feasible instances as lanes, and clouds of points."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        flat = problem.flat()
        self.problem, self.rng, self.form = problem, rng, ""
        self.flat: Problem = flat[~np.broadcast_to(flat.infeasible(), (flat.size,))]

    def limit(self, excess: Array | bool, tol: float, words: str) -> None:
        """Raise unless ``excess <= tol`` everywhere; its first axis is the instance."""
        excess = np.atleast_1d(excess).astype(float)
        bad = ~(excess <= tol)
        if bad.any():
            depth = np.where(bad, np.nan_to_num(excess, nan=np.inf), -np.inf)
            index = tuple(int(i) for i in np.unravel_index(np.argmax(depth), depth.shape))
            where = f"worst at {list(index)}: {excess[index]:.3g}, allowed {tol:.3g}"
            raise AssertionError(f"{type(self.problem).__name__}: {self.form}: {words} ({where})")

    def raw(self) -> dict[str, Array]:
        """A random point that may leave every bound."""
        x = self.flat.sample(self.rng)
        stretch = {n: self.rng.uniform(-1.0, 4.0, v.shape) for n, v in x.items()}
        return {n: v * stretch[n] if v.dtype.kind in "fc" else v for n, v in x.items()}

    def cloud(self, problem: Problem, count: int = CLOUD) -> Iterator[dict[str, Array]]:
        """Baselines, then random points of the problem's own sampler."""
        for rule in problem.points().values():
            yield problem.complete(rule())
        for _ in range(count):
            yield problem.complete(problem.sample(self.rng))

    def inner(self, problem: Problem) -> dict[str, Array]:
        """A random point away from the boundary, where differences may be taken."""
        start, other = problem.initial(), problem.sample(self.rng)
        return {v.name: (start[v.name] + other[v.name]) / 2 for v in own(problem)}

    @cached_property
    def found(self) -> list[tuple[Point, Witness]]:
        """Points and witnesses of every solver of ours that applies."""
        out: list[tuple[Point, Witness]] = []
        for name, cls in registry.solver_classes().items():
            if not cls.foreign and cls.rank < 1000 and name != "multistart":
                try:
                    sol = solve(self.flat, name, certify="none", time_limit=2.0, rng=0)
                except NotOffered:
                    continue
                if not any(np.isnan(v).any() for v in sol.x.values()):
                    out.append((sol.x, sol.duals))
        return out

    @cached_property
    def best(self) -> Array:
        """The best objective known at a feasible point of each lane."""
        points = [*self.cloud(self.flat), *(x for x, _ in self.found)]
        values = np.stack([_worth(self.flat, x) for x in points])
        return np.asarray(values.min(0) if self.flat.sense == "min" else values.max(0))


def own(problem: Problem) -> list[Any]:
    """The variables that are chosen, not derived."""
    return [v for v in problem.variables if not v.derived]


def _worth(problem: Problem, x: Point) -> Array:
    """The objective; the worst possible value where x is not feasible."""
    worst = np.inf if problem.sense == "min" else -np.inf
    return np.where(violation(problem, x) <= FEAS_TOL, problem.objective(x), worst)


def _rise(new: Array, old: Array) -> Array:
    """(new - old) relative to the larger; 0 where equal, +-1 where infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.maximum(np.abs(new), np.abs(old)), 1e-300)
        ratio = np.where(np.isinf(size), np.sign(new - old), (new - old) / size)
    return np.where(new == old, 0.0, ratio)


def _off(a: Array, b: Array) -> Array:
    return np.abs(_rise(a, b))


def _gain(problem: Problem, new: Array, old: Array) -> Array:
    """How much better ``new`` is, relative."""
    return _rise(old, new) if problem.sense == "min" else _rise(new, old)


def _slope(fun: Callable[[float], Any], step: float = 1e-4) -> Array:
    """Central difference of ``fun`` at 0 with one Richardson step: error of order step^4."""
    near, far = ((fun(h) - fun(-h)) / (2 * h) for h in (step, 2 * step))
    return np.asarray((4 * near - far) / 3)


# -- what every problem promises ----------------------------------------------------------------


def fields(case: _Case) -> None:
    """Frozen and read-only, copies too; equal content is ``==``, an int never is."""
    first = case.problem
    for problem in (first, deepcopy(first), first.replace(), first.select()):
        same = first.digest == problem.digest and first == problem and hash(first) == hash(problem)
        case.limit(not same or problem == 1, 0, "a copy is not equal to its original")
        for name in problem._data:
            array = getattr(problem, name)
            loose = isinstance(array, np.ndarray) and array.flags.writeable
            case.limit(loose, 0, f"{name} can be written to")
            try:
                setattr(problem, name, array)
            except AttributeError:
                continue
            case.limit(True, 0, f"{name} can be replaced")


def indexing(case: _Case) -> None:
    """``flat``, ``problem[i]``, ``stack``, ``select`` and a loop see the same instances."""
    problem, flat = case.problem, case.problem.flat()
    singles = [problem[i] if i else problem for i in np.ndindex(problem.batch_shape)]
    everybody = flat.select(**{a: np.arange(n) for a, n in problem.sizes.items()})
    for x in case.cloud(flat, 5):
        lanes = [{n: v[i] for n, v in x.items()} for i in range(len(singles))]
        value, worst = flat.objective(x), violation(flat, x)
        alone = np.array([p.objective(y) for p, y in zip(singles, lanes)])
        case.limit(_off(value, alone), 1e-12, "objective: batch and loop differ")
        alone = np.array([violation(p, y) for p, y in zip(singles, lanes)])
        case.limit(np.abs(worst - alone), 1e-12, "violation: batch and loop differ")
        for other in (stack(singles), everybody):
            case.limit(_off(value, other.objective(x)), 1e-12, "stack or select differs")


def baselines(case: _Case) -> None:
    """Named rules are feasible and have a value."""
    for name, rule in case.flat.points().items():
        x = case.flat.complete(rule())
        case.limit(violation(case.flat, x), FEAS_TOL, f"{name} is not feasible")
        case.limit(np.isnan(case.flat.objective(x)), 0, f"{name} has objective NaN")


def projection(case: _Case) -> None:
    """``project`` leads any point into the feasible set."""
    flat = case.flat
    if type(flat).project is Problem.project and flat.constraints(flat.initial()):
        raise NotOffered("the default projection knows the bounds only")
    for _ in range(CLOUD):
        x = flat.complete(flat.project(case.raw()))
        case.limit(violation(flat, x), FEAS_TOL, "a projected point is infeasible")


def gradient(case: _Case) -> None:
    """``gradient`` along random directions against complex step and central differences."""
    flat, h = case.flat, 1e-30
    if not flat.differentiable:
        raise NotOffered("not differentiable")
    for _ in range(CLOUD // 4):
        x = case.inner(flat)
        move = {n: v * case.rng.uniform(-1, 1, v.shape) for n, v in x.items()}
        slopes = flat.gradient(x)
        parts = [(slopes[n] * move[n]).reshape(flat.size, -1) for n in x]
        each = np.concatenate(parts, axis=-1)
        along, size = each.sum(-1), np.abs(each).sum(-1) + 1e-300
        exact = np.imag(flat.objective({n: x[n] + 1j * h * move[n] for n in x})) / h
        taken = _slope(lambda t: flat.objective({n: x[n] + t * move[n] for n in x}))  # noqa: B023  # called at once
        case.limit(np.abs(along - exact) / size, 1e-9, "differs from the complex step")
        case.limit(np.abs(along - taken) / size, 1e-6, "differs from central differences")


def bound(case: _Case) -> None:
    """No feasible point beats the bound at any point, solver's witness or distorted witness."""
    flat = case.flat
    if not flat.bound_method:
        raise NotOffered("no bound")
    claims = [flat.bound(x) for x in case.cloud(flat, 8)]
    for x, witness in case.found:
        claims.append(flat.bound(x, witness or None))
        for factor in (0.0, 0.5, 0.999, 1.001, 2.0, 1e3) if witness else ():
            off = {n: v * factor if v.dtype.kind == "f" else v for n, v in witness.items()}
            claims.append(flat.bound(x, off))
    for claim in claims:
        proven = np.where(np.isnan(claim), 0.0, _gain(flat, case.best, claim))
        case.limit(proven, 1e-8, "a feasible point beats it")


# -- forms --------------------------------------------------------------------------------------


def _optimal(case: _Case, x: Point, witness: Witness | None) -> None:
    """Feasible, beaten by nobody, and proven where a witness is promised."""
    flat = case.flat
    case.limit(violation(flat, x), FEAS_TOL, "the point is infeasible")
    case.limit(_gain(flat, case.best, flat.objective(x)), 1e-9, "another point is better")
    if witness and flat.bound_method:
        gap = _off(flat.objective(x), flat.bound(x, witness))
        case.limit(gap, 1e-6, "the witness does not prove the optimum")


def closed_form(case: _Case) -> None:
    """The formula is the optimum, and its witness proves it."""
    form = case.flat.view(forms.ClosedForm)
    _optimal(case, case.flat.complete(form.point()), form.witness() if form.witness else None)


def level(case: _Case) -> None:
    """``used`` falls across the bracket, around the budget, at its slope; its root is optimal."""
    form = case.flat.view(forms.Level)
    low, high = (np.asarray(v, dtype=float) for v in form.bracket)
    cuts = np.linspace(0, 1, 15)[1:-1]
    geometric = form.spacing == "log"
    way = [low ** (1 - t) * high**t if geometric else low + t * (high - low) for t in cuts]
    used = np.stack([form.used(at) for at in (low, *way, high)])
    size = np.abs(form.budget) + 1e-300
    with np.errstate(invalid="ignore"):
        climbs = np.where(np.isinf(used[:-1]), -np.inf, np.diff(used, axis=0)).max(0) / size
    case.limit(climbs, 1e-9, "used rises along the bracket")
    case.limit((form.budget - used[0]) / size, 1e-9, "the low end uses less than the budget")
    case.limit((used[-1] - form.budget) / size, 1e-9, "the high end uses more than the budget")
    for at in way if form.slope else ():
        left, here, right = (form.slope(at * t) for t in (1 - 2e-6, 1.0, 1 + 2e-6))  # type: ignore[misc]  # slope is not None here
        with np.errstate(invalid="ignore"):
            taken = _slope(lambda t: form.used(at * (1 + t)), 1e-6) / at  # noqa: B023  # called at once
            smooth_here = np.isfinite(taken) & (np.abs(left - right) <= 1e-3 * np.abs(here))
        case.limit(np.where(smooth_here, _off(here, taken), 0.0), 1e-5, "slope differs from used")
    sol = solve(case.flat, "level", certify="none")
    _optimal(case, sol.x, sol.duals if form.witness else None)


def separable(case: _Case) -> None:
    """Points come back, derivatives of ``local`` against differences; nobody beats its solver.

    ``newton`` where the form says convex, ``dual`` where it names branches.
    """
    form = case.flat.view(forms.Separable)
    low, high = np.broadcast_arrays(form.lower, form.upper)
    width = np.where(np.isfinite(high), high, low + 1.0) - low
    for _ in range(CLOUD // 4):
        x = low + width * case.rng.uniform(0.1, 0.9, low.shape)
        used = np.maximum(1.0, (x @ form.row).sum(-1))[:, None, None]
        x = np.where(form.row != 0, x / used, x)
        step = width * case.rng.uniform(-1, 1, low.shape) * np.minimum(x - low, 1.0) * 0.5
        value, slopes, hessian = form.local(x)
        point = form.point(x)
        total = _off(value.sum(-1), case.flat.objective(case.flat.complete(point)))
        case.limit(total, 1e-9, "the sum of local values is not the objective")
        case.limit(np.abs(form.coordinates(point) - x), 1e-9, "coordinates do not come back")
        rise = _slope(lambda t: form.local(x + t * step)[0])  # noqa: B023  # called at once
        bend = _slope(lambda t: form.local(x + t * step)[1])  # noqa: B023  # called at once
        size = np.abs(value) + np.abs(slopes * step).sum(-1)
        case.limit(np.abs((slopes * step).sum(-1) - rise) / size, 1e-6, "gradient")
        off = np.abs((hessian @ step[..., None])[..., 0] - bend).sum(-1)
        case.limit(off / (np.abs(slopes) + np.abs(bend)).sum(-1), 1e-5, "Hessian blocks")
    solver = "newton" if np.all(form.convex) else "dual" if form.branches else None
    if solver:
        sol = solve(case.flat, solver, certify="none")
        case.limit(violation(case.flat, sol.x), FEAS_TOL, f"the point of {solver} is infeasible")
        case.limit(_gain(case.flat, case.best, sol.objective), 1e-6, f"{solver} is beaten")


def blocks(case: _Case) -> None:
    """A block's problem has the parent's objective, at the held point and away from it."""
    flat, form = case.flat, case.flat.view(forms.Blocks)
    for name in form.names:
        x, y = case.inner(flat), case.inner(flat)
        part = form.fix(name, x)
        names = [v.name for v in own(part)]
        for z in (x, x | {n: y[n] for n in names}):
            mine = part.complete({n: z[n] for n in names})
            off = _off(part.objective(mine), flat.objective(flat.complete(z)))
            off = np.where(violation(part, mine) <= FEAS_TOL, off, 0.0)
            case.limit(off, 1e-9, f"block {name} has another objective than the problem")


def surrogate(case: _Case) -> None:
    """Tight at its point, convex along segments, never better than the truth."""
    flat, form = case.flat, case.flat.view(forms.Surrogate)
    for _ in range(4):
        x0 = flat.complete(case.inner(flat))
        near = form.at(x0)
        case.limit(_off(near.objective(x0), flat.objective(x0)), 1e-9, "not tight at its point")
        points = [x0, *case.cloud(flat, 8)]
        inside = [violation(near, x) <= FEAS_TOL for x in points]
        for x, fits in zip(points, inside):
            better = _gain(flat, near.objective(x), flat.objective(x))
            case.limit(np.where(fits, better, 0.0), 1e-9, "better than the objective")
        for x, y, both in zip(points, points[1:], np.logical_and(inside[1:], inside[:-1])):
            half = near.complete(_middle(near, x, y))
            ends = (near.objective(x) + near.objective(y)) / 2
            worse = _gain(near, ends, near.objective(half))
            case.limit(np.where(both, worse, 0.0), 1e-9, "not convex between two points")


def _middle(near: Problem, x: Point, y: Point) -> Point:
    """Half way, in the coordinates in which a convex problem is: its separable form's, if any."""
    try:
        form = near.view(forms.Separable)
    except NotOffered:
        return {v.name: (x[v.name] + y[v.name]) / 2 for v in own(near)}
    return form.point((form.coordinates(x) + form.coordinates(y)) / 2)


def smooth(case: _Case) -> None:
    """Flat coordinates come back, derivatives are right, smaller is better, feasible has slack."""
    for one in case.flat[: min(case.flat.size, 2)]:
        form, values = one.view(forms.Smooth), []
        for _ in range(4):
            x = case.inner(one)
            z = form.flatten(x)
            for n, v in form.unflatten(z).items():
                case.limit(_off(v, x[n]), 1e-9, f"{n} does not come back")
            (value, slopes), (slack, jac) = form.value_grad(z), form.constraints_jac(z)
            short = np.where(form.equality, np.abs(slack), -slack)
            if violation(one, one.complete(x)) <= FEAS_TOL:
                case.limit(short, 1e-8, "a feasible point has negative slack")
            for step in np.diag(np.maximum(np.abs(z), 1e-6)):
                rise = _slope(lambda t: form.value_grad(z + t * step)[0])  # noqa: B023  # called at once
                size = abs(value) + np.abs(slopes * z).sum()
                case.limit(np.abs(rise - slopes @ step) / size, 1e-6, "gradient")
                moved = _slope(lambda t: form.constraints_jac(z + t * step)[0])  # noqa: B023  # called at once
                off = np.abs(moved - jac @ step) / (1 + np.abs(slack) + np.abs(moved))
                case.limit(off, 1e-6, "Jacobian")
            values.append((value, one.objective(one.complete(x))))
        for (a, p), (b, q) in pairwise(values):
            wrong = _rise(np.array(a), np.array(b)) * _gain(one, p, q) > 1e-18
            case.limit(wrong, 0, "a smaller value is not a better objective")


def boxes(case: _Case) -> None:
    """No point of a box beats the bound of the box."""
    for one in case.flat[: min(case.flat.size, 2)]:
        form = one.view(forms.Boxes)
        ends = np.sort(case.rng.uniform(size=(2, CLOUD, form.lower.size)), axis=0)
        low, high = form.lower + (form.upper - form.lower) * ends
        low[0], high[0] = form.lower, form.upper
        claim = form.bound(low, high)
        for _ in range(CLOUD // 2):
            inside = low + (high - low) * case.rng.uniform(size=low.shape)
            here = np.array([_worth(one, one.complete(form.point(z))) for z in inside])
            case.limit(_gain(one, here, claim), 1e-9, "a point of the box beats it")


def subsets(case: _Case) -> None:
    """A set's point lifts to a feasible point, and what is better there is better here."""
    flat, form = case.flat, case.flat.view(forms.Subsets)
    for _ in range(6):
        mask = case.rng.random((flat.size, form.size)) < 0.6
        mask[np.arange(flat.size), case.rng.integers(form.size, size=flat.size)] = True
        part, known = form.fix(mask), []
        for x in case.cloud(part, 4):
            lifted = flat.complete(form.lift(mask, x))
            case.limit(violation(flat, lifted), FEAS_TOL, "a lifted point is infeasible")
            known.append((part.objective(x), flat.objective(lifted)))
        for (a, p), (b, q) in pairwise(known):
            wrong = _gain(part, a, b) * _gain(flat, p, q) < -1e-18
            case.limit(wrong & np.isfinite(a + b), 0, "the problem prefers what the subset rejects")


def models(case: _Case) -> list[str]:
    """What cvxpy and pyomo make of the exported model agrees with the best point known."""
    form, few, ran = case.flat.view(forms.Model), case.flat[: min(case.flat.size, 2)], []
    for backend in form.backends if form.exact else ():
        if backend in registry.solvers_for(few):
            sol = solve(few, backend)
            case.limit(sol.violation, FEAS_TOL, f"{backend} is infeasible. {sol.message}")
            missed = _gain(few, case.best[: few.size], sol.objective)
            # Where nothing is convex (pyomo alone) a local solver owes no optimum.
            tol = 1e-5 if "cvxpy" in form.backends else np.inf
            case.limit(missed, tol, f"{backend} is not the optimum. {sol.message}")
            ran.append(f"model:{backend}")
    return ran


_CHECKS: tuple[Callable[[_Case], list[str] | None], ...] = (
    *(fields, indexing),
    *(baselines, projection, gradient, bound),
    *(closed_form, level, separable, blocks, surrogate, smooth, boxes, subsets, models),
)
