"""Nonlinear models through Pyomo: ``pyomo``, ``pyomo:pounce``, ``:casadi``, ``:scip``, ``:maingo``.

A model is built once for each structure (``Model.key``) and thread; an instance sets its mutable
parameters and a start. Local engines read Pyomo's ``.nl`` file; the two global ones search the
whole box and *claim* a bound, which is quoted and never taken as proven. Source: design §4
"Backends"; spec ecosystem.md §1.2-1.6.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rralloc.errors import SolverUnavailable
from rralloc.forms import Handle, Model
from rralloc.problem import Problem
from rralloc.run import LaneRun
from rralloc.solution import Stopped
from rralloc.solver import Solver
from rralloc.solvers._engines import Handles, finite, model_for, quiet
from rralloc.typing import Array, Point

HANDLES = Handles()
_LOCAL = threading.local()

STOPPED = {
    "optimal": Stopped.CONVERGED,
    "locallyOptimal": Stopped.CONVERGED,
    "globallyOptimal": Stopped.CONVERGED,
    "maxTimeLimit": Stopped.TIME,
    "maxIterations": Stopped.ITERATIONS,
    "maxEvaluations": Stopped.ITERATIONS,
    "feasible": Stopped.STALLED,
    "minFunctionValue": Stopped.STALLED,
    "minStepLength": Stopped.STALLED,
    "other": Stopped.STALLED,
    "unknown": Stopped.STALLED,
}
"""Pyomo's termination condition -> why it ended; others (infeasible, error, ...) are ERROR."""

SAID = {
    "acceptablelevel": Stopped.STALLED,  # solved, but not to the tolerance that was asked for
    "toosmall": Stopped.STALLED,  # Pyomo calls this an iteration limit
    "restorationfailed": Stopped.STALLED,
    "timeexceeded": Stopped.TIME,  # and this as well
    "iterationsexceeded": Stopped.ITERATIONS,
    "infeasible": Stopped.ERROR,
    "solvesucceeded": Stopped.CONVERGED,
}
"""Fragments of an IPOPT-like engine's own message, letters only; they overrule the condition."""

GET = {
    "ipopt": "put one on PATH, or pip install pounce-solver, which stands in for it",
    "pounce": "pip install pounce-solver",
    "casadi": "pip install 'rralloc[casadi]'",
    "scip": "pip install 'rralloc[global]'",
    "maingo": "pip install 'rralloc[global]'",
}
IN_ORDER = ("ipopt", "pounce", "casadi")
GLOBAL_GAP = 1e-4
"""A global engine that says "optimal" while its own claims lie further apart than this was cut
short: Pyomo's MAiNGO interface reports any feasible point as optimal."""
UNBOUNDED = 1e20
"""A claim of at least this size is an engine's infinity."""


