"""Conformance of a problem: every promise its forms make, tried on one small instance or batch.

    >>> from rralloc.problems import WaterFilling
    >>> from rralloc.testing import check
    >>> check(WaterFilling.random(K=3, batch=2, rng=0))[:4]
    ['fields', 'copies', 'indexing', 'baselines']

``check`` returns the names of the checks that ran and raises ``AssertionError`` with one sentence:
which problem, which form, what is wrong, at which instance. Take a small problem (K of 3 to 6, a
batch of 2 to 4). Infeasible instances are left out.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rralloc import registry
from rralloc.driver import solve
from rralloc.errors import NotOffered
from rralloc.forms import Blocks, Boxes, ClosedForm, Level, Model, Separable, Smooth, Subsets
from rralloc.forms import Surrogate as SurrogateForm
from rralloc.numerics.complex_step import gradient as complex_step
from rralloc.problem import Problem, stack
from rralloc.typing import Array, Point, Witness
from rralloc.verify import violation

FEAS_TOL = 1e-9
CLOUD = 24
"""Random points for each statement about all points."""


def check(problem: Problem, rng: np.random.Generator | int = 0) -> list[str]:
    """Run every check that applies to ``problem``; returns their names."""
    flat = problem.flat()
    case = _Case(problem, flat[~np.broadcast_to(flat.infeasible(), (flat.size,))], rng)
    ran = []
    for test in (fields, copies, indexing):
        test(case)
        ran.append(test.__name__)
    for test in _ON_INSTANCES if case.flat.size else ():
        try:
            names = test(case)
        except NotOffered:
            continue
        ran += names or [test.__name__]
    return ran


@dataclass(frozen=True, eq=False)
class _Case:
    """The problem under test, its feasible instances as lanes, and clouds of points."""

    problem: Problem
    flat: Problem
    seed: np.random.Generator | int

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def limit(self, form: str, excess: Array, tol: float, words: str) -> None:
        """Raise unless ``excess <= tol`` everywhere; its first axis is the instance."""
        excess = np.atleast_1d(excess)
        bad = ~(excess <= tol)
        if bad.any():
            depth = np.where(bad, np.nan_to_num(excess, nan=np.inf), -np.inf)
            index = [int(i) for i in np.unravel_index(np.argmax(depth), depth.shape)]
            name, worst = type(self.problem).__name__, excess[tuple(index)]
            raise AssertionError(
                f"{name}: {form}: {words} (worst at {index}: {worst:.3g}, allowed {tol:.0e})"
            )

    def raw(self, problem: Problem) -> dict[str, Array]:
        """A random point that may leave every bound."""
        out = {}
        for var in problem.variables:
            if not var.derived:
                low, high, scale = problem.limits(var)
                low = np.where(np.isfinite(low), low, -np.abs(scale))
                high = np.where(np.isfinite(high), high, np.abs(scale))
                spread = self.rng.uniform(-0.2, 1.2, size=problem.shape_of(var))
                value = low + (high - low) * spread
                if np.dtype(var.dtype).kind == "c":
                    value = scale * (value + 1j * self.rng.standard_normal(value.shape))
                out[var.name] = value.astype(var.dtype)
        return out

    def cloud(self, problem: Problem, count: int = CLOUD) -> Iterator[dict[str, Array]]:
        """Baselines, then random points of the problem's own sampler."""
        for rule in problem.points().values():
            yield problem.complete(rule())
        for _ in range(count):
            yield problem.complete(problem.sample(self.rng))

    def inner(self, problem: Problem) -> dict[str, Array]:
        """A random point away from the boundary, where differences may be taken."""
        start, other = problem.initial(), problem.sample(self.rng)
        return {
            v.name: (start[v.name] + other[v.name]) / 2 for v in problem.variables if not v.derived
        }

    @cached_property
    def found(self) -> list[tuple[Point, Witness | None]]:
        """Points and witnesses of every solver of ours that applies."""
        out: list[tuple[Point, Witness | None]] = []
        for name, cls in registry.solver_classes().items():
            if cls.foreign or cls.rank >= 1000 or name == "multistart":
                continue
            try:
                sol = solve(self.flat, name, certify="none", time_limit=2.0, rng=0)
            except NotOffered:
                continue
            if not any(np.isnan(v).any() for v in sol.x.values()):
                out.append((sol.x, dict(sol.duals) or None))
        return out

    @cached_property
    def best(self) -> Array:
        """The best objective known at a feasible point of each lane."""
        points = [*self.cloud(self.flat), *(x for x, _ in self.found)]
        values = np.stack([_worth(self.flat, x) for x in points])
        top: Array = values.min(0) if self.flat.sense == "min" else values.max(0)
        return top


