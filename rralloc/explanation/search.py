"""The searches behind ``explain``: least worst violation, most slack of one row, least total.

All by SLSQP with the elastic variable in the problem, so that every subproblem has a feasible
start. Where the rows are linear or concave in z, tangents make a linear program whose optimum no
point can beat: that is a proof. Source: elastic programming and the deletion filter, Chinneck,
"Feasibility and Infeasibility in Optimization" (2008); proof by tangents derived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rralloc.explanation.rows import Rows
from rralloc.typing import Array

MET = 1e-9
"""Scaled violation that counts as none (the frame's ``feas_tol``)."""
SURE = 1e-6
"""Scaled violation above which rows count as violated; in between nothing is decided."""


@dataclass(frozen=True, eq=False)
class Found:
    """A point and the worst scaled violation there of the rows asked for."""

    z: Array
    worst: float


class _Enough(Exception):
    """A point that meets all rows was seen, or time is up."""


class Search:
    """The searches on one instance; each takes a subset of rows (indices) and starts."""

    def __init__(self, rows: Rows, deadline: float, rng: np.random.Generator) -> None:
        self.rows = rows
        self.deadline = deadline
        self.linear = False
        """All rows are (``explanation`` finds out)."""
        low, high = rows.low, rows.high
        left = np.where(np.isfinite(low), low, np.minimum(high, 1.0) - 2.0)
        right = np.where(np.isfinite(high), high, left + 2.0)
        self.middle: Array = (left + right) / 2
        self.convex = False
        """Slacks are linear or by the class's word concave: one start says as much as many."""
        self.scattered = [left + (right - left) * rng.uniform(size=left.size) for _ in range(2)]

    @property
    def late(self) -> bool:
        """The time limit has passed."""
        return time.perf_counter() >= self.deadline

    def worst(self, z: Array, kept: Array) -> float:
        """Worst scaled violation of the rows at z."""
        return float(np.max(-self.rows.slack(z)[kept], initial=0.0))

    def inside(self, z: Array) -> Array:
        """The point in the box, moved off its edges, where slopes explode."""
        z = np.clip(np.where(np.isfinite(z), z, self.middle), self.rows.low, self.rows.high)
        return np.asarray(z + 1e-3 * (self.middle - z))

    def from_near(self, z: Array) -> list[Array]:
        """Starts for a variant of the rows whose least point is z; more where z may mislead."""
        return [z, self.middle] if self.convex else [z, self.middle, *self.scattered]

    # -- all rows at once, or some -----------------------------------------------------------

    def least(self, kept: Array, starts: Iterable[Array]) -> Found:
        """min over the box of the worst violation, from one start after another until it is 0."""
        best: Found | None = None
        for start in starts:
            for first in (start, self.inside(start)):
                here = Found(first, self.worst(first, kept))
                best = here if best is None or here.worst < best.worst else best
            if best is not None and best.worst > 0.0 and not self.late:
                end = self.ease(kept, np.ones(kept.size), kept[:0], self.inside(start))
                best = end if end.worst < best.worst else best
            if best is not None and (best.worst <= MET or self.late):
                break
        assert best is not None
        return best

    def ease(self, easy: Array, weight: Array, others: Array, start: Array) -> Found:
        """min t with c_i + weight_i t >= 0 for the easy rows while the others hold.

        The start meets the others; ``worst`` is t at the best point that does, 0 where none is
        needed. SLSQP runs again from its end where it gave up; for linear rows one linear
        program says it all.
        """
        best = self._at(start, easy, weight)
        if (end := self.program(easy, weight, others, start)) is not None:
            return end if end.worst < best.worst else best
        for _ in range(3):
            before = best
            best, done = self._eased(easy, weight, others, before)
            if done or before.worst - best.worst <= 1e-7 * before.worst or self.late:
                break
        return best

    def program(self, easy: Array, weight: Array, others: Array, z: Array) -> Found | None:
        """``ease`` of linear rows in one go, from a z that need not meet the others."""
        if not self.linear:
            return None
        t, step, _ = self.tangents(easy, z, weight=weight, others=others)
        end = np.clip(z + step, self.rows.low, self.rows.high)
        solved = np.isfinite(t) and self.worst(end, others) <= MET
        return self._at(end, easy, weight) if solved else None

    def _at(self, z: Array, easy: Array, weight: Array) -> Found:
        return Found(z, float(np.max(-self.rows.slack(z)[easy] / weight, initial=0.0)))

    def _eased(self, easy: Array, weight: Array, others: Array, first: Found) -> tuple[Found, bool]:
        rows = self.rows
        unit = first.worst or 1.0  # t in units of its start
        best = [first]
        both = np.append(easy, others)
        column = np.append(unit * weight, np.zeros(others.size))[:, None]

        def fun(v: Array) -> Array:
            slack = rows.slack(v[:-1])
            t = float(np.max(-slack[easy] / weight, initial=0.0))
            if t < best[0].worst and np.max(-slack[others], initial=0.0) <= MET:
                best[0] = Found(v[:-1].copy(), t)
            if best[0].worst <= 0.0 or self.late:
                raise _Enough
            return np.asarray(slack[both] + column[:, 0] * v[-1])

        slope = np.append(np.zeros(first.z.size), 1.0)
        done = self._slsqp(
            lambda v: float(v[-1]),
            lambda v: slope,
            np.append(first.z, first.worst / unit),
            fun,
            lambda v: np.hstack([rows.jacobian(v[:-1])[both], column]),
            (-0.1, np.inf),
        )
        return best[0], done or best[0].worst <= 0.0

    # -- least total ------------------------------------------------------------------------

    def least_total(self, kept: Array, start: Array) -> Array:
        """min of the sum of the rows' scaled violations; what is violated is sparse."""
        rows, n = self.rows, start.size
        lack = np.maximum(-rows.slack(start)[kept], 0.0)
        unit = max(1.0, float(lack.max(initial=0.0)))
        slope = np.append(np.zeros(n), np.ones(lack.size))
        best = [Found(start, float(lack.sum()))]
        identity = unit * np.eye(lack.size)

        def fun(v: Array) -> Array:
            slack = rows.slack(v[:n])[kept]
            total = float(np.maximum(-slack, 0.0).sum())
            if total < best[0].worst:
                best[0] = Found(v[:n].copy(), total)
            if self.late:
                raise _Enough
            return np.asarray(slack + unit * v[n:])

        self._slsqp(
            lambda v: float(v[n:].sum()),
            lambda v: slope,
            np.append(start, lack / unit),
            fun,
            lambda v: np.hstack([rows.jacobian(v[:n])[kept], identity]),
            (0.0, np.inf),
        )
        return best[0].z

    def _slsqp(
        self,
        value: Callable[[Array], float],
        gradient: Callable[[Array], Array],
        first: Array,
        fun: Callable[[Array], Array],
        jac: Callable[[Array], Array],
        extra: tuple[float, float] = (-np.inf, np.inf),
    ) -> bool:
        """Run SLSQP, say if it converged; what it found is what the callables saw."""
        from scipy.optimize import Bounds, minimize

        call: Any = minimize  # its stubs refuse bound methods and option dictionaries
        more = first.size - self.rows.low.size
        low = np.append(self.rows.low, np.full(more, extra[0]))
        high = np.append(self.rows.high, np.full(more, extra[1]))
        rows = [{"type": "ineq", "fun": fun, "jac": jac}]
        try:
            with np.errstate(all="ignore"):
                fun(first)
                end = call(
                    value, np.clip(first, low, high), jac=gradient, method="SLSQP",
                    bounds=Bounds(low, high), constraints=rows if fun(first).size else [],
                    options={"ftol": 1e-13, "maxiter": 300},
                )  # fmt: skip
        except (_Enough, ValueError, np.linalg.LinAlgError):
            return False  # the best point seen stands
        return bool(end.status == 0)

    # -- tangents ---------------------------------------------------------------------------

    def tangents(
        self,
        kept: Array,
        z: Array,
        *,
        reach: Array | None = None,
        weight: Array | None = None,
        others: Array | None = None,
    ) -> tuple[float, Array, Array]:
        """``ease`` for the rows' tangents at z: t, the step to its point, the rows' prices.

        t may be negative. The prices ``(kept,)`` sum to 1 with unit weights; rows with a positive
        price contradict each other. With ``reach`` ``(n,)`` the box is cut to that distance.
        """
        from scipy.optimize import linprog

        column = np.ones(z.size) if reach is None else reach
        both = kept if others is None else np.append(kept, others)
        eased = np.zeros(both.size)
        eased[: kept.size] = 1.0 if weight is None else weight
        slack, slope = self.rows.slack(z)[both], self.rows.jacobian(z)[both] * column
        size = np.maximum(np.abs(slope).max(1, initial=0.0), 1.0)  # rows of size one
        matrix = -np.column_stack([slope, eased]) / size[:, None]
        low, high = (self.rows.low - z) / column, (self.rows.high - z) / column
        if reach is not None:
            low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
        box = np.column_stack([np.append(low, -1.0), np.append(high, np.inf)])
        cost = np.append(np.zeros(z.size), 1.0)
        found = linprog(cost, A_ub=matrix, b_ub=slack / size, bounds=box, method="highs")
        if found.status != 0:
            return -np.inf, np.zeros(z.size), np.zeros(kept.size)
        price = -found.ineqlin.marginals / size
        return float(found.x[-1]), found.x[:-1] * column, np.asarray(price[: kept.size])