class Pyomo(Solver):
    """A local optimum of a nonlinear model; with ``scip`` and ``maingo`` a claim of a global one.

    ``engine``: empty for the first that works of ``ipopt`` (a user's own, on PATH), ``pounce``
    (comes with rralloc), ``casadi`` (the IPOPT inside its wheel); or one of these, or ``scip``,
    ``maingo``. ``settings`` go to the engine under its own names. ``start`` is used where the
    model takes one, by the local engines and ``maingo``; without one the values that the model's
    author gave are restored, so that no instance starts from another's answer. An engine counts
    as available once it has solved a model of one variable, tried once in a process.

    Statuses: the engine's message by the table ``SAID``, else Pyomo's termination condition by
    ``STOPPED``. Words other than plain success, and every claimed bound (on the *model's*
    objective, which may be scaled), are kept in ``Solution.message``.

    Choose this when the problem is not convex and no solver of its own applies, or to check one;
    ``pyomo:scip`` and ``pyomo:maingo`` for the smallest instances only.
    """

    name = "pyomo"
    rank = 80
    needs = (Model,)
    batched = False
    foreign = True
    warm = True
    variant = "engine"

    engine: str = ""
    settings: Mapping[str, Any] | None = None

    def available(self) -> None:
        """Raise unless the engine has solved a model of one variable."""
        if find_spec("pyomo") is None:
            raise SolverUnavailable("pyomo is not installed: pip install pyomo packaging")
        self._working()

    def applies(self, problem: Problem) -> None:
        """The problem has a model that Pyomo can take."""
        model_for(problem, "pyomo")

    def _working(self) -> str:
        """The engine to use: the one that was named, else the first without a fault."""
        if self.engine and self.engine not in ENGINES:
            has = ", ".join(ENGINES)
            raise SolverUnavailable(f"pyomo: no engine {self.engine!r}; it knows {has}")
        faults = {}
        for engine in (self.engine,) if self.engine else IN_ORDER:
            faults[engine] = fault(engine)
            if not faults[engine]:
                return engine
        raise SolverUnavailable("; ".join(f"pyomo:{e}: {why}" for e, why in faults.items()))

    def solve(self, problem: Any, start: Point | None, run: LaneRun) -> None:
        """Set parameters and start, run the engine, offer what it left in the variables."""
        engine, form = self._working(), model_for(problem, "pyomo")
        with quiet("pyomo"), HANDLES.borrow(problem, form, "pyomo", written) as (handle, values):
            for variable, value in values:
                variable.set_value(value, skip_validation=True)
            handle.assign(problem)
            if start is not None and handle.start is not None:
                handle.start(problem, start)
            run.check()
            try:
                told = ENGINES[engine](handle.model, Ask.of(run, self.settings))
            except subprocess.TimeoutExpired as error:
                run.end(Stopped.TIME, f"pyomo:{engine}: {error}")
                return
            run.count(told.iterations)
            x = handle.point(problem) if told.point else {}
            if x and finite(x):
                run.offer(x)
        reason, words = verdict(told, run.time_left <= 0)
        parts = [f"pyomo:{engine}: {w}" for w in words]
        if start is not None and (handle.start is None or engine == "scip"):
            parts.append(f"pyomo:{engine} does not use the start")
        run.end(reason, "; ".join(parts))


# -- what is asked of an engine and what it tells -----------------------------------------------


@dataclass(frozen=True)
class Ask:
    """Limits and tolerances; None where the engine's own default stands."""

    tol: float | None = None
    feas_tol: float = 1e-9
    max_iter: int | None = None
    seconds: float | None = None
    settings: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, run: LaneRun, settings: Mapping[str, Any] | None) -> Ask:
        """What the caller of ``rr.solve`` wants of this lane."""
        seconds = max(run.time_left, 1e-3) if np.isfinite(run.time_left) else None
        return cls(run.tol, run.feas_tol, run.max_iter, seconds, settings)

    def options(self, **named: Any) -> dict[str, Any]:
        """Engine option -> value, without the Nones; the user's own settings last."""
        return {n: v for n, v in named.items() if v is not None} | dict(self.settings or {})

    def ipopt(self, clock: str) -> dict[str, Any]:
        """Options that every IPOPT-like engine shares; bounds are not relaxed behind our back."""
        return self.options(
            bound_relax_factor=0.0,
            constr_viol_tol=max(self.feas_tol, 1e-12),
            tol=self.tol,
            max_iter=self.max_iter,
            **{clock: self.seconds},
        )


@dataclass(frozen=True)
class Told:
    """What an engine says: Pyomo's condition, its own message, whether it left a point."""

    condition: str
    message: str = ""
    point: bool = True
    iterations: int = 0
    claim: float | None = None
    """Bound on the model's objective that a global engine claims."""
    gap: float = 0.0
    """How far the claim is from the engine's best point, relative to the larger of it and 1."""


