"""Convex models through cvxpy: ``cvxpy`` (Clarabel), ``cvxpy:ECOS``, ``cvxpy:SCS``.

A model is built and canonicalised once for each structure (``Model.key``) and thread; an instance
only sets its parameters, which is cheap exactly if the model is DPP, so that is checked. Source:
design §4 "Backends"; spec ecosystem.md §1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem, SolverUnavailable
from rralloc.forms import Handle, Model
from rralloc.problem import Problem
from rralloc.run import LaneRun
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._engines import Handles, finite, model_for, quiet
from rralloc.typing import Point

HANDLES = Handles()

STOPPED = {
    "optimal": Stopped.CONVERGED,
    "optimal_inaccurate": Stopped.STALLED,
    "infeasible_inaccurate": Stopped.STALLED,
    "unbounded_inaccurate": Stopped.STALLED,
    "user_limit": Stopped.ITERATIONS,
    "infeasible": Stopped.ERROR,
    "unbounded": Stopped.ERROR,
    "infeasible_or_unbounded": Stopped.ERROR,
    "solver_error": Stopped.ERROR,
}
"""cvxpy's status word -> why it ended; what is inaccurate or cut short by the clock is TIME."""

NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "CLARABEL": {
        "tol": ("tol_gap_abs", "tol_gap_rel", "tol_feas"),
        "max_iter": ("max_iter",),
        "time_limit": ("time_limit",),
    },
    "ECOS": {"tol": ("abstol", "reltol", "feastol"), "max_iter": ("max_iters",)},
    "SCS": {
        "tol": ("eps_abs", "eps_rel"),
        "max_iter": ("max_iters",),
        "time_limit": ("time_limit_secs",),
    },
}
"""What each engine calls our settings; ECOS has no time limit."""

ECOS_MISSING = (
    "ECOS is not installed: pip install ecos (GPL-3, unlike the rest of the core; it has no wheel "
    "for Python 3.13 and later, where pip compiles it). cvxpy:CLARABEL solves the same models"
)


class Cvxpy(Solver):
    """The global optimum of a convex model, by a conic interior-point or splitting method.

    ``engine``: ``CLARABEL`` (interior point), ``ECOS`` (interior point, GPL-3), ``SCS`` (first
    order: large models; poor on data spread over decades), or any other that cvxpy has installed.
    ``settings`` go to the engine under its own names.

    Statuses: cvxpy's word by the table ``STOPPED``; ``*_inaccurate`` is never a success, and any
    word but ``optimal`` is kept in ``Solution.message``. A time limit holds inside the engine, if
    it has one, and between instances; building the model of a new structure is not cut short. A
    start is not used, and no instance is warm-started from another: results keep no memory.

    Choose this when the problem is convex and a second opinion, or a fast prototype, is wanted.
    """

    name = "cvxpy"
    rank = 50
    needs = (Model,)
    batched = False
    foreign = True
    variant = "engine"

    engine: str = "CLARABEL"
    settings: Mapping[str, Any] | None = None

    def available(self) -> None:
        """Raise when cvxpy or the engine is missing."""
        try:
            import cvxpy
        except ImportError:
            raise SolverUnavailable("cvxpy is not installed: pip install cvxpy") from None
        has = cvxpy.installed_solvers()
        if self._engine not in has:
            missing = f"cvxpy has no engine {self.engine!r} installed; it has {', '.join(has)}"
            raise SolverUnavailable(ECOS_MISSING if self._engine == "ECOS" else missing)

    def applies(self, problem: Problem) -> None:
        """The problem has a model that cvxpy can take."""
        model_for(problem, "cvxpy")

    @property
    def _engine(self) -> str:
        return self.engine.upper()

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Set the parameters, run the engine, offer what it left in the variables."""
        form = model_for(problem, "cvxpy")
        with quiet(), HANDLES.borrow(problem, form, "cvxpy", require_dpp) as (handle, _):
            model = handle.model
            for variable in model.variables():
                variable.save_value(None)  # the last instance's answer is not this one's
            handle.assign(problem)
            run.check()
            model.solve(solver=self._engine, warm_start=False, **self._options(run))
            run.count(int(getattr(model.solver_stats, "num_iters", None) or 0))
            if all(v.value is not None for v in model.variables()):
                x = handle.point(problem)
                if finite(x):
                    run.offer(x)
            run.end(*self._verdict(str(model.status), run))

    def _options(self, run: LaneRun) -> dict[str, Any]:
        limit = run.time_left if np.isfinite(run.time_left) else None
        given = {"tol": run.tol, "max_iter": run.max_iter, "time_limit": limit}
        names = NAMES.get(self._engine, {})
        ours = {n: v for k, v in given.items() if v is not None for n in names.get(k, ())}
        return ours | dict(self.settings or {})

    def _verdict(self, status: str, run: LaneRun) -> tuple[Stopped, str]:
        reason = STOPPED.get(status, Stopped.ERROR)
        if reason in (Stopped.STALLED, Stopped.ITERATIONS) and run.time_left <= 0:
            reason = Stopped.TIME
        return reason, "" if reason is Stopped.CONVERGED else f"cvxpy:{self._engine}: {status}"


def require_dpp(handle: Handle) -> None:
    """Refuse a parametrised model that cvxpy would canonicalise anew for each instance."""
    model = handle.model
    if model.parameters() and not model.is_dcp(dpp=True):
        kind = "is convex but not DPP" if model.is_dcp() else "is not convex by cvxpy's rules (DCP)"
        raise InvalidProblem(
            f"the cvxpy model {kind}: every instance would be compiled from scratch. Parameters "
            "may multiply variables but not each other, and a concave function of (parameter * "
            "expression of another parameter) is not allowed: make each product of data one "
            "parameter (q = g * P) and compute it in `assign`"
        )