def _worth(problem: Problem, x: Point) -> Array:
    """The objective; the worst possible value where x is not feasible."""
    worst = np.inf if problem.sense == "min" else -np.inf
    return np.where(violation(problem, x) <= FEAS_TOL, problem.objective(x), worst)


def _gain(problem: Problem, new: Array, old: Array) -> Array:
    """How much better ``new`` is, relative to the larger; negative where it is worse."""
    with np.errstate(invalid="ignore", over="ignore"):
        rise = np.asarray(old - new if problem.sense == "min" else new - old)
        size = np.maximum(np.maximum(np.abs(new), np.abs(old)), 1e-300)
        ratio = np.where(np.isinf(size), np.sign(rise), rise / size)
    return np.where(new == old, 0.0, ratio)


def _lane(x: Point, index: int) -> dict[str, Array]:
    return {n: v[index] for n, v in x.items()}


def _apart(a: Array, b: Array) -> Array:
    """|a - b| relative to the larger, 0 where equal (infinities included)."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)
        return np.where(a == b, 0.0, np.abs(a - b) / size)


def _slope(fun: Callable[[float], Array], step: float = 1e-6) -> Array:
    """Central difference of ``fun`` at 0 with one Richardson step: error of order step^4."""
    near = (fun(step) - fun(-step)) / (2 * step)
    far = (fun(2 * step) - fun(-2 * step)) / (4 * step)
    return (4 * near - far) / 3


# -- what every problem promises ----------------------------------------------------------------


def fields(case: _Case) -> None:
    """Data are read-only, the object is frozen, before and after pickling."""
    for problem in (case.problem, pickle.loads(pickle.dumps(case.problem)), case.problem.flat()):
        for name in problem._data:
            array = getattr(problem, name)
            loose = array is not None and array.flags.writeable
            case.limit("fields", np.array(float(loose)), 0, f"{name} can be written to")
            try:
                setattr(problem, name, array)
            except AttributeError:
                continue
            case.limit("fields", np.ones(1), 0, f"{name} can be replaced: the object is not frozen")


def copies(case: _Case) -> None:
    """Equal content means equal digest, ``==`` and hash; another type is never equal."""
    first = case.problem
    for other in (pickle.loads(pickle.dumps(first)), first.replace(), first.select()):
        same = first.digest == other.digest and first == other and hash(first) == hash(other)
        case.limit("copies", np.array(float(not same)), 0, "a copy is not equal to its original")
    case.limit("copies", np.array(float(first == 1)), 0, "equal to an int")


def indexing(case: _Case) -> None:
    """``flat``, ``problem[i]``, ``stack``, ``select`` and a loop see the same instances."""
    problem, flat = case.problem, case.problem.flat()
    singles = [problem[i] if i else problem for i in np.ndindex(problem.batch_shape)]
    axes = {a: np.arange(n) for a, n in problem.sizes.items()}
    for x in case.cloud(flat, 5):
        value, worst = flat.objective(x), violation(flat, x)
        loop = [
            (one.objective(_lane(x, i)), violation(one, _lane(x, i)))
            for i, one in enumerate(singles)
        ]
        for words, batch, alone in zip(
            ("objective", "violation"), (value, worst), np.array(loop).T
        ):
            slack = 1e-12 if words == "objective" else 1.0
            case.limit(
                "indexing", _apart(batch, alone) * slack, 1e-12, f"{words}: batch and loop differ"
            )
        for other in (stack(singles), flat.select(**axes)):
            case.limit(
                "indexing", _apart(value, other.objective(x)), 1e-12, "stack or select differs"
            )


def baselines(case: _Case) -> None:
    """Named rules are feasible and have a value."""
    for name, rule in case.flat.points().items():
        x = case.flat.complete(rule())
        case.limit("baselines", violation(case.flat, x), FEAS_TOL, f"{name} is not feasible")
        missing = np.isnan(case.flat.objective(x)).astype(float)
        case.limit("baselines", missing, 0, f"{name} has objective NaN")


def projection(case: _Case) -> None:
    """``project`` leads any point into the feasible set, and leaves it there."""
    if type(case.flat).project is Problem.project and case.flat.constraints(case.flat.initial()):
        raise NotOffered("the default projection knows the bounds only")
    for _ in range(CLOUD):
        x = case.flat.complete(case.flat.project(case.raw(case.flat)))
        case.limit("project", violation(case.flat, x), FEAS_TOL, "a projected point is infeasible")


def gradient(case: _Case) -> None:
    """``gradient`` against complex step and central differences along random directions."""
    flat = case.flat
    if not flat.differentiable:
        raise NotOffered("not differentiable")
    for _ in range(4):
        x = case.inner(flat)
        slopes, exact = flat.gradient(x), complex_step(flat.objective, x)
        move = {n: v * case.rng.uniform(-1, 1, v.shape) for n, v in x.items()}
        parts = np.stack([(slopes[n] * move[n]).reshape(flat.size, -1).sum(-1) for n in x])
        size = sum(np.abs(slopes[n] * move[n]).reshape(flat.size, -1).sum(-1) for n in x) + 1e-300
        for n in x:
            off = np.abs(slopes[n] - exact[n]) * np.abs(x[n])
            off = off.reshape(flat.size, -1).max(-1) / size
            case.limit("gradient", off, 1e-9, f"d/d{n} differs from the complex step")
        taken = _slope(lambda t: flat.objective({n: x[n] + t * move[n] for n in x}), 1e-4)  # noqa: B023
        case.limit(
            "gradient", np.abs(parts.sum(0) - taken) / size, 1e-6, "differs from differences"
        )


def bound(case: _Case) -> None:
    """No feasible point beats the bound of any point, any solver's witness, any distorted one."""
    flat = case.flat
    if not flat.bound_method:
        raise NotOffered("no bound")
    claims = [flat.bound(x) for x in case.cloud(flat, 8)]
    claims.append(flat.bound(flat.complete(flat.project(case.raw(flat)))))
    for x, witness in case.found:
        claims.append(flat.bound(x, witness))
        for factor in (0.0, 0.5, 0.999, 1.001, 2.0, 1e3) if witness else ():
            off = {n: v * factor if v.dtype.kind == "f" else v for n, v in witness.items()}
            claims.append(flat.bound(x, off))
    for claim in claims:
        proven = np.where(np.isnan(claim), 0.0, _gain(flat, case.best, claim))
        case.limit("bound", proven, 1e-8, "a feasible point beats it")


