"""Solver: frozen settings that propose points; ``solve``: the driver that owns loop and verdict.

A solver is one class with a ``name`` and one of

* ``solve(problem, start, run)`` with ``run.offer(x)`` and ``run.check()``; or
* ``begin`` and ``step`` over lanes (:class:`Iterative`): the frame runs the loop, sets finished
  lanes aside and keeps the clock.

Its dataclass fields are its options. Nothing a solver returns is believed: objective, violation,
bound, gap and status of the :class:`Solution` are recomputed by the problem from the point.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, ClassVar, Literal, dataclass_transform

import numpy as np

from rralloc.errors import InvalidProblem, RRAllocError
from rralloc.problem import Problem
from rralloc.run import Callback, Interrupted, LaneRun, Run
from rralloc.solution import Solution, Status, Stopped, codes, gap_between, point_like
from rralloc.typing import Array, Point, Witness
from rralloc.verify import kkt_residual, violation

Effort = Literal["none", "cheap", "full"]
KKT_TOL = 1e-5


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Solver:
    """Base of all solvers; subclasses become frozen keyword-only dataclasses by themselves."""

    name: ClassVar[str]
    """What users type; ``name:value`` sets the field named by ``variant``."""
    rank: ClassVar[int] = 100
    """When no solver is named, the applicable one of lowest rank is taken; 1000 is never taken."""
    needs: ClassVar[tuple[type, ...]] = ()
    """Forms that the problem must offer."""
    batched: ClassVar[bool] = True
    """Takes all lanes at once; else the driver hands over one instance after another."""
    foreign: ClassVar[bool] = False
    """Somebody else's code: exceptions become ``stopped=ERROR``, points pass ``project``."""
    warm: ClassVar[bool] = False
    """Uses ``start``."""
    certifies: ClassVar[bool] = False
    """Its witness is worth asking for when somebody else's point needs a bound."""
    variant: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def available(self) -> None:
        """Raise ``SolverUnavailable`` when a package or an engine is missing."""

    def applies(self, problem: Problem) -> None:
        """Raise ``NotOffered`` with the reason when the instance lacks a form."""
        for form in self.needs:
            problem.view(form)

    @classmethod
    def names(cls, problem: Problem | None = None) -> tuple[str, ...]:
        """The names under which this class is listed for a problem."""
        return (cls.name,)

    def label(self) -> str:
        """The name with its variant, as it appears in tables."""
        if self.variant is None:
            return self.name
        default = getattr(type(self), self.variant)  # a dataclass default is a class attribute
        value = getattr(self, self.variant)
        return self.name if value == default else f"{self.name}:{value}"

    def solve(self, problem: Any, start: Point | None, run: Any) -> None:
        """Offer points to ``run``; ``problem`` has one batch axis, or none if not ``batched``."""
        raise NotImplementedError


class Nobody(Solver):
    """Stands in when no instance has a feasible point and no solver was named."""

    name = "none"


