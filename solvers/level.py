"""One scalar fixes everything: find the level at which the budget is used up.

    find t with  used(t) = budget,   used non-increasing,   t in [low, high]

Safeguarded Newton where the form gives the slope (typically 5-15 steps), else bisection; finished
lanes are set aside by the frame. Source: spec rrm.md §4(B), §5(C), §15.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.errors import UnknownName
from rralloc.forms import Level
from rralloc.numerics.roots import guarded_newton, middle
from rralloc.run import Run
from rralloc.solver import Iterative
from rralloc.typing import Array, Point, Witness


class Bracket(NamedTuple):
    """``used(low) >= budget >= used(high)``; ``at`` is the level, ``moved`` the last step."""

    low: Array
    high: Array
    at: Array
    moved: Array
    done: Array


class LevelSolver(Iterative):
    """Scalar root for each instance, by Newton inside a bracket or by bisection.

    Choose this when it applies and there is no closed form: exact to rounding, microseconds for
    each instance of a batch, and its level proves the optimum (``Status.GLOBAL``).

    ``method``: ``newton`` uses the slope where the form has one; ``bisection`` never does.
    """

    name = "level"
    rank = 10
    needs = (Level,)
    certifies = True
    steps = 400

    method: str = "newton"
    tol: float = 1e-15

    def begin(self, problem: Any, start: Point | None, run: Run) -> Bracket:
        """The middle of the form's bracket: its ends may be poles, where Newton only creeps."""
        if self.method not in ("newton", "bisection"):
            raise UnknownName("method of level", self.method, ("newton", "bisection"))
        form = problem.view(Level)
        low, high = (np.array(v, dtype=float) for v in form.bracket)
        at = middle(low, high, form.spacing)
        return Bracket(low, high, at, high - low, np.zeros(low.shape, dtype=bool))

    def step(self, problem: Any, state: Bracket, run: Run) -> Bracket:
        """Shrink the bracket at the current level, then move to the next one."""
        form, (low, high, at, moved, done) = problem.view(Level), state
        excess = form.used(at) - form.budget
        low = np.where(excess >= 0, at, low)
        high = np.where(excess <= 0, at, high)
        if self._newton(form):
            slope = form.slope(at)
            following = guarded_newton(at, excess, slope, low, high, moved, form.spacing)
        else:
            following = np.where(excess == 0, at, middle(low, high, form.spacing))
        tol = self.tol if run.tol is None else run.tol
        met = np.abs(excess) <= 2 * tol * np.abs(form.budget)
        following = np.where(done | met, at, following)
        small, moved = tol * np.abs(following), np.abs(following - at)
        near = np.abs(excess) <= 1e-6 * np.abs(form.budget)  # a short step alone may be a pole
        arrived = met | near & (moved <= small) | (high - low <= small)
        return Bracket(low, high, following, moved, done | arrived)

    def point(self, problem: Any, state: Bracket) -> Point:
        """The allocation at the level, with what the tolerance left over budget taken back."""
        return problem.project(problem.view(Level).point(state.at))

    def witness(self, problem: Any, state: Bracket) -> Witness | None:
        """The level, under the problem's name for it."""
        form = problem.view(Level)
        return form.witness(state.at) if form.witness else None

    def _newton(self, form: Level) -> bool:
        return self.method == "newton" and form.slope is not None
