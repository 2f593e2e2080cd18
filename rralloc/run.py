"""Run: what a solver is given besides the problem; keeps incumbents, clock, trace.

A solver *proposes* by ``run.offer(x)`` and asks ``run.check()`` often enough for deadlines to
hold; it never grades itself. Offers are compared by the problem (feasible before infeasible, then
objective), so the best point survives an interruption anywhere, inside a branch and bound too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from rralloc.problem import Problem
from rralloc.solution import Stopped, Trace
from rralloc.typing import Array, Point, Witness
from rralloc.verify import violation

Callback = Callable[[dict[str, Any]], Any]
TRACED = 100
"""Histories are kept for batches of at most this many instances, or when a callback listens."""


class Interrupted(Exception):
    """Raised by ``run.check()``; the driver turns it into ``stopped`` and keeps the incumbent."""

    def __init__(self, reason: Stopped) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(eq=False)
class Run:
    """One call of ``rr.solve`` on S lanes (the flattened batch)."""

    problem: Problem
    tol: float | None = None
    feas_tol: float = 1e-9
    gap_tol: float = 1e-4
    max_iter: int | None = None
    deadline: float = np.inf
    seed: np.random.Generator | int | None = None
    callback: Callback | None = None
    started: float = field(default_factory=time.perf_counter)
    traced: bool = True

    def __post_init__(self) -> None:
        lanes = self.problem.size
        self.names = tuple(v.name for v in self.problem.variables)
        self.x: dict[str, Array] = {}
        self.filled: Array = np.zeros(lanes, dtype=bool)
        self.witness: dict[str, Array] = {}
        self.stopped: Array = np.full(lanes, Stopped.CONVERGED, dtype=np.int8)
        self.iterations: Array = np.zeros(lanes, dtype=int)
        self.words: dict[int, str] = {}
        self.trace = Trace()
        self.watching = self.callback is not None or (self.traced and lanes <= TRACED)
        self._user_stop = False

    @cached_property
    def rng(self) -> np.random.Generator:
        """The random stream, made when a solver first draws."""
        return np.random.default_rng(self.seed)

    @cached_property
    def _scores(self) -> Array:
        """Objective and violation ``(2, S)`` of the incumbents that were scored, NaN elsewhere."""
        return np.full((2, self.filled.size), np.nan)

    def part(self, lanes: Array) -> Run:
        """The same run on some lanes only; the callback hears the lane's number in the whole."""
        told = self.callback

        def tell(row: dict[str, Any]) -> Any:
            return told(row | {"lane": int(lanes[row["lane"]])}) if told else False

        return Run(
            self.problem[lanes],
            tol=self.tol,
            feas_tol=self.feas_tol,
            gap_tol=self.gap_tol,
            max_iter=self.max_iter,
            deadline=self.deadline,
            seed=self.rng,
            callback=tell if told else None,
            started=self.started,
            traced=self.traced,
        )

    def merge(self, part: Run, lanes: Array) -> None:
        """Take over what a part found, its trace with lanes renumbered."""
        self._put(self.x, part.x, lanes)
        self._put(self.witness, part.witness, lanes)
        self.filled[lanes], self.stopped[lanes] = part.filled, part.stopped
        self.iterations[lanes] = part.iterations
        self.words |= {int(lanes[k]): words for k, words in part.words.items()}
        self.trace.rows.extend(row | {"lane": int(lanes[row["lane"]])} for row in part.trace.rows)

    # -- the clock --------------------------------------------------------------------------

    @property
    def time_left(self) -> float:
        """Seconds until the deadline; inf without one."""
        return self.deadline - time.perf_counter()

    def interruption(self) -> Stopped | None:
        """Why to stop now, or None."""
        if self._user_stop:
            return Stopped.USER
        return Stopped.TIME if self.time_left <= 0 else None

    def check(self) -> None:
        """Raise ``Interrupted`` when the time is up or the callback said stop."""
        reason = self.interruption()
        if reason is not None:
            raise Interrupted(reason)

    # -- incumbents -------------------------------------------------------------------------

    def offer(
        self,
        x: Point,
        *,
        lanes: Array | None = None,
        witness: Witness | None = None,
        trace: bool = False,
    ) -> None:
        """Propose points for some lanes (all when None); the better of old and new is kept.

        ``trace`` writes a row for each lane; else a lane's first point is taken unscored.
        """
        whole = lanes is None
        lanes = np.arange(self.filled.size) if lanes is None else np.atleast_1d(lanes)
        if witness is not None:
            self.prove(witness, lanes)
        point = self._read(x, lanes.size)
        if not trace and not self.filled[lanes].any():
            self._place(point, lanes, whole)
            return
        score = self._score(lanes, point)
        better = self._beats(score, lanes)
        if better.all():
            self._place(point, lanes, whole)
        elif better.any():
            self._place({n: v[better] for n, v in point.items()}, lanes[better], False)
        self._scores[:, lanes[better]] = score[:, better]
        self._record(lanes, score)

    def prove(self, witness: Witness, lanes: Array | None = None) -> None:
        """Leave a witness without a point; the problem evaluates it at the end."""
        self._put(self.witness, witness, np.arange(self.filled.size) if lanes is None else lanes)

    def _read(self, x: Point, lanes: int) -> dict[str, Array]:
        """The variables of an offer, copied: the solver may go on in the same arrays."""
        out = {}
        for var in self.problem.variables:
            if not var.derived:
                if var.name not in x:
                    raise ValueError(f"offer: {var.name} is missing")
                value, shape = np.array(x[var.name]), (lanes, *self.problem.shape_of(var)[1:])
                if value.shape != shape:
                    raise ValueError(f"offer: {var.name} has shape {value.shape}; need {shape}")
                real = np.dtype(var.dtype).kind == "f" and value.dtype.kind in "iub"
                out[var.name] = value.astype(var.dtype) if real else value
        return out

    def _place(self, x: dict[str, Array], lanes: Array, whole: bool) -> None:
        if whole:
            self.x = x
        else:
            self._put(self.x, x, lanes)
        self.filled[lanes] = True

    def _put(self, store: dict[str, Array], new: Point | Witness, lanes: Array) -> None:
        for name, value in new.items():
            value = np.asarray(value)
            if name not in store:
                blank = {"f": np.nan, "c": np.nan, "O": None}.get(value.dtype.kind, 0)
                shape = (self.filled.size, *value.shape[1:])
                store[name] = np.full(shape, blank, dtype=value.dtype)
            elif not store[name].flags.writeable or store[name].base is not None:
                store[name] = store[name].copy()
            store[name][lanes] = value

    def _score(self, lanes: Array, x: Point) -> Array:
        """Objective and violation ``(2, lanes)`` by the problem's own formulas."""
        problem = self.problem if lanes.size == self.filled.size else self.problem[lanes]
        with np.errstate(all="ignore"):
            full = problem.complete(x)
            return np.stack([problem.objective(full), violation(problem, full)])

    def _beats(self, new: Array, lanes: Array) -> Array:
        """Feasible before infeasible, then objective; what a tiny violation buys is not a gain."""
        unscored = self.filled[lanes] & np.isnan(self._scores[0, lanes])
        if unscored.any():
            late = lanes[unscored]
            self._scores[:, late] = self._score(late, {n: v[late] for n, v in self.x.items()})
        old = self._scores[:, lanes]
        fits, fitted = new[1] <= self.feas_tol, old[1] <= self.feas_tol
        with np.errstate(invalid="ignore"):
            gain = old[0] - new[0] if self.problem.sense == "min" else new[0] - old[0]
            closer, bought = new[1] <= old[1], np.abs(old[0]) * (new[1] - old[1])
            rounding = 1e-14 * np.abs(old[0])  # a tie: the newer point
            improves = (gain >= bought - rounding) | (np.isinf(old[0]) & (gain > 0))
        verdict = np.where(fits & fitted, improves, np.where(fits | fitted, fits, closer))
        better: Array = (verdict | np.isnan(old[0])) & ~np.isnan(new[0]) | ~self.filled[lanes]
        return better

    def _record(self, lanes: Array, score: Array) -> None:
        if not self.watching:
            return
        elapsed = time.perf_counter() - self.started
        for lane, value, worst in zip(lanes, score[0], score[1]):
            row = {
                "lane": int(lane),
                "iteration": int(self.iterations[lane]),
                "seconds": elapsed,
                "objective": float(value),
                "violation": float(worst),
            }
            self.trace.rows.append(row)
            if self.callback is not None and not self._user_stop:
                self._user_stop = bool(self.callback(row))

    # -- endings ----------------------------------------------------------------------------

    def end(self, reason: Stopped, lanes: Array | int | None = None, words: str = "") -> None:
        """Say why lanes ended (all when None), with the solver's own words if it has any."""
        where = slice(None) if lanes is None else lanes
        self.stopped[where] = reason
        if words:
            for lane in np.atleast_1d(np.arange(self.filled.size)[where]):
                self.words[int(lane)] = words