def verdict(told: Told, late: bool) -> tuple[Stopped, list[str]]:
    """Why it ended, and the words worth keeping."""
    letters = "".join(c for c in told.message.lower() if c.isalpha())
    said = [reason for fragment, reason in SAID.items() if fragment in letters]
    reason = said[0] if said else STOPPED.get(told.condition, Stopped.ERROR)
    if reason is Stopped.CONVERGED and told.gap > GLOBAL_GAP:
        reason = Stopped.TIME if late else Stopped.STALLED
    words = []
    if reason is not Stopped.CONVERGED:
        words.append(" ".join(w for w in (told.condition, told.message) if w))
    if told.claim is not None:
        words.append(f"claims bound {told.claim:.9g} on the model's objective")
    return reason, words


def written(handle: Handle) -> list[tuple[Any, Any]]:
    """The variables' values as the author of the model gave them."""
    return [(v, v.value) for v in _variables(handle.model) if not v.fixed]


def _variables(model: Any) -> list[Any]:
    from pyomo.environ import Var

    return list(model.component_data_objects(Var, descend_into=True))


# -- engines ------------------------------------------------------------------------------------


def _ipopt(model: Any, ask: Ask) -> Told:
    return _asl(_executable("ipopt"), model, ask, "max_cpu_time")


def _pounce(model: Any, ask: Ask) -> Told:
    return _asl(_executable("pounce"), model, ask, "max_wall_time")


def _executable(engine: str) -> str:
    """Path of an engine's executable: on PATH, or inside the package that ships it."""
    if engine == "ipopt":
        found = shutil.which("ipopt")
    else:
        spec = find_spec(engine)
        folders = spec.submodule_search_locations if spec else None
        found = next(
            (p for f in folders or () if (p := shutil.which(engine, path=f"{f}/bin"))), None
        )
    if found is None:
        raise FileNotFoundError(f"no executable named {engine}")
    return found


def _asl(path: str, model: Any, ask: Ask, clock: str) -> Told:
    """A process that reads ``.nl`` and writes ``.sol``; killed a second after its time is up."""
    results = _process(path).solve(
        model, load_solutions=False, timelimit=ask.seconds, options=ask.ipopt(clock)
    )
    return _legacy(model, results)


def _process(path: str) -> Any:
    """Pyomo's driver of an executable, kept for each thread: a new one asks for its version."""
    from pyomo.environ import SolverFactory

    known = _LOCAL.__dict__.setdefault("processes", {})
    if path not in known:
        known[path] = SolverFactory(f"asl:{path}")
    return known[path]


def _legacy(model: Any, results: Any) -> Told:
    """Load the solution of Pyomo's results object, if it has one."""
    point = len(results.solution) > 0
    if point:
        model.solutions.load_from(results)
    message = results.solver.message
    message = message.replace("\\x3a", ":") if isinstance(message, str) else ""
    return Told(str(results.solver.termination_condition.value), message, point)


def _casadi(model: Any, ask: Ask) -> Told:
    """CasADi's IPOPT on the file that Pyomo writes; columns come back in the writer's order."""
    import casadi

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nl"
        columns = _write_nl(model, path)
        nlp = casadi.NlpBuilder()
        nlp.import_nl(str(path))
    parts: Any = {"x": casadi.vertcat(*nlp.x), "f": nlp.f, "g": casadi.vertcat(*nlp.g)}
    chosen = {"print_level": 0, "sb": "yes"} | ask.ipopt("max_wall_time")
    options: Any = {f"ipopt.{n}": v for n, v in chosen.items()}
    options |= {"print_time": False, "show_eval_warnings": False}
    ipopt = casadi.nlpsol("model", "ipopt", parts, options)
    found = ipopt(x0=nlp.x_init, lbx=nlp.x_lb, ubx=nlp.x_ub, lbg=nlp.g_lb, ubg=nlp.g_ub)
    values: Array = np.asarray(found["x"]).ravel()
    for variable, value in zip(columns, values):
        variable.set_value(float(value), skip_validation=True)
    stats = ipopt.stats()
    condition = "optimal" if stats["success"] else ""
    iterations = int(stats.get("iter_count", 0))
    return Told(condition, stats["return_status"].replace("_", " "), iterations=iterations)


