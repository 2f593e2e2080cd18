"""benchopt scores points of an rralloc problem by the problem's own check and bound."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchopt import BaseObjective

import rralloc as rr
from rralloc.solution import gap_between


class Objective(BaseObjective):
    """The problem itself is what solvers are given; a point is believed in nothing.

    ``value``: the objective as something to minimise, infinite where the point is refused because
    it violates a constraint. ``objective``: in the problem's own sense. ``violation``: the worst
    scaled one. ``gap``: to the best bound known, NaN where nothing is proven.
    """

    name = "rralloc problem"
    min_benchopt_version = "1.7"
    sampling_strategy = "iteration"
    test_dataset_name = "Drawn"
    parameters = {"feas_tol": [1e-9]}

    def skip(self, problem: rr.Problem) -> tuple[bool, str | None]:
        """One number for a point: one instance."""
        if problem.batch_shape:
            return True, f"a batch of {problem.size} instances; benchmark one, problem[i]"
        return False, None

    def set_data(self, problem: rr.Problem) -> None:
        """Keep the problem, and once for all solvers the best bound that rralloc can prove."""
        self.problem = problem
        self.bound = rr.solve(problem, certify="full", time_limit=30, rng=0).bound

    def get_objective(self) -> dict[str, Any]:
        """The same object for every solver."""
        return {"problem": self.problem}

    def evaluate_result(self, x: dict[str, Any]) -> dict[str, float]:
        """Recomputed from the point alone."""
        report = rr.verify(self.problem, x)
        smaller = self.problem.sense == "min"
        proven = self.problem.bound(self.problem.complete(x))
        bound = (np.fmax if smaller else np.fmin)(self.bound, proven)
        ok = report.ok(self.feas_tol)
        return {
            "value": (1 if smaller else -1) * float(report.objective) if ok else np.inf,
            "objective": float(report.objective),
            "violation": float(report.violation),
            "gap": float(gap_between(report.objective, bound)) if ok else np.inf,
        }

    def get_one_result(self) -> dict[str, Any]:
        """For ``benchopt test``: the problem's own start."""
        return {"x": self.problem.initial()}
