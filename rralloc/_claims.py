"""Claims about a point, compared with what the problem recomputes; nothing said is believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rralloc.certify import bound_at, tighter
from rralloc.errors import NotOffered, RRAllocError
from rralloc.problem import Problem
from rralloc.solution import Solution, Status, gap_between, in_domain
from rralloc.typing import Array
from rralloc.verify import KKT_TOL, verify

SAME = 1e-9
"""Two numbers within this relative distance are the same claim."""
FEAS_TOL = 1e-9
GAP_TOL = 1e-4
"""A status GLOBAL claims a gap of at most this, as it does in ``rr.solve``."""
NUMBERS = ("objective", "bound", "gap", "violation", "kkt")


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
    kkt: Any = None
    """None: nothing is said"""

    @classmethod
    def of(cls, sol: Solution) -> Claim:
        """The claims of a solution."""
        return cls(
            *(sol.x, sol.objective, sol.bound, sol.gap, sol.status, sol.violation),
            witness=sol.duals,
            kkt=sol.kkt,
        )


def judge(problem: Problem, claim: Claim | Solution, proven: Any = None) -> list[str]:
    """What is false about a claim, one sentence each; empty when it stands.

    Objective, violation, gap, status and KKT residual are recomputed by the problem from the point,
    the bound from the point and the witness. ``proven`` is a bound that the caller has had
    recomputed where the witness is too large to travel; without it a stronger claim than that of
    the witness falls. A claim may say less than is true (a weaker bound, a humbler status), never
    more.

    Not judged, for nothing is there to recompute them from: ``raw_violation``, times, iterations
    (beyond their sign), ``stopped``, messages, the trace, and the name of the solver.
    """
    words: list[str] = []
    try:
        if isinstance(claim, Solution):
            words, claim = _judge_words(problem, claim), Claim.of(claim)
        claim = _read(problem, claim)
        return words + _judge_lanes(problem, claim, None if proven is None else np.asarray(proven))
    except _NoClaim as error:
        return [*words, str(error)]


class _NoClaim(ValueError):
    """What is said cannot be read as a claim about the problem."""


def _judge_words(problem: Problem, sol: Solution) -> list[str]:
    """What a solution says beside its claims, as far as it can be wrong by itself."""
    wrong = []
    for name in ("iterations", "seconds", "cpu_seconds", "raw_violation"):
        value = _array(name, getattr(sol, name))
        if (value < 0).any() or (name != "raw_violation" and np.isnan(value).any()):
            wrong.append(f"{name} {_one(value)} is claimed; it cannot be below 0")
    if sol.bound_method not in ("", problem.bound_method):
        wrong.append(f"the bound is from {problem.bound_method!r}, not {sol.bound_method!r}")
    return wrong


def _judge_lanes(problem: Problem, claim: Claim, proven: Array | None) -> list[str]:
    """Instances with a point and instances without one, each by their own rules."""
    held = claim.status >= Status.VIOLATED
    if held.all():
        return _judge_held(problem, claim, proven)
    if not held.any():
        return _judge_absent(problem, claim, proven)
    wrong, bounds = [], None if proven is None else np.broadcast_to(proven, held.shape)
    for chosen, rule in ((held, _judge_held), (~held, _judge_absent)):
        part = _part(claim, chosen, problem)
        wrong += rule(problem[chosen], part, None if bounds is None else bounds[chosen])
    return wrong


def _part(claim: Claim, chosen: Array, problem: Problem) -> Claim:
    """The claim about some instances of a batch."""

    def pick(value: Array) -> Array:
        by_instance = value.shape[: chosen.ndim] == chosen.shape
        return value[chosen] if by_instance else value

    x = {n: np.broadcast_to(v, _shape(problem, n))[chosen] for n, v in claim.x.items()}
    numbers = {n: getattr(claim, n)[chosen] for n in (*NUMBERS, "status")}
    return Claim(x, **numbers, witness={n: pick(v) for n, v in claim.witness.items()})


def _judge_held(problem: Problem, claim: Claim, proven: Array | None) -> list[str]:
    """A claim about a point."""
    status = claim.status
    if np.isnan(claim.violation).any():
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
    if (worst > claim.violation + FEAS_TOL).any():
        wrong.append(f"violation {_one(claim.violation)} is claimed, it is {_one(worst)}")
    if not _same(claim.objective, value).all():
        wrong.append(f"objective {_one(claim.objective)} is claimed, the point has {_one(value)}")
    kkt = np.asarray(report.kkt)
    humble = np.isnan(claim.kkt) | (claim.kkt >= kkt * (1 - 1e-6) - SAME)
    if not humble.all():
        wrong.append(f"KKT residual {_one(claim.kkt)} is claimed, it is {_one(kkt)}")
    return wrong + _judge_proof(problem, claim, (value, feasible, kkt), proven)


def _judge_proof(
    problem: Problem, claim: Claim, found: tuple[Array, Array, Array], proven: Array | None
) -> list[str]:
    """What is false about bound, gap and status."""
    wrong, (value, feasible, kkt) = [], found
    sign = 1.0 if problem.sense == "max" else -1.0
    bound = _tried_bound(problem, claim) if proven is None else proven
    status, said, objective = claim.status, claim.bound, claim.objective
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
    with np.errstate(invalid="ignore"):
        off = ~(_same(claim.gap, gap) | (np.abs(claim.gap - gap) <= SAME))
    if off.any():
        wrong.append(f"gap {_one(claim.gap)} is claimed, objective and bound give {_one(gap)}")
    with np.errstate(invalid="ignore"):
        sure = feasible & (gap_between(value, bound) <= GAP_TOL)
    if ((status == Status.GLOBAL) & ~sure).any():
        wrong.append(f"global is claimed, the proven gap is {_one(gap_between(value, bound))}")
    local = (status == Status.LOCAL) & feasible & ~sure
    if not (kkt[local] <= KKT_TOL).all():
        wrong.append(f"local is claimed, the KKT residual is above {KKT_TOL:g} or unknown")
    return wrong


def _judge_absent(problem: Problem, claim: Claim, proven: Array | None) -> list[str]:
    """A claim without a point: what is said must be proven, or nothing be said (NaN).

    A point that an infeasible instance still holds may be named with its objective.
    """
    sign, wrong = 1.0 if problem.sense == "max" else -1.0, []
    barred, said = claim.status == Status.INFEASIBLE, claim.bound
    bound = np.full(said.shape, np.nan)
    if proven is not None:
        bound = proven
    elif barred.any() or not np.isnan(said).all():
        bound = _tried_bound(problem, claim, whole=False)
    # 1. A bound that excludes everything proves that nothing exists.
    nothing = np.broadcast_to(problem.infeasible(), problem.batch_shape)
    nothing = nothing | (bound == -sign * np.inf)
    if (barred & ~nothing).any():
        wrong.append("infeasible is claimed; the problem itself has no proof of that")
    # 2. Bound and gap; an infeasible instance may have any bound.
    with np.errstate(invalid="ignore"):
        weaker = (said == bound) | (sign * (bound - said) <= SAME * np.abs(said))
    if not (np.isnan(said) | weaker | nothing).all():
        wrong.append(f"bound {_one(said)} is claimed where there is no point; not proven")
    if not (np.isnan(claim.gap) | _same(claim.gap, gap_between(claim.objective, said))).all():
        wrong.append(f"gap {_one(claim.gap)} is claimed where there is no point")
    # 3. An objective without a point is nobody's.
    value = np.full(said.shape, np.nan)
    if barred.any() and not _lacking(problem, claim):
        with np.errstate(all="ignore"):
            value = np.where(barred, problem.objective(point_of(problem, claim)), np.nan)
    if not (np.isnan(claim.objective) | _same(claim.objective, value)).all():
        wrong.append(f"objective {_one(claim.objective)} is claimed where there is no point")
    return wrong


def _tried_bound(problem: Problem, claim: Claim, whole: bool = True) -> Array:
    """``proven_bound``, or the sentence why there is none."""
    if not whole and _lacking(problem, claim):
        claim = dataclasses.replace(claim, x={})
    try:
        with np.errstate(all="ignore"):
            return np.broadcast_to(proven_bound(problem, claim), problem.batch_shape)
    except (RRAllocError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        shapes = ", ".join(f"{n} {v.shape}" for n, v in claim.witness.items())
        raise _NoClaim(f"the witness is none of this problem ({shapes}): {e}") from None


def proven_bound(problem: Problem, claim: Claim) -> Array:
    """The better of what the point alone and what the witness prove."""
    x = point_of(problem, claim) if claim.x else None
    alone = problem.bound(x)
    more = bound_at(problem, x, claim.witness) if claim.witness else alone
    return tighter(problem, alone, more)


def point_of(problem: Problem, claim: Claim) -> dict[str, Array]:
    """The claimed point in full shape, derived variables recomputed."""
    own = [v.name for v in problem.variables if v.name in claim.x]
    return problem.complete({n: np.broadcast_to(claim.x[n], _shape(problem, n)) for n in own})


def _shape(problem: Problem, name: str) -> tuple[int, ...]:
    return problem.shape_of(next(v for v in problem.variables if v.name == name))


def _lacking(problem: Problem, claim: Claim) -> bool:
    return any(not v.derived and v.name not in claim.x for v in problem.variables)


def _not_numbers(problem: Problem, claim: Claim) -> list[str]:
    chosen = [v.name for v in problem.variables if not v.derived and v.name in claim.x]
    return [f"the point's {n} holds NaN" for n in chosen if np.isnan(claim.x[n]).any()]


# -- reading ------------------------------------------------------------------------------------


def _read(problem: Problem, claim: Claim) -> Claim:
    """The claim as arrays of the right shapes; raises ``_NoClaim`` with the sentence why not."""
    batch = problem.batch_shape
    numbers = {n: _batch(n, getattr(claim, n), batch) for n in ("status", *NUMBERS) if n != "kkt"}
    unsaid = np.full(batch, np.nan)
    numbers["kkt"] = unsaid if claim.kkt is None else _batch("kkt", claim.kkt, batch)
    odd = ~np.isin(numbers["status"], [int(s) for s in Status])
    if odd.any():
        raise _NoClaim(f"status {_one(numbers['status'])} is none of rr.Status")
    if not isinstance(claim.x, Mapping):
        raise _NoClaim(f"the point is {type(claim.x).__name__}, not variables by name")
    if not isinstance(claim.witness, Mapping | None):
        raise _NoClaim(f"the witness is {type(claim.witness).__name__}, not arrays by name")
    kinds = {v.name: np.dtype(v.dtype).kind for v in problem.variables}
    x = {n: _array(f"the point's {n}", claim.x[n], k) for n, k in kinds.items() if n in claim.x}
    for name, value in x.items():
        try:
            np.broadcast_to(value, _shape(problem, name))
        except ValueError:
            want = _shape(problem, name)
            words = (
                f"the point is none of this problem: {name} has shape {value.shape}; need {want}"
            )
            raise _NoClaim(words) from None
    witness = {n: _as_array(f"the witness's {n}", v) for n, v in (claim.witness or {}).items()}
    return Claim(x, **numbers, witness=witness)


def _batch(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    array = _array(name, value)
    if array.shape != shape:
        raise _NoClaim(f"{name} has shape {array.shape}; the problem has the batch {shape}")
    return array.astype(float)


def _array(name: str, value: Any, kind: str = "f") -> Array:
    """Numbers, real unless ``kind`` is c."""
    array = _as_array(name, value)
    if array.dtype.kind not in ("biufc" if kind == "c" else "biuf"):
        what = "complex" if array.dtype.kind == "c" else "not a number"
        raise _NoClaim(f"{name} is {what}: {str(value)[:40]}")
    return array


def _as_array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        raise _NoClaim(f"{name} is no array: {str(value)[:40]}") from None


def _same(a: Array, b: Array) -> Array:
    """Equal, both NaN, or within ``SAME`` of the larger."""
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= SAME * np.maximum(np.abs(a), np.abs(b))
    near &= np.isfinite(a) & np.isfinite(b)
    return (a == b) | near | (np.isnan(a) & np.isnan(b))


def _one(values: Array) -> str:
    array = np.asarray(values)
    return np.array2string(array, precision=12, threshold=3) if array.ndim else f"{array:.12g}"