def _write_nl(model: Any, path: Path) -> list[Any]:
    """Write the model; its variables in the order of the file's columns."""
    from pyomo.repn.plugins.nl_writer import NLWriter

    with path.open("w", newline="\n") as stream:
        # Without presolve every variable of the file is one of the model's, and none is missing.
        info = NLWriter().write(model, stream, linear_presolve=False)
    return list(info.variables)


def _scip(model: Any, ask: Ask) -> Told:
    # At a feasibility tolerance of 1e-9 SCIP can loop for ever, deaf to its own time limit.
    named = {"numerics/feastol": max(ask.feas_tol, 1e-8), "limits/gap": ask.tol}
    return _global("scip_direct", model, ask.seconds, ask.options(**named))


def _maingo(model: Any, ask: Ask) -> Told:
    tolerance = max(ask.feas_tol, 1e-9)
    named = {"epsilonR": ask.tol, "deltaIneq": tolerance, "deltaEq": tolerance}
    # MAiNGO writes its result file into the working folder unless told not to.
    options = ask.options(writeResultFile=False, **named)
    plain = _without_named_expressions(model)
    # It counts whole seconds: 0.7 would be none at all.
    seconds = None if ask.seconds is None else math.ceil(ask.seconds)
    told = _global("appsi_maingo", plain, seconds, options)
    for mine, its in zip(_variables(model), _variables(plain)):
        mine.set_value(its.value, skip_validation=True)
    return told


def _without_named_expressions(model: Any) -> Any:
    """A copy with every ``Expression`` written out: Pyomo's MAiNGO interface knows none."""
    from pyomo.core.expr.visitor import replace_expressions
    from pyomo.environ import Constraint, Objective

    plain = model.clone()
    for part in plain.component_data_objects((Constraint, Objective), active=True):
        part.set_value(replace_expressions(part.expr, {}, remove_named_expressions=True))
    return plain


def _global(name: str, model: Any, seconds: float | None, options: dict[str, Any]) -> Told:
    """A branch-and-bound engine: the point, and how far its own bounds are apart."""
    from pyomo.environ import SolverFactory

    results = SolverFactory(name).solve(
        model, load_solutions=False, timelimit=seconds, options=options
    )
    told = _legacy(model, results)
    low, high = results.problem.lower_bound, results.problem.upper_bound
    if not (told.point and isinstance(low, (int, float)) and isinstance(high, (int, float))):
        return told
    claim = high if str(results.problem.sense).endswith("maximize") else low
    if abs(claim) >= UNBOUNDED:
        return replace(told, gap=np.inf)
    gap = abs(high - low) / max(1.0, min(abs(high), abs(low)))
    return replace(told, claim=float(claim), gap=gap)


ENGINES: dict[str, Callable[[Any, Ask], Told]] = {
    "ipopt": _ipopt,
    "pounce": _pounce,
    "casadi": _casadi,
    "scip": _scip,
    "maingo": _maingo,
}


@cache
def fault(engine: str) -> str:
    """Why an engine cannot be used, empty if it can: it solves one variable to its optimum."""
    try:
        with quiet("pyomo"):
            found = _try_out(ENGINES[engine])
    except Exception as error:
        return f"{type(error).__name__}: {error}; {GET[engine]}"
    right = 1 + 1.5**0.5
    if abs(found - right) < 1e-2:
        return ""
    return f"found {found:g} instead of {right:g} on a model of one variable"


def _try_out(engine: Callable[[Any, Ask], Told]) -> float:
    """argmin (x - 2)^2 - log x, which is 1 + sqrt(3/2)."""
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.x = pyo.Var(bounds=(0.1, 10), initialize=1.0)
    model.f = pyo.Objective(expr=(model.x - 2) ** 2 - pyo.log(model.x))
    engine(model, Ask(seconds=30.0))
    return float(pyo.value(model.x))
