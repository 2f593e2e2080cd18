"""Joint Newton on a convex separable problem with one budget: all variables at once, O(K) a step.

Source: spec spfl.md §3.3(a).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Separable
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solver import Iterative
from rralloc.solvers._descent import Iterate, begin, step
from rralloc.typing import Point, Witness


class Newton(Iterative):
    """The global optimum of a convex separable problem: 8 to 30 arrow Newton steps.

    ``tol``: relative decrement at which a lane ends. ``start_from``: a baseline of the problem.

    Choose this when the problem is a sum over devices with one shared budget and convex; its
    price proves the optimum. For the non-convex cases there is ``dual``.
    """

    name = "newton"
    rank = 20
    needs = (Separable,)
    warm = True
    certifies = True
    steps = 200

    tol: float = 1e-10
    start_from: str = "equal-outage"

    def applies(self, problem: Problem) -> None:
        """The instance is convex."""
        if not np.all(problem.view(Separable).convex):
            raise NotOffered(f"{type(problem).__name__}: this instance is not convex; see 'dual'")

    def begin(self, problem: Any, start: Point | None, run: Run) -> Iterate:
        """The start, or the baseline named."""
        self.applies(problem)  # also where it was named
        form, rules = problem.view(Separable), problem.points()
        return begin(form, form.coordinates(start or rules.get(self.start_from, problem.initial)()))

    def step(self, problem: Any, state: Iterate, run: Run) -> Iterate:
        """One arrow Newton step."""
        return step(problem, state, self.tol if run.tol is None else run.tol)

    def point(self, problem: Any, state: Iterate) -> Point:
        """Physical variables of the coordinates."""
        return problem.view(Separable).point(state.x)

    def witness(self, problem: Any, state: Iterate) -> Witness | None:
        """The price of the budget."""
        return {"price": np.maximum(state.price, 0.0)}