class Iterative(Solver):
    """A solver as pure steps over lanes; the loop below is the only one.

    A state is a NamedTuple of arrays with a leading lane axis, or dicts of such arrays, and has
    the boolean fields ``done`` and, if it may give up, ``stalled``.
    """

    steps: ClassVar[int] = 1000
    """Iteration limit when the caller gives none."""
    compact_at: ClassVar[float] = 0.5
    """Share of finished lanes at which the others move on alone; 0 for expensive steps."""

    def begin(self, problem: Any, start: Point | None, run: Run) -> Any:
        """The state before the first step."""
        raise NotImplementedError

    def step(self, problem: Any, state: Any, run: Run) -> Any:
        """The next state; must leave finished lanes as they are."""
        raise NotImplementedError

    def point(self, problem: Any, state: Any) -> Point:
        """The point a state stands for."""
        raise NotImplementedError

    def witness(self, problem: Any, state: Any) -> Witness | None:
        """What the state proves, if anything."""
        return None

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Step, set finished lanes aside, stop at the limit or the deadline."""
        state, lanes = self.begin(problem, start, run), np.arange(problem.size)
        for _ in range(self.steps if run.max_iter is None else run.max_iter):
            run.iterations[lanes[~state.done]] += 1
            state = self.step(problem, state, run)
            if run.watching:
                run.offer(self.point(problem, state), lanes=lanes, trace=True)
            done = state.done
            if done.mean() >= max(self.compact_at, 1e-12):
                self._hand_in(problem, state, lanes, done, run)
                if done.all():
                    return
                keep = ~done
                problem, lanes, state = problem[keep], lanes[keep], take(state, keep)
            reason = run.interruption()
            if reason is not None:
                run.end(reason, lanes[~state.done])
                break
        else:
            run.end(Stopped.ITERATIONS, lanes[~state.done])
        self._hand_in(problem, state, lanes, np.ones(lanes.size, dtype=bool), run)

    def _hand_in(self, problem: Any, state: Any, lanes: Array, done: Array, run: Run) -> None:
        if not done.all():
            problem, lanes, state = problem[done], lanes[done], take(state, done)
        if hasattr(state, "stalled"):
            run.end(Stopped.STALLED, lanes[state.stalled])
        run.offer(self.point(problem, state), lanes=lanes, witness=self.witness(problem, state))


def take(state: Any, lanes: Array) -> Any:
    """A state with some lanes only."""

    def pick(value: Any) -> Any:
        return {n: v[lanes] for n, v in value.items()} if isinstance(value, dict) else value[lanes]

    return type(state)(*map(pick, state))


# -- the driver ---------------------------------------------------------------------------------


def solve(
    problem: Problem,
    solver: str | Solver | type[Solver] | None = None,
    *,
    start: Point | Solution | None = None,
    tol: float | None = None,
    feas_tol: float = 1e-9,
    gap_tol: float = 1e-4,
    certify: Effort = "cheap",
    max_iter: int | None = None,
    time_limit: float | None = None,
    rng: np.random.Generator | int | None = None,
    callback: Callback | None = None,
    **options: Any,
) -> Solution:
    """Solve every instance of ``problem``; returns a point with what is proven about it.

    Parameters
    solver
        A name (``rr.solvers_for(problem)`` lists them), an instance or a class; None takes the
        problem's default. ``options`` are the solver's own settings.
    start
        A point or an earlier Solution. A solver that cannot use it says so in ``message``.
    tol
        The solver's own stopping tolerance, and the KKT tolerance of ``Status.LOCAL``
        (1e-5 when None).
    feas_tol, gap_tol
        FEASIBLE needs violation <= feas_tol; GLOBAL needs a bound that proves gap <= gap_tol too.
    certify
        ``none``: point and violation only, no bound, no KKT residual, no trace; ``cheap``: from
        the point and the solver's witness; ``full``: also search for a better witness
        (``rr.certify``).
    max_iter, time_limit
        Iterations, and wall seconds for the whole batch; instances not reached have
        ``stopped == TIME`` and ``status == NONE``.
    rng
        Generator or seed for solvers that draw.
    callback
        Called with each row of the trace; a true answer stops the run.
    """
    from rralloc import registry

    flat = problem.flat()
    barred = np.broadcast_to(flat.infeasible(), (flat.size,))
    if solver is None and barred.all():
        chosen: Solver = Nobody()
    else:
        some = barred.any() and not barred.all()
        chosen = registry.resolve(solver, flat[~barred] if some else flat, options)
    chosen.available()
    clock = time.perf_counter(), time.process_time()
    run = Run(
        flat,
        tol=tol,
        feas_tol=feas_tol,
        max_iter=max_iter,
        deadline=np.inf if time_limit is None else clock[0] + time_limit,
        rng=np.random.default_rng(rng),
        callback=callback,
        started=clock[0],
        traced=certify != "none",
    )
    begin = None if start is None else _flat_start(problem, start)
    _execute(chosen, flat, begin, run, barred)
    found = _grade(
        problem, chosen, run, barred, KKT_TOL if tol is None else tol, feas_tol, gap_tol, certify
    )
    if begin is not None and not chosen.warm:
        found = _say(found, f"{chosen.label()} does not use the start.")
    found.__dict__["seconds"] = time.perf_counter() - clock[0]
    found.__dict__["cpu_seconds"] = time.process_time() - clock[1]
    if certify == "full":
        from rralloc.certify import certify as search

        return search(problem, found, effort="full", gap_tol=gap_tol, time_limit=time_limit)
    return found


def _flat_start(problem: Problem, start: Point | Solution) -> dict[str, Array]:
    given = point_like(start, tuple(v.name for v in problem.variables))
    flat = {}
    for var in problem.variables:
        if var.name in given:
            shape = problem.shape_of(var)
            try:
                full = np.broadcast_to(given[var.name], shape)
            except ValueError:
                raise InvalidProblem(
                    f"start: {var.name} has shape {given[var.name].shape}; need {shape}"
                ) from None
            flat[var.name] = full.reshape((problem.size, *shape[len(problem.batch_shape) :]))
        elif not var.derived:
            raise InvalidProblem(f"start lacks {var.name}; it has {', '.join(given) or 'nothing'}")
    return flat


def _execute(chosen: Solver, flat: Problem, start: Point | None, run: Run, barred: Array) -> None:
    """Hand over the feasible lanes, all at once or one by one."""
    if not chosen.batched:
        for lane in np.flatnonzero(~barred):
            _one_lane(chosen, flat, start, run, int(lane))
    elif not barred.any():
        _guarded(chosen, flat, start, run)
    elif not barred.all():
        lanes = np.flatnonzero(~barred)
        part = Run(flat[lanes], run.tol, run.feas_tol, run.max_iter, run.deadline, run.rng)
        begin = None if start is None else {n: v[lanes] for n, v in start.items()}
        _guarded(chosen, part.problem, begin, part)
        if part.x:
            run.offer(part.x, lanes=lanes, witness=part.witness or None)
        run.stopped[lanes], run.iterations[lanes] = part.stopped, part.iterations
        run.filled[lanes] = part.filled
        run.words |= {int(lanes[k]): w for k, w in part.words.items()}


def _guarded(chosen: Solver, problem: Any, start: Point | None, run: Run) -> None:
    try:
        chosen.solve(problem, start, run)
    except Interrupted as stop:
        run.end(stop.reason)


def _one_lane(chosen: Solver, flat: Problem, start: Point | None, run: Run, lane: int) -> None:
    reason = run.interruption()
    if reason is not None:
        run.end(reason, lane)
        return
    single = LaneRun(run, lane)
    begin = None if start is None else {n: v[lane] for n, v in start.items()}
    try:
        chosen.solve(flat[lane], begin, single)
    except Interrupted as stop:
        run.end(stop.reason, lane)
    except RRAllocError:
        raise
    except Exception as error:
        if not chosen.foreign:
            raise
        run.end(Stopped.ERROR, lane, f"{type(error).__name__}: {error}")


def _grade(
    problem: Problem,
    chosen: Solver,
    run: Run,
    barred: Array,
    kkt_tol: float,
    feas_tol: float,
    gap_tol: float,
    certify: Effort,
) -> Solution:
    """Everything that is known about the points, by the problem's own formulas."""
    flat, x = run.problem, _points(run)
    with np.errstate(all="ignore"):
        raw = None
        if chosen.foreign and run.filled.any():
            raw = violation(flat, x)
            x = flat.project(x)
        x = flat.complete(x)
        objective = np.where(run.filled, flat.objective(x), np.nan)
        worst = np.where(run.filled, violation(flat, x), np.nan)
        bound = np.full(flat.size, np.nan)
        if certify != "none" and flat.bound_method:
            bound = np.where(barred, np.nan, flat.bound(x, run.witness or None))
        gap = gap_between(objective, bound)
    status = np.where(run.filled, Status.VIOLATED, np.where(barred, Status.INFEASIBLE, Status.NONE))
    # An infinite objective means outside the domain (no rate, a biased law): not a feasible point.
    feasible = run.filled & (worst <= feas_tol) & np.isfinite(objective)
    status = np.where(feasible, Status.FEASIBLE, status)
    proven = feasible & (gap <= gap_tol)
    kkt = np.full(flat.size, np.nan)
    if certify != "none" and not proven.all() and feasible.any():
        kkt = kkt_residual(flat, x, feasible & ~proven)
        status = np.where(kkt <= kkt_tol, Status.LOCAL, status)
    status = np.where(proven, Status.GLOBAL, status)
    shape = problem.batch_shape
    return Solution(
        problem=problem,
        solver=chosen.label(),
        x={n: v.reshape(shape + v.shape[1:]) for n, v in x.items()},
        objective=objective.reshape(shape)[()],
        bound=bound.reshape(shape)[()],
        gap=gap.reshape(shape)[()],
        bound_method=flat.bound_method if certify != "none" else "",
        violation=worst.reshape(shape)[()],
        raw_violation=(worst if raw is None else raw).reshape(shape)[()],
        kkt=kkt.reshape(shape)[()],
        status=codes(status.reshape(shape), Status),
        stopped=codes(run.stopped.reshape(shape), Stopped),
        iterations=run.iterations.reshape(shape)[()],
        seconds=0.0,
        cpu_seconds=0.0,
        message=_message(flat, run, barred),
        duals={n: v.reshape(shape + v.shape[1:]) for n, v in run.witness.items()},
        trace=run.trace,
    )