class LaneRun:
    """The same for a one-at-a-time solver: offers and endings of one lane, unbatched points."""

    def __init__(self, run: Run, lane: int) -> None:
        self._run, self._lane = run, lane
        self.tol, self.feas_tol, self.max_iter = run.tol, run.feas_tol, run.max_iter
        self.gap_tol = run.gap_tol
        self.rng, self.watching = run.rng, run.watching

    @property
    def time_left(self) -> float:
        """Seconds until the deadline of the whole batch."""
        return self._run.time_left

    def check(self) -> None:
        """Raise ``Interrupted`` when the time is up or the callback said stop."""
        self._run.check()

    def offer(self, x: Point, *, witness: Witness | None = None) -> None:
        """Propose a point of this lane."""
        lifted = {n: np.asarray(v)[None] for n, v in x.items()}
        if witness is not None:
            self.prove(witness)
        self._run.offer(lifted, lanes=np.array([self._lane]), trace=True)

    def prove(self, witness: Witness) -> None:
        """Leave a witness without a point."""
        held = {n: _boxed(v) for n, v in witness.items()}
        self._run.prove(held, np.array([self._lane]))

    def count(self, iterations: int) -> None:
        """Set the iteration count of this lane."""
        self._run.iterations[self._lane] = iterations

    def end(self, reason: Stopped, words: str = "") -> None:
        """Say why this lane ended."""
        self._run.end(reason, self._lane, words)


def _boxed(value: Any) -> Array:
    if isinstance(value, (np.ndarray, float, int, np.number)):
        return np.asarray(value, dtype=float)[None]
    box = np.empty(1, dtype=object)
    box[0] = value
    return box
