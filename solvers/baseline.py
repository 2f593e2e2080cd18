"""Rules that people use: the problem's named baselines as solvers, ``baseline:uniform``."""

from __future__ import annotations

from typing import Any

from rralloc.errors import NotOffered
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.typing import Point


class Baseline(Solver):
    """The named point of ``problem.points()``, so that a rule is compared like any solver.

    Choose this when you want to know what optimising is worth; as a policy in training it is the
    unoptimised rival: ``Optimised(FEELScheduling, "baseline:uniform")``.
    """

    name = "baseline"
    rank = 1000
    variant = "rule"

    rule: str = ""

    @classmethod
    def names(cls, problem: Problem | None = None) -> tuple[str, ...]:
        """One name for each rule of the problem."""
        return tuple(f"baseline:{n}" for n in problem.points()) if problem is not None else ()

    def applies(self, problem: Problem) -> None:
        """Refuse a rule that the problem does not have."""
        rules = problem.points()
        if self.rule not in rules:
            has = ", ".join(f"baseline:{n}" for n in rules) or "no baselines"
            raise NotOffered(f"{type(problem).__name__} has {has}")

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Offer the rule's point."""
        self.applies(problem)
        run.offer(problem.points()[self.rule]())
