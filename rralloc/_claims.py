"""Claims about a point, compared with what the problem recomputes; nothing said is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.problem import Problem
from rralloc.solution import Solution, Status, gap_between, in_domain
from rralloc.typing import Array
from rralloc.verify import KKT_TOL, verify

SAME = 1e-9
"""Two numbers within this relative distance are the same claim."""
FEAS_TOL = 1e-9
GAP_TOL = 1e-4
"""A status GLOBAL claims a gap of at most this, as it does in ``rr.solve``."""


@dataclass(frozen=True, eq=False)
class Claim:
    """What somebody says about a problem: a point, its numbers, what is proven about it."""

    x: Mapping[str, Any]
    objective: Any
    bound: Any
    gap: Any
    status: Any
    violation: Any = 0.0
    witness: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, sol: Solution) -> Claim:
        """The claims of a solution."""
        return cls(
            *(sol.x, sol.objective, sol.bound, sol.gap, sol.status, sol.violation),
            witness=dict(sol.duals),
        )


def judge(problem: Problem, claim: Claim | Solution, proven: Any = None) -> list[str]:
    """What is false about a claim, one sentence each; empty when it stands.

    Objective, violation, gap and status are recomputed by the problem from the point, the bound
    from the point and the witness. ``proven`` is a bound that the caller has had recomputed where
    the witness is too large to travel; without it a stronger claim than that of the witness falls.
    A claim may say less than is true (a weaker bound, a humbler status), never more. Times,
    iterations, messages and the name of the solver are not judged.
    """
    claim = Claim.of(claim) if isinstance(claim, Solution) else claim
    shape = problem.batch_shape
    try:
        status = _batch("status", claim.status, shape)
        told = {n: _batch(n, getattr(claim, n), shape) for n in ("objective", "violation", "gap")}
        told["bound"] = _batch("bound", claim.bound, shape)
    except ValueError as error:
        return [str(error)]
    odd = ~np.isin(status, [int(s) for s in Status])
    if odd.any():
        return [f"status {_one(status)} is none of rr.Status"]
    held = status >= Status.VIOLATED
    if not held.all():
        return _judge_absent(problem, status, held, told)
    if np.isnan(told["violation"]).any():
        return ["violation NaN is claimed of a point"]
    absent = _not_numbers(problem, claim)
    if absent:  # nothing more can be said
        return absent
    try:
        report = verify(problem, dict(claim.x))
    except NotOffered as error:
        return [f"the point is none of this problem: {error}"]
    wrong = [f"the point's {n} is not what follows from it" for n in report.false_claims]
    worst, value = np.asarray(report.violation), np.asarray(report.objective)
    feasible = (worst <= FEAS_TOL) & in_domain(value, problem.sense)
    if (~feasible & (status >= Status.FEASIBLE)).any():
        bad = max(report.checks, key=lambda c: c.violation, default=None)
        where = f"; worst: {bad.name} at {list(bad.index)}" if bad is not None else ""
        wrong.append(f"feasible is claimed, the violation is {worst.max():.3g}{where}")
    if (worst > told["violation"] + FEAS_TOL).any():
        wrong.append(f"violation {_one(told['violation'])} is claimed, it is {_one(worst)}")
    if not _same(told["objective"], value).all():
        wrong.append(f"objective {_one(told['objective'])} is claimed, the point has {_one(value)}")
    kkt = report.kkt
    return wrong + _judge_proof(problem, claim, told, status, (value, feasible, kkt), proven)


def _judge_proof(
    problem: Problem,
    claim: Claim,
    told: Mapping[str, Array],
    status: Array,
    found: tuple[Array, Array, Any],
    proven: Any,
) -> list[str]:
    """What is false about bound, gap and status."""
    wrong, (value, feasible, kkt) = [], found
    sign = 1.0 if problem.sense == "max" else -1.0
    bound = proven_bound(problem, claim) if proven is None else np.asarray(proven)
    said, objective = told["bound"], told["objective"]
    scale = np.maximum(np.maximum(np.abs(said), np.abs(value)), 1e-300)
    with np.errstate(invalid="ignore"):
        crossed = sign * (value - said) > SAME * scale
        excess = sign * (bound - said)  # positive where less is proven than is claimed
    stronger = ~np.isnan(said) & (np.isnan(bound) | (excess > SAME * scale))
    if (feasible & crossed).any():
        wrong.append(f"the point ({_one(value)}) is better than the claimed bound ({_one(said)})")
    if stronger.any():
        wrong.append(f"bound {_one(said)} is claimed, {_one(bound)} is what can be proven")
    gap = gap_between(objective, said)
    off = ~(_same(told["gap"], gap) | (np.abs(told["gap"] - gap) <= SAME))
    if off.any():
        wrong.append(f"gap {_one(told['gap'])} is claimed, objective and bound give {_one(gap)}")
    with np.errstate(invalid="ignore"):
        sure = feasible & (gap_between(value, bound) <= GAP_TOL)
    if ((status == Status.GLOBAL) & ~sure).any():
        wrong.append(f"global is claimed, the proven gap is {_one(gap_between(value, bound))}")
    local = (status == Status.LOCAL) & feasible & ~sure
    if not (np.asarray(kkt)[local] <= KKT_TOL).all():
        wrong.append(f"local is claimed, the KKT residual is above {KKT_TOL:g} or unknown")
    return wrong


def _judge_absent(
    problem: Problem, status: Array, held: Array, told: Mapping[str, Array]
) -> list[str]:
    """A claim without a point (somewhere): infeasible must be proven, NONE claims nothing."""
    for name in ("objective", "bound", "gap"):
        if (~np.isnan(told[name]) & ~held).any():
            return [f"{name} {_one(told[name])} is claimed where there is no point"]
    proven = np.broadcast_to(problem.infeasible(), problem.batch_shape)
    if ((status == Status.INFEASIBLE) & ~proven).any():
        return ["infeasible is claimed; the problem itself has no proof of that"]
    return [] if not held.any() else ["some instances have no point; judge the others by index"]


def proven_bound(problem: Problem, claim: Claim) -> Array:
    """The better of what the point alone and what the witness prove."""
    x = point_of(problem, claim)
    alone, more = problem.bound(x), problem.bound(x, dict(claim.witness) or None)
    return np.fmax(alone, more) if problem.sense == "min" else np.fmin(alone, more)


def point_of(problem: Problem, claim: Claim) -> dict[str, Array]:
    """The claimed point in full shape, derived variables recomputed."""
    own = {v.name: v for v in problem.variables if v.name in claim.x}
    shaped = {n: np.broadcast_to(claim.x[n], problem.shape_of(v)) for n, v in own.items()}
    return problem.complete(shaped)


def _not_numbers(problem: Problem, claim: Claim) -> list[str]:
    chosen = [v.name for v in problem.variables if not v.derived and v.name in claim.x]
    return [f"the point's {n} holds NaN" for n in chosen if np.isnan(claim.x[n]).any()]


def _batch(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value, dtype=float)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; the problem has the batch {shape}")
    return array


def _same(a: Array, b: Array) -> Array:
    """Equal, both NaN, or within ``SAME`` of the larger."""
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= SAME * np.maximum(np.abs(a), np.abs(b))
    near &= np.isfinite(a) & np.isfinite(b)
    return (a == b) | near | (np.isnan(a) & np.isnan(b))


def _one(values: Array) -> str:
    array = np.asarray(values)
    return np.array2string(array, precision=12, threshold=3) if array.ndim else f"{array:.12g}"