# -- forms --------------------------------------------------------------------------------------


def _optimal(case: _Case, form: str, x: Point, witness: Witness | None) -> None:
    """Feasible, beaten by nobody, and proven where a witness is promised."""
    flat = case.flat
    case.limit(form, violation(flat, x), FEAS_TOL, "the point is infeasible")
    case.limit(form, _gain(flat, case.best, flat.objective(x)), 1e-9, "another point is better")
    if witness is not None and flat.bound_method:
        gap = _apart(flat.objective(x), flat.bound(x, witness))
        case.limit(form, gap, 1e-6, "the witness does not prove the optimum")


def closed_form(case: _Case) -> None:
    """The formula is the optimum, and its witness proves it."""
    form = case.flat.view(ClosedForm)
    x = case.flat.complete(form.point())
    _optimal(case, "ClosedForm", x, form.witness() if form.witness else None)


def level(case: _Case) -> None:
    """``used`` falls across the bracket, around the budget, at its slope; its root is optimal."""
    flat, form = case.flat, case.flat.view(Level)
    low, high = (np.asarray(v, dtype=float) for v in form.bracket)
    steps = np.linspace(0, 1, 15)
    way = [
        low ** (1 - t) * high**t if form.spacing == "log" else low + t * (high - low) for t in steps
    ]
    way[0], way[-1] = low, high
    used = np.stack([form.used(at) for at in way], axis=-1)
    size = np.abs(form.budget)[:, None] + 1e-300
    with np.errstate(invalid="ignore"):
        rise = np.where(np.isinf(used[:, :-1]), -np.inf, np.diff(used)) / size
    over, under = (
        (used[:, -1:] - form.budget[:, None]) / size,
        (form.budget[:, None] - used[:, :1]) / size,
    )
    case.limit("Level", rise, 1e-9, "used rises along the bracket")
    case.limit("Level", under, 1e-9, "the low end of the bracket uses less than the budget")
    case.limit("Level", over, 1e-9, "the high end of the bracket uses more than the budget")
    _level_slope(case, form, way[1:-1])
    sol = solve(flat, "level", certify="none")
    _optimal(case, "Level", sol.x, dict(sol.duals) if form.witness else None)


def _level_slope(case: _Case, form: Level, way: list[Array]) -> None:
    if form.slope is None:
        return
    for at in way:
        left, here, right = (form.slope(at * t) for t in (1 - 2e-6, 1.0, 1 + 2e-6))
        with np.errstate(invalid="ignore"):
            taken = _slope(lambda t: form.used(at * (1 + t))) / at  # noqa: B023
            kink = ~(np.abs(left - right) <= 1e-3 * np.abs(here))
        off = np.where(kink | ~np.isfinite(taken), 0.0, _apart(here, taken))
        case.limit("Level", off, 1e-5, "slope differs from differences of used")


