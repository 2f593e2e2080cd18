"""A solver of your own: exponentiated gradient, for non-negative variables that share a budget.

    x <- project(x * exp(step * gradient)),  the step raised after a gain and halved after a loss

Where the projection scales onto the budget this is mirror ascent with the entropy.
Run it: python examples/own_solver.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import rralloc as rr
from rralloc.problems import FDMARate, WaterFilling
from rralloc.typing import Point


@rr.register
class Exponentiated(rr.Solver):
    """Multiply by exp(step * gradient) and scale back.

    ``steps``: how many. Choose this when all variables are non-negative and a rough answer is
    enough; a share that should be zero only shrinks, and nothing is proven by the method itself.
    """

    name = "exponentiated"
    rank = 500
    warm = True

    steps: int = 300

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """All instances at once; each has a step of its own."""
        x = problem.project(problem.initial() if start is None else start)
        sign = 1.0 if problem.sense == "max" else -1.0
        value, step = problem.objective(x), np.ones(problem.size)
        for _ in range(self.steps):
            run.check()  # deadlines and callbacks
            trial = {}
            for name, slope in problem.gradient(x).items():
                size = np.maximum(np.abs(slope).max(-1, keepdims=True), 1e-300)
                trial[name] = x[name] * np.exp(sign * step[:, None] * slope / size)
            trial = problem.project(trial)
            reached = problem.objective(trial)
            better = sign * (reached - value) > 0
            x = {n: np.where(better[:, None], trial[n], x[n]) for n in trial}
            value = np.where(better, reached, value)
            step = step * np.where(better, 1.2, 0.5)
            run.iterations += 1
        run.offer(x)


if __name__ == "__main__":
    rivals = ["closed-form", "scipy:slsqp", "exponentiated"]
    print(rr.compare({"water": WaterFilling.random(K=8, batch=20, rng=0)}, rivals))
    print(rr.compare({"FDMA": FDMARate.random(K=8, batch=20, rng=0)}, rivals))
