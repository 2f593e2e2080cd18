"""What comes back: a point in physical units, and what is known about it.

``status`` says what is known about the *point*, ``stopped`` why the *solver* ended; they are
independent. Both are int8 arrays over the batch (an enum member for a single instance), so

    (sol.status >= rr.Status.FEASIBLE).all()

works, and comparing with a string raises instead of being silently False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problem import Problem


class _Code(IntEnum):
    """An ordered enum that refuses to be compared with a string."""

    def __eq__(self, other: object) -> bool:
        _refuse_string(other)
        return int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        _refuse_string(other)
        return int.__ne__(self, other)

    __hash__ = int.__hash__


class Status(_Code):
    """What is known about the point, worst to best."""

    NONE = 0
    """no point was returned"""
    INFEASIBLE = 1
    """proven: no feasible point exists"""
    VIOLATED = 2
    """a point that violates a constraint by more than feas_tol"""
    FEASIBLE = 3
    """feasible, nothing known about optimality"""
    LOCAL = 4
    """feasible and stationary: the KKT residual is at most kkt_tol"""
    GLOBAL = 5
    """feasible, and a valid bound proves the gap to be at most gap_tol"""


class Stopped(_Code):
    """Why the solver ended."""

    CONVERGED = 0
    ITERATIONS = 1
    TIME = 2
    STALLED = 3
    USER = 4
    ERROR = 5


STATIONARY = "stationary, not proven optimal: see 'multistart' and certify='full'"
"""Said of a batch in which some point is LOCAL."""


def _refuse_string(other: object) -> None:
    if np.asarray(other).dtype.kind in "SU":
        raise TypeError(f"compare with a member, e.g. rr.Status.GLOBAL, not with {other!r}")


class Codes(np.ndarray):
    """An int8 array of enum codes; ``==`` with a string raises, ``names()`` gives words."""

    enum: type[_Code]

    def __array_finalize__(self, parent: Any) -> None:
        self.enum = getattr(parent, "enum", Status)

    def __array_wrap__(self, values: Any, *context: Any) -> Any:
        return np.asarray(values)[()]  # what is computed from codes is no code

    def __getitem__(self, index: Any) -> Any:
        found = np.asarray(self)[index]
        return codes(np.asarray(found), self.enum)

    def __reduce__(self) -> Any:
        return codes, (np.asarray(self), self.enum)

    def __eq__(self, other: object) -> Any:
        _refuse_string(other)
        return np.asarray(self) == other

    def __ne__(self, other: object) -> Any:
        _refuse_string(other)
        return np.asarray(self) != other

    def names(self) -> Array:
        """The codes as words, same shape."""
        words = np.array([m.name.lower() for m in self.enum])
        return words[np.asarray(self, dtype=int)]

    def counts(self) -> dict[str, int]:
        """Word -> how many, best first, zeros left out."""
        found = np.bincount(np.asarray(self, dtype=int).ravel(), minlength=len(self.enum))
        return {m.name.lower(): int(found[m]) for m in reversed(self.enum) if found[m]}


def codes(values: Array, enum: type[_Code]) -> Any:
    """``values`` as a member of ``enum`` where there is one instance, else as ``Codes``."""
    if values.ndim == 0:
        return enum(int(values))
    out = values.astype(np.int8).view(Codes)
    out.enum = enum
    return out


def gap_between(objective: Array, bound: Array) -> Array:
    """|objective - bound| / max(|objective|, |bound|, 1e-300); 0 if equal, NaN without a bound."""
    scale = np.maximum(np.maximum(np.abs(objective), np.abs(bound)), 1e-300)
    with np.errstate(invalid="ignore"):
        gap = np.abs(objective - bound) / scale
    return np.where(objective == bound, 0.0, gap)


def in_domain(objective: Array, sense: str) -> Array:
    """Whether a point is in the objective's domain: no NaN, and not infinitely bad.

    The good infinity is a value like any other: a coordinate may be worth inf.
    """
    outside = np.inf if sense == "min" else -np.inf
    return ~np.isnan(objective) & (np.asarray(objective) != outside)


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Long-form history: one row for each improvement or iteration and lane (instance)."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        lanes = len({row["lane"] for row in self.rows})
        return f"<Trace: {len(self.rows)} rows of {lanes} instances>"

    def column(self, name: str, lane: int = 0) -> Array:
        """One column of one instance, in order of time."""
        return np.array([row[name] for row in self.rows if row["lane"] == lane and name in row])

    def to_dataframe(self) -> Any:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """A point with objective, bound, gap, violation, status, all recomputed by the problem.

    Every array has the problem's batch shape; ``x`` and ``duals`` add their own axes.
    """

    problem: Problem
    solver: str
    x: dict[str, Array]
    objective: Any
    """in the problem's own sense and unit"""
    bound: Any
    """what no feasible point can beat; NaN where nothing is proven"""
    gap: Any
    """|objective - bound| / max(|objective|, |bound|, 1e-300)"""
    bound_method: str
    violation: Any
    """worst constraint violation, each divided by its right-hand side"""
    raw_violation: Any
    """the same for the point as a foreign solver returned it, before projection"""
    kkt: Any
    """scaled KKT residual; NaN where it was not needed or there are no derivatives"""
    status: Any
    stopped: Any
    iterations: Any
    seconds: float
    cpu_seconds: float
    message: str
    duals: Mapping[str, Any]
    trace: Trace

    def __getattr__(self, name: str) -> Any:
        # sol.power_w is sol.x["power_w"]: only asked when no field has that name.
        x = self.__dict__.get("x", {})  # empty while being unpickled
        if name in x:
            return x[name]
        raise AttributeError(f"Solution has no {name!r}; variables: {', '.join(x)}")

    def __getitem__(self, index: Any) -> Solution:
        """The solution of some instances of the batch (times and trace stay those of the run)."""
        pick = {"x": {n: v[index] for n, v in self.x.items()}}
        for name in ("objective", "bound", "gap", "violation", "raw_violation", "kkt"):
            pick[name] = getattr(self, name)[index]
        for name, enum in (("status", Status), ("stopped", Stopped)):
            pick[name] = codes(np.asarray(getattr(self, name))[index], enum)
        pick["iterations"] = self.iterations[index]
        pick["duals"] = {n: v[index] for n, v in self.duals.items()}
        rest = {n: v for n, v in self.__dict__.items() if n not in pick}
        return Solution(**rest | pick | {"problem": self.problem[index]})

    def __repr__(self) -> str:
        from rralloc.report import describe

        return describe(self)

    def plot(self, **options: Any) -> Any:
        """Allocation against channel state; returns the matplotlib figure."""
        from rralloc.plot import allocation

        return allocation(self, **options)


def point_like(x: Point | Solution, names: tuple[str, ...]) -> dict[str, Array]:
    """The named variables of a point or a ``Solution``, as arrays."""
    source: Any = x.x if isinstance(x, Solution) else x
    return {n: np.asarray(source[n]) for n in names if n in source}
