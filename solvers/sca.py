"""Successive convex approximation: solve the tight surrogate at the current point, repeat.

    x+ = argmax surrogate(x; x_t),    surrogate <= f,  tight at x_t

so f(x+) >= surrogate(x+) >= surrogate(x_t) = f(x_t): monotone. The frame checks that at every
step; a step that worsens f (an inexact inner solver) is refused and the lane ends STALLED. WMMSE
is this method on ``SumRate``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.driver import solve
from rralloc.forms import Surrogate
from rralloc.numerics.shapes import choose
from rralloc.run import Run
from rralloc.solver import Iterative
from rralloc.typing import Array, Point


class Iterate(NamedTuple):
    """Points ``{name: (S, ...)}`` with their objective; ``stalled`` lanes refused a step."""

    x: dict[str, Array]
    value: Array
    done: Array
    stalled: Array


class SCA(Iterative):
    """Monotone ascent through convex surrogates, on the whole batch at once.

    ``inner``: solver of the surrogate (None: its default). ``tol``: relative change of the
    objective that ends a lane. ``steps``: at most so many surrogates; ``"sca:1"`` is one, for a
    block of ``alternating`` that is to be relinearised in each sweep.

    Choose this when the problem is not convex and offers a surrogate: it converges to a
    stationary point (``Status.LOCAL``), not to the global optimum; wrap it in ``multistart``.
    """

    name = "sca"
    rank = 50
    needs = (Surrogate,)
    warm = True
    variant = "steps"
    compact_at = 0.25

    inner: str | None = None
    tol: float = 1e-10
    steps: int = 2000  # type: ignore[misc]  # a constant of the class elsewhere, an option here

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", int(self.steps))  # "sca:1" gives a word

    def begin(self, problem: Any, start: Point | None, run: Run) -> Iterate:
        """The start, made feasible, or the problem's first baseline."""
        told = problem.initial() if start is None else problem.project(start)
        x = {v.name: told[v.name] for v in problem.variables if not v.derived}
        never = np.zeros(problem.size, dtype=bool)
        return Iterate(x, np.asarray(problem.objective(x)), never, never)

    def step(self, problem: Any, state: Iterate, run: Run) -> Iterate:
        """Solve the surrogate; keep the step only where the true objective does not worsen."""
        form, tol = problem.view(Surrogate), self.tol if run.tol is None else run.tol
        found = solve(form.at(state.x), self.inner, certify="none", rng=run.rng)
        value = np.asarray(problem.objective(found.x))
        with np.errstate(invalid="ignore"):  # from outside the domain to outside: no gain
            gain = value - state.value if problem.sense == "max" else state.value - value
        small = np.abs(gain) <= tol * np.abs(value)
        worse = ~state.done & ~small & ~(gain > 0)
        taken = ~state.done & (gain >= 0)
        x = {n: choose(taken, found.x[n], old) for n, old in state.x.items()}
        value = np.where(taken, value, state.value)
        return Iterate(x, value, state.done | small | worse, state.stalled | worse)

    def point(self, problem: Any, state: Iterate) -> Point:
        """The current point."""
        return state.x
