"""SciPy's local solvers for smooth constrained problems: ``scipy:slsqp``, ``scipy:trust-constr``.

    minimise f(z)   s.t.   c(z) >= 0 (or = 0),   low <= z <= high

over the ``Smooth`` form's dimensionless coordinates. f is divided by its size at the start, so
tolerances mean the same in every unit. Source: scipy.optimize.minimize; design §4 "Backends".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rralloc.errors import SolverUnavailable, UnknownOption
from rralloc.forms import Smooth
from rralloc.problem import Problem
from rralloc.run import Interrupted, LaneRun
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._engines import quiet
from rralloc.typing import Array, Point

OUTSIDE = 1e20
"""Scaled objective reported outside the domain: no line search accepts it."""

STOPPED: dict[str, dict[int, Stopped]] = {
    "slsqp": {
        0: Stopped.CONVERGED,
        2: Stopped.ERROR,  # more equality constraints than variables
        3: Stopped.STALLED,  # too many steps in the least-squares subproblem
        4: Stopped.STALLED,  # linearised constraints incompatible: not a proof of infeasibility
        5: Stopped.STALLED,
        6: Stopped.STALLED,
        7: Stopped.STALLED,  # 5-7: singular or rank-deficient subproblem
        8: Stopped.STALLED,  # no descent along the search direction
        9: Stopped.ITERATIONS,
    },
    "trust-constr": {
        0: Stopped.ITERATIONS,
        1: Stopped.CONVERGED,  # stationary
        2: Stopped.STALLED,  # the trust region shrank to nothing; scipy calls this a success
        3: Stopped.USER,
        4: Stopped.STALLED,  # "converged", but the constraints are not met
    },
}


class ScipyMinimize(Solver):
    """A local optimum of one smooth instance after another, by scipy.

    ``method``: ``slsqp`` (sequential least squares, dense, quick up to some 200 variables) or
    ``trust-constr`` (interior point with BFGS Hessians; slower, less exact at active bounds).
    ``settings`` go to scipy under its own names, e.g. ``{"ftol": 1e-9}``. ``start`` is used;
    without one, ``problem.initial()``.

    Statuses: scipy's code by the table ``STOPPED``, its message in ``Solution.message`` unless it
    is a plain success. A point where f or its gradient is not finite counts as a very bad one,
    which the line search rejects; if not even the start has a finite neighbour, ``ERROR``.

    Choose this when the problem is smooth, nothing faster applies, and a stationary point is
    enough; put it inside ``multistart`` when the problem has many.
    """

    name = "scipy"
    rank = 60
    needs = (Smooth,)
    batched = False
    foreign = True
    warm = True
    variant = "method"

    method: str = "slsqp"
    settings: Mapping[str, Any] | None = None

    @classmethod
    def names(cls, problem: Problem | None = None) -> tuple[str, ...]:
        """One name for each method."""
        return tuple(f"{cls.name}:{method}" for method in STOPPED)

    def label(self) -> str:
        """Always with the method."""
        return f"{self.name}:{self.method}"

    def available(self) -> None:
        """Scipy is there and the method is one of the two."""
        if self.method not in STOPPED:
            raise UnknownOption(f"scipy has no method {self.method!r}; it has {', '.join(STOPPED)}")
        try:
            import scipy.optimize  # noqa: F401  # is it there?
        except ImportError:
            raise SolverUnavailable("scipy is not installed: pip install scipy") from None

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Minimise from the start; every iterate is offered while somebody watches."""
        form = problem.view(Smooth)
        with quiet(), np.errstate(all="ignore"):
            first = _inside(form, form.flatten(problem.initial() if start is None else start))
            watch = _Watch(form, first, run)
            try:
                result = self._minimise(_Guarded(form, first), first, watch, run)
            except Interrupted:
                run.offer(form.unflatten(watch.at))
                raise
        run.offer(form.unflatten(result.x))
        run.count(int(result.nit))
        reason = STOPPED[self.method].get(int(result.status), Stopped.STALLED)
        run.end(reason, "" if reason is Stopped.CONVERGED else f"{self.label()}: {result.message}")

    def _minimise(self, f: _Guarded, first: Array, watch: _Watch, run: LaneRun) -> Any:
        if self.method == "slsqp":
            return self._slsqp(f, first, watch, run)
        return self._trust_constr(f, first, watch, run)

    def _slsqp(self, f: _Guarded, first: Array, watch: _Watch, run: LaneRun) -> Any:
        from scipy.optimize import Bounds

        rows = [("eq", f.form.equality), ("ineq", ~f.form.equality)]
        return _minimize(
            f.value,
            first,
            jac=f.gradient,
            method="SLSQP",
            bounds=Bounds(*f.form.bounds),
            constraints=[
                {"type": kind, "fun": f.slack(mask), "jac": f.jacobian(mask)}
                for kind, mask in rows
                if mask.any()
            ],
            callback=watch,
            options={
                "ftol": 1e-12 if run.tol is None else run.tol,
                "maxiter": 500 if run.max_iter is None else run.max_iter,
            }
            | dict(self.settings or {}),
        )

    def _trust_constr(self, f: _Guarded, first: Array, watch: _Watch, run: LaneRun) -> Any:
        from scipy.optimize import BFGS, Bounds, NonlinearConstraint

        # Not keep_feasible: with it this method stalls from starts at or near a bound. Points
        # outside the domain are turned away by _Guarded.
        whole = np.ones(f.form.equality.size, dtype=bool)
        upper = np.where(f.form.equality, 0.0, np.inf)
        limits = NonlinearConstraint(f.slack(whole), 0.0, upper, f.jacobian(whole), BFGS())
        tol = 1e-9 if run.tol is None else run.tol
        return _minimize(
            f.value,
            first,
            jac=f.gradient,
            hess=BFGS(),
            method="trust-constr",
            bounds=Bounds(*f.form.bounds),
            constraints=[limits] if whole.size else [],
            callback=watch,
            options={
                "gtol": tol,
                "xtol": 1e-3 * tol,
                "barrier_tol": tol,
                "maxiter": 2000 if run.max_iter is None else run.max_iter,
            }
            | dict(self.settings or {}),
        )


