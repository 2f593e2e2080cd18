"""rralloc's solvers by name, plug-ins' too."""

from __future__ import annotations

from typing import Any

from benchopt import BaseSolver

import rralloc as rr


class Solver(BaseSolver):
    """``solver``: a name that ``rralloc list`` shows; skipped where it does not apply."""

    name = "rralloc"
    parameters = {"solver": ["closed-form", "level", "sca", "scipy:slsqp", "multistart"]}

    def skip(self, problem: rr.Problem) -> tuple[bool, str | None]:
        """The reason that rralloc gives."""
        known = rr.solvers_for(problem)
        return self.solver not in known, known.refused.get(self.solver)

    def set_objective(self, problem: rr.Problem) -> None:
        """The problem itself."""
        self.problem = problem

    def run(self, n_iter: int) -> None:
        """Without a certificate: the objective is the referee."""
        options = {"max_iter": n_iter, "certify": "none", "rng": 0}
        self.x = rr.solve(self.problem, self.solver, **options).x

    def get_result(self) -> dict[str, Any]:
        """A point."""
        return {"x": self.x}
