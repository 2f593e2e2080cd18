"""Sequential linear programming: a linear program in a shrinking box around the point.

    d = argmin  grad . d    s.t.  slack + J d >= 0 (or = 0),  |d| <= radius,  z + d in bounds

A step that lowers value + penalty * violation is taken and the radius grows, else it shrinks.
Source: classic (Griffith and Stewart 1961).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.forms import Smooth
from rralloc.solver import Solver
from rralloc.typing import Array, Point


class SequentialLinear(Solver):
    """Linear programs in a trust region, on whatever is smooth.

    ``steps``: at most. ``radius``: the first, in the problem's scaled coordinates.
    ``penalty``: of a violation, in multiples of the gradient. Choose this when the optimum is near
    a corner, or as a second opinion: each of up to 200 steps is a linear program of some ms.
    """

    name = "sequential-linear"
    rank = 600
    needs = (Smooth,)
    batched = False
    warm = True

    steps: int = 200
    radius: float = 0.25
    penalty: float = 10.0

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """One instance."""
        from scipy.optimize import linprog

        form = problem.view(Smooth)
        low, high = form.bounds
        z = np.clip(form.flatten(problem.initial() if start is None else start), low, high)
        radius, price = self.radius, self.penalty * np.abs(form.value_grad(z)[1]).max()

        def merit(at: Array) -> float:
            (value, slope), (slack, _) = form.value_grad(at), form.constraints_jac(at)
            short = np.where(form.equality, np.abs(slack), np.maximum(-slack, 0.0)).sum()
            return float(value + price * short) if np.isfinite(slope).all() else np.inf

        for count in range(self.steps):
            run.check()
            run.count(count)
            (_, slope), (slack, jac) = form.value_grad(z), form.constraints_jac(z)
            # Never quite to a bound: slopes may be infinite there, as those of rates are.
            lower, upper = 0.9 * (low - z), 0.9 * (high - z)
            box = np.stack([np.maximum(lower, -radius), np.minimum(upper, radius)], axis=-1)
            free, tied = ~form.equality, form.equality
            found = linprog(slope, -jac[free], slack[free], jac[tied], -slack[tied], bounds=box)
            ahead = z if found.x is None else np.clip(z + found.x, low, high)
            better = merit(ahead) < merit(z)
            z, radius = (ahead, min(2 * radius, 1.0)) if better else (z, radius / 4)
            if better:
                run.offer(problem.project(form.unflatten(z)))
            if radius < 1e-12:
                return
