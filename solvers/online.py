"""Online rules by name: a problem's own policies as solvers of its horizon, ``Causal`` underneath.

    rr.solve(horizon, "drift-plus-penalty", tradeoff=2e-4, queue0=0.0)

The problem says by ``policy(name, **options)`` which policy that is and by ``Stages`` what a causal
server sees; a solver here only names one, so that a rule is compared like any solver. The trace has
a row for each round with the energy backlog, if the policy keeps one, and the energy spent. Source:
design §4; spec mads.md §2.9.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Stages
from rralloc.policy import Causal, Decision, Round
from rralloc.problem import Problem
from rralloc.run import Interrupted, LaneRun, Run
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.typing import Point


@dataclass
class _Watched:
    """A policy, with a row for the trace of each round and its memory after the last."""

    policy: Any
    rows: list[dict[str, Any]] = field(default_factory=list)
    words: str = ""
    memory: Any = None

    @property
    def name(self) -> str:
        return str(self.policy.name)

    def start(self, round: Round, rng: np.random.Generator) -> Any:
        memory = self.policy.start(round, rng)
        if hasattr(self.policy, "words"):
            self.words = self.policy.words(round, memory)
        return memory

    def decide(self, round: Round, memory: Any, rng: np.random.Generator) -> tuple[Decision, Any]:
        self.rows.append({"lane": 0, "iteration": round.index})
        if hasattr(memory, "queue"):
            self.rows[-1]["queue"] = memory.queue
        decided: tuple[Decision, Any] = self.policy.decide(round, memory, rng)
        return decided

    def learn(self, feedback: Any, memory: Any) -> Any:
        self.rows[-1] |= feedback
        self.memory = self.policy.learn(feedback, memory)
        return self.memory

    def witness(self) -> dict[str, Any]:
        found = self.policy.witness(self.memory) if hasattr(self.policy, "witness") else {}
        return {name: np.asarray(value)[None] for name, value in found.items()}


class _Online(Solver):
    """Base of the rules below; not a solver by itself."""

    rank = 1000
    needs = (Stages,)

    budget_per_round_j: float | None = None
    hard_budget: bool = False

    def applies(self, problem: Problem) -> None:
        """The problem knows a policy of this name, and rounds."""
        problem.view(Stages)
        self._policy(problem)

    def _policy(self, problem: Any) -> Any:
        if not hasattr(problem, "policy"):
            raise NotOffered(f"{type(problem).__name__} has no online policies")
        settings = {f.name: getattr(self, f.name) for f in fields(self)}
        return problem.policy(self.name, **settings)

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """One instance after another, each round by round."""
        everybody = np.arange(problem.size)
        for lane in everybody:
            part, watched = run.part(everybody[[lane]]), _Watched(self._policy(problem))
            try:
                Causal(policy=watched).solve(problem[lane], None, cast(Run, LaneRun(part, 0)))
            except Interrupted as stop:
                run.end(stop.reason, everybody[lane:])
                return
            part.prove(watched.witness())
            part.iterations[0] = len(watched.rows)
            if run.watching:
                part.trace.rows[:0] = watched.rows
            part.end(Stopped.CONVERGED, 0, watched.words)
            run.merge(part, everybody[[lane]])


class DriftPlusPenaltySolver(_Online):
    """Every round at the backlog as the price of energy; see ``DriftPlusPenalty``.

    ``tradeoff`` V, ``queue0``, ``patience``, ``budget_per_round_j``, ``hard_budget``,
    ``weighting``. The queue before each round is in ``trace``; V, the last queue and their ratio, a
    price of energy, are in ``duals``. More energy than the budget is a violation.

    Choose this to see what not knowing the future costs.
    """

    name = "drift-plus-penalty"

    tradeoff: float | None = None
    queue0: float | None = None
    patience: float = 1.0
    weighting: str = "hold"


class FixedKeepSolver(_Online):
    """A fixed share of the model, where it fits. Choose this as the rule to beat."""

    name = "fixed-keep"

    share: float = 0.1


class DenseSolver(_Online):
    """The whole model or nothing. Choose this to see what sparsification is for."""

    name = "dense"


class FixedPowerSolver(_Online):
    """What fits at the power that the budget allows on average.

    Choose this as the simple rule that is hardest to beat.
    """

    name = "fixed-power"


class MaxPowerSolver(_Online):
    """What fits at full power. Choose this to see what ignoring the energy costs."""

    name = "max-power"