def _points(run: Run) -> dict[str, Array]:
    """The incumbents; NaN where a lane has none (its status says so)."""
    out = {}
    for var in run.problem.variables:
        value = run.x.get(var.name)
        if value is None:
            if var.derived:
                continue
            kind = var.dtype if np.dtype(var.dtype).kind in "fc" else float
            value = np.full(run.problem.shape_of(var), np.nan, dtype=kind)
        out[var.name] = value
    return out


def _message(flat: Problem, run: Run, barred: Array) -> str:
    parts = [flat.note()]
    for lane in np.flatnonzero(barred)[:3]:
        parts.append(f"instance {lane}: {flat[int(lane)].why_infeasible()}")
    if barred.sum() > 3:
        parts.append(f"and {int(barred.sum()) - 3} more infeasible instances")
    said: dict[str, list[int]] = {}
    for lane, words in run.words.items():
        said.setdefault(words, []).append(lane)
    for words, lanes in said.items():
        where = "" if flat.size == 1 else f" ({len(lanes)} of {flat.size} instances)"
        parts.append(f"{words}{where}")
    late = int((run.stopped == Stopped.TIME).sum())
    if late and flat.size > 1:
        parts.append(f"time limit: {late} of {flat.size} instances not finished")
    return "; ".join(p for p in parts if p)


def _say(sol: Solution, words: str) -> Solution:
    return dataclasses.replace(sol, message="; ".join(m for m in (sol.message, words) if m))
