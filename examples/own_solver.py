"""A solver of your own: projected gradient, for every problem with derivatives and a projection.

    x <- project(x + step * gradient),  the step doubled after a gain and halved after a loss

Run it: python examples/own_solver.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import rralloc as rr
from rralloc.problems import FDMARate, WaterFilling
from rralloc.typing import Point


@rr.register
class ProjectedGradient(rr.Solver):
    """Climb along the gradient and project back.

    ``steps``: how many. Choose this when the projection is easy and the scale of the variables
    is alike; it has no stopping test, and proves nothing.
    """

    name = "projected-gradient"
    rank = 500
    warm = True

    steps: int = 300

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """All instances at once; each has a step of its own."""
        x = problem.project(problem.initial() if start is None else start)
        sign = 1.0 if problem.sense == "max" else -1.0
        value, rate = problem.objective(x), {}
        for name, slope in problem.gradient(x).items():
            size = np.abs(slope).max(-1, keepdims=True)
            rate[name] = np.abs(x[name]).max(-1, keepdims=True) / np.where(size > 0, size, 1.0)
        for _ in range(self.steps):
            run.check()  # deadlines and callbacks
            slopes = problem.gradient(x)
            trial = problem.project({n: x[n] + sign * rate[n] * slopes[n] for n in rate})
            reached = problem.objective(trial)
            better = sign * (reached - value) > 0
            x = {n: np.where(better[:, None], trial[n], x[n]) for n in x}
            value = np.where(better, reached, value)
            rate = {n: r * np.where(better, 2.0, 0.5)[:, None] for n, r in rate.items()}
            run.iterations += 1
        run.offer(x)


if __name__ == "__main__":
    rivals = ["closed-form", "scipy:slsqp", "projected-gradient"]
    print(rr.compare({"water": WaterFilling.random(K=8, batch=20, rng=0)}, rivals))
    print(rr.compare({"FDMA": FDMARate.random(K=8, batch=20, rng=0)}, rivals))