def _minimize(*args: Any, **named: Any) -> Any:
    from scipy.optimize import minimize

    call: Any = minimize  # its stubs refuse bound methods and option dictionaries
    return call(*args, **named)


class _Watch:
    """Scipy's callback: keeps the iterate for an interruption, offers it, asks the clock."""

    def __init__(self, form: Smooth, first: Array, run: LaneRun) -> None:
        self.form, self.run, self.at, self.steps = form, run, first, 0

    def __call__(self, z: Array, state: Any = None) -> None:
        self.at, self.steps = z.copy(), self.steps + 1
        self.run.count(self.steps)
        if self.run.watching:
            self.run.offer(self.form.unflatten(self.at))
        self.run.check()


class _Guarded:
    """The form as scipy may call it: of size one at the start, finite everywhere."""

    def __init__(self, form: Smooth, first: Array) -> None:
        self.form = form
        value, gradient = form.value_grad(first)
        # Near the edge of a domain slopes explode: a point further inside says what is usual.
        _, usual = form.value_grad(0.9 * first + 0.1 * _middle(form))
        slope = np.fmin(np.abs(gradient).max(initial=0.0), np.abs(usual).max(initial=0.0))
        self.unit = max(abs(value), float(slope)) or 1.0

    def _at(self, z: Array) -> tuple[float, Array]:
        value, gradient = self.form.value_grad(z)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return OUTSIDE, np.zeros(z.size)
        return value / self.unit, gradient / self.unit

    def value(self, z: Array) -> float:
        return self._at(z)[0]

    def gradient(self, z: Array) -> Array:
        return self._at(z)[1]

    def slack(self, rows: Array) -> Callable[[Array], Array]:
        """The scaled slacks of some rows; deeply negative where they are not numbers."""

        def fun(z: Array) -> Array:
            slack = self.form.constraints_jac(z)[0][rows]
            return np.where(np.isfinite(slack), slack, -OUTSIDE)

        return fun

    def jacobian(self, rows: Array) -> Callable[[Array], Array]:
        """Their derivatives; zero where they are not numbers."""

        def fun(z: Array) -> Array:
            rates = self.form.constraints_jac(z)[1][rows]
            return np.where(np.isfinite(rates), rates, 0.0)

        return fun


def _middle(form: Smooth) -> Array:
    """The middle of the box; where the box has no end, one unit from the end it has, or zero."""
    low, high = form.bounds
    left = np.where(np.isfinite(low), low, np.minimum(high, 1.0) - 2.0)
    right = np.where(np.isfinite(high), high, left + 2.0)
    middle: Array = (left + right) / 2
    return middle


def _inside(form: Smooth, start: Array) -> Array:
    """The start, moved towards the middle of the box as little as finiteness needs."""
    middle = _middle(form)
    start = np.clip(np.where(np.isfinite(start), start, middle), *form.bounds)
    for share in (0.0, 1e-6, 1e-3, 0.1, 0.5, 1.0):
        trial: Array = (1 - share) * start + share * middle
        value, gradient = form.value_grad(trial)
        if np.isfinite(value) and np.isfinite(gradient).all():
            return trial
    raise ValueError("neither objective nor gradient is finite at the start or near it")
