"""A solver that knows a problem's gradient and projection and nothing else of rralloc."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchopt import BaseSolver

import rralloc as rr


class Solver(BaseSolver):
    """Steps along the gradient, projected; the step grows after a gain and is halved after none."""

    name = "projected-ascent"
    parameters = {"step": [0.1]}

    def skip(self, problem: rr.Problem) -> tuple[bool, str | None]:
        """It needs a gradient."""
        reason = None if problem.differentiable else "the problem has no gradient"
        return reason is not None, reason

    def set_objective(self, problem: rr.Problem) -> None:
        """The problem itself."""
        self.problem, self.sign = problem, 1.0 if problem.sense == "max" else -1.0

    def run(self, n_iter: int) -> None:
        """From the problem's own start."""
        x, step = self.problem.initial(), self.step
        value = self.problem.objective(x)
        for _ in range(n_iter):
            slope = self.problem.gradient(x)
            scale = {v.name: self.problem.limits(v)[2] for v in self.problem.variables}
            size = max(np.abs(slope[n] * scale[n]).max() for n in x) or 1.0
            ahead = self.problem.project(
                {n: x[n] + self.sign * step * scale[n] ** 2 * slope[n] / size for n in x}
            )
            reached = self.problem.objective(ahead)
            better = self.sign * (reached - value) > 0
            x, value = (ahead, reached) if better else (x, value)
            step *= 1.5 if better else 0.5
        self.x = x

    def get_result(self) -> dict[str, Any]:
        """A point."""
        return {"x": self.x}