def separable(case: _Case) -> None:
    """Gradient and Hessian blocks of ``local`` against differences; convex where it says so."""
    form = case.flat.view(Separable)
    low, high = np.broadcast_arrays(form.lower, form.upper)
    for _ in range(4):
        x = low + (high - low) * case.rng.uniform(0.1, 0.9, low.shape)
        value, slopes, blocks = form.local(x)
        for i in range(x.shape[-1]):
            unit = np.zeros(x.shape[-1])
            unit[i] = 1.0
            step = unit * (high - low)[..., i : i + 1]
            ends = np.abs(high - low)[..., i]
            rise = _slope(lambda t: form.local(x + t * step)[0], 1e-4)  # noqa: B023
            bend = _slope(lambda t: form.local(x + t * step)[1], 1e-4)  # noqa: B023
            size = np.abs(value) + np.abs(slopes[..., i] * ends)
            case.limit("Separable", np.abs(slopes[..., i] * ends - rise) / size, 1e-6, "gradient")
            scale = np.abs(slopes).max(-1, keepdims=True) + np.abs(bend)
            off = np.abs(blocks[..., i] * ends[..., None] - bend) / scale
            case.limit("Separable", off, 1e-5, "Hessian")
        roots = np.linalg.eigvalsh(blocks).min(-1) / np.abs(blocks).max((-2, -1))
        convex = np.broadcast_to(form.convex, roots.shape[:1])[:, None]
        case.limit("Separable", np.where(convex, -roots, 0.0), 1e-9, "says convex and is not")
        if form.best is not None:
            least = form.best(x[..., form.coupled])[0]
            case.limit("Separable", _excess(least, value), 1e-9, "best is beaten at its own share")


def _excess(a: Array, b: Array) -> Array:
    return (a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)


def blocks(case: _Case) -> None:
    """A block's problem has the parent's objective, at the held point and away from it."""
    flat, form = case.flat, case.flat.view(Blocks)
    for name in form.names:
        x, y = case.inner(flat), case.inner(flat)
        part = form.fix(name, x)
        own = {v.name for v in part.variables if not v.derived}
        for z in (x, {n: y[n] if n in own else x[n] for n in x}):
            inside = violation(part, {n: z[n] for n in own}) <= FEAS_TOL
            off = _apart(part.objective({n: z[n] for n in own}), flat.objective(flat.complete(z)))
            words = f"block {name} has another objective than the problem"
            case.limit("Blocks", np.where(inside, off, 0.0), 1e-9, words)


def surrogate(case: _Case) -> None:
    """Tight at its point, convex along segments, never better than the truth."""
    flat, form = case.flat, case.flat.view(SurrogateForm)
    sign = 1.0 if flat.sense == "min" else -1.0
    for _ in range(4):
        x0 = flat.complete(case.inner(flat))
        near = form.at(x0)
        case.limit(
            "Surrogate", _apart(near.objective(x0), flat.objective(x0)), 1e-9, "not tight at x0"
        )
        points = [x0, *case.cloud(flat, 8)]
        inside = [violation(near, x) <= FEAS_TOL for x in points]
        for x, fits in zip(points, inside):
            better = _gain(flat, near.objective(x), flat.objective(x))
            case.limit("Surrogate", np.where(fits, better, 0.0), 1e-9, "better than the objective")
        for (x, a), (y, b) in zip(zip(points, inside), zip(points[1:], inside[1:])):
            half = {v.name: (x[v.name] + y[v.name]) / 2 for v in near.variables if not v.derived}
            ends = (near.objective(x) + near.objective(y)) / 2
            rise = sign * (near.objective(near.complete(half)) - ends)
            fair = a & b & np.isfinite(ends)
            rise = np.where(fair, rise, 0.0) / np.maximum(np.where(fair, np.abs(ends), 1.0), 1e-300)
            case.limit("Surrogate", rise, 1e-9, "not convex between two points")


def smooth(case: _Case) -> None:
    """Flat coordinates come back, derivatives are right, smaller is better, slack >= 0 is feasible."""
    for index in range(min(case.flat.size, 2)):
        one = case.flat[index]
        form = one.view(Smooth)
        sign = 1.0 if one.sense == "min" else -1.0
        values = []
        for _ in range(4):
            x = case.inner(one)
            z = form.flatten(x)
            for n, v in form.unflatten(z).items():
                case.limit("Smooth", _apart(v, x[n]).ravel(), 1e-9, f"{n} does not come back")
            _flat_slopes(case, form, z)
            slack, _ = form.constraints_jac(z)
            case.limit(
                "Smooth",
                np.where(form.equality, np.abs(slack), -slack),
                1e-8,
                "feasible has slack < 0",
            )
            values.append((form.value_grad(z)[0], sign * float(one.objective(one.complete(x)))))
        order = [
            (a - b) * (p - q) for a, p in values for b, q in values if _far(a, b) and _far(p, q)
        ]
        case.limit(
            "Smooth", -np.sign([*order, 0.0]), 0, "a smaller value is not a better objective"
        )


def _far(a: float, b: float) -> bool:
    return abs(a - b) > 1e-9 * max(abs(a), abs(b))


def _flat_slopes(case: _Case, form: Smooth, z: Array) -> None:
    (value, slopes), (slack, jac) = form.value_grad(z), form.constraints_jac(z)
    size, step = abs(value) + np.abs(slopes * z).max(initial=0.0), np.maximum(np.abs(z), 1e-6)
    for i, reach in enumerate(step):
        unit = reach * (np.arange(z.size) == i)
        taken = _slope(lambda t: np.asarray(form.value_grad(z + t * unit)[0]), 1e-4)  # noqa: B023
        case.limit(
            "Smooth", np.abs(taken - slopes[i] * reach) / size, 1e-6, f"gradient, coordinate {i}"
        )
        moved = _slope(lambda t: form.constraints_jac(z + t * unit)[0], 1e-4)  # noqa: B023
        scale = 1 + np.abs(slack) + np.abs(jac[:, i] * reach)
        case.limit(
            "Smooth", np.abs(moved - jac[:, i] * reach) / scale, 1e-6, f"Jacobian, coordinate {i}"
        )


def boxes(case: _Case) -> None:
    """No point of a box beats the bound of the box."""
    for index in range(min(case.flat.size, 2)):
        one = case.flat[index]
        form = one.view(Boxes)
        ends = np.sort(case.rng.uniform(size=(2, CLOUD, form.lower.size)), axis=0)
        low, high = form.lower + (form.upper - form.lower) * ends
        low[0], high[0] = form.lower, form.upper
        claim = form.bound(low, high)
        for _ in range(CLOUD // 2):
            inside = low + (high - low) * case.rng.uniform(size=low.shape)
            here = [_worth(one, one.complete(form.point(z))) for z in inside]
            case.limit(
                "Boxes", _gain(one, np.array(here), claim), 1e-9, "a point of the box beats it"
            )


def subsets(case: _Case) -> None:
    """A set's point lifts to a feasible point, and what is better there is better here."""
    flat, form = case.flat, case.flat.view(Subsets)
    for _ in range(6):
        mask = case.rng.random((flat.size, form.size)) < 0.6
        mask[np.arange(flat.size), case.rng.integers(form.size, size=flat.size)] = True
        part = form.fix(mask)
        known = []
        for x in case.cloud(part, 4):
            lifted = flat.complete(form.lift(mask, x))
            case.limit("Subsets", violation(flat, lifted), FEAS_TOL, "a lifted point is infeasible")
            known.append((part.objective(x), flat.objective(lifted)))
        for (a, p), (b, q) in zip(known, known[1:]):
            fair = np.isfinite(a) & np.isfinite(b)
            wrong = (_gain(part, a, b) > 1e-9) & (_gain(flat, q, p) > 1e-9) & fair
            case.limit(
                "Subsets", wrong.astype(float), 0, "the parent prefers what the subset rejects"
            )


def models(case: _Case) -> list[str]:
    """What cvxpy and pyomo make of the exported model agrees with the best point known."""
    form = case.flat.view(Model)
    few = case.flat[: min(case.flat.size, 2)]
    ran = []
    for backend in form.backends:
        if backend not in registry.solvers_for(few) or not form.exact:
            continue
        sol = solve(few, backend)
        case.limit("Model", sol.violation, FEAS_TOL, f"{backend}: infeasible. {sol.message}")
        missed = _gain(few, case.best[: few.size], sol.objective)
        local = "cvxpy" not in form.backends  # a local solver owes nothing where nothing is convex
        case.limit("Model", np.where(local, 0.0, missed), 1e-5, f"{backend}: not the optimum")
        ran.append(f"model:{backend}")
    return ran


_ON_INSTANCES: tuple[Callable[[_Case], Any], ...] = (
    baselines,
    projection,
    gradient,
    bound,
    closed_form,
    level,
    separable,
    blocks,
    surrogate,
    smooth,
    boxes,
    subsets,
    models,
)
