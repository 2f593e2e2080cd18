"""The instance library: small scenarios with the best point known and what proves it.

    for instance in load("library"):
        verdict = check(instance)

An instance is a JSON file: a scenario, why it is there, and a *claim* about it: a point, its
objective, a bound, how the two were found. Nothing of a claim is believed. :func:`judge` compares
every part of it with what the problem itself recomputes from the point and the witness, and
:func:`check` also solves the instance anew, by the default solver and by the one that proves. A
claim that no longer holds is a regression; a better point than the best known is news.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rralloc import io
from rralloc._claims import SAME, Claim, judge, point_of, proven_bound
from rralloc._reductions import REDUCTIONS
from rralloc.certify import bound_at, tighter
from rralloc.driver import solve
from rralloc.errors import RRAllocError, ScenarioError
from rralloc.io.values import check_fields, check_keys, decode, encode, naming, text
from rralloc.problem import Problem
from rralloc.solution import Solution, Status, gap_between
from rralloc.typing import Array

INSTANCE = "rralloc/instance/1"
REDUCTION = "reduction:"
"""A prover of this name is none of the solvers: it asks another problem."""
CONVEX_GAP = 1e-9
"""What counts as certified for a convex instance ..."""
OPEN_GAP = 1e-3
"""... and for one that is not convex."""
SMALL = 8
"""Instances that are not convex count towards the promised share up to this many devices."""
SHARES = {"convex": 0.95, "not convex, K <= 8": 0.90}
"""The certified shares that the library promises."""
WORSE = 1e-6
"""The default solver may end this much (relatively) behind what it reached when filed."""
SECONDS = 20.0
"""Wall seconds for each of the two solves of one check."""


@dataclass(frozen=True)
class Method:
    """A solver with the settings of its run, as ``rr.solve`` takes them."""

    solver: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = ", ".join(f"{n}={v}" for n, v in self.settings.items())
        return f"{self.solver} ({said})" if said else self.solver

    def solve(self, problem: Problem, time_limit: float | None, **more: Any) -> Solution:
        """Run it with seed 0; what foreign packages warn of is not our business here."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = self.solver or None
            settings = {"rng": 0, "time_limit": time_limit} | dict(self.settings) | more
            return solve(problem, name, **settings)


DEFAULT = Method("")


@dataclass(frozen=True, eq=False)
class Instance:
    """One file of the library."""

    name: str
    problem: Problem
    why: str
    convex: bool
    size: int
    """number of devices"""
    regime: str
    failure_mode: str
    claim: Claim | None
    """None where the claim is that no feasible point exists"""
    reason: str
    """why nothing is feasible; empty where something is"""
    found_by: str
    bound_method: str
    prove: Method | None
    """whose witness proves the bound; None: the point or the stored witness does"""
    default_solver: str
    default_objective: float
    checked_by: tuple[Mapping[str, Any], ...]
    made_by: str

    @property
    def infeasible(self) -> bool:
        """The claim is that no feasible point exists."""
        return self.claim is None

    @property
    def kind(self) -> str:
        """The share it counts towards; empty where none is promised."""
        if self.infeasible:
            return "infeasible"
        if self.convex:
            return "convex"
        return "not convex, K <= 8" if self.size <= SMALL else "not convex, larger"

    @property
    def goal(self) -> float:
        """The gap at which it counts as certified."""
        return CONVEX_GAP if self.convex else OPEN_GAP


@dataclass(frozen=True)
class Verdict:
    """What one check found; ``ok`` when nothing got worse."""

    name: str
    kind: str = ""
    regressions: tuple[str, ...] = ()
    news: tuple[str, ...] = ()
    gap: float = float("nan")
    certified: bool = False
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """No claim of the file has become false."""
        return not self.regressions


# -- files --------------------------------------------------------------------------------------


def files(folder: str | os.PathLike[str]) -> list[Path]:
    """The instance files of a folder, by name; a file stands for itself."""
    path = Path(folder)
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.json"))
    if not found:
        why = "has no *.json file" if path.is_dir() else "is not there"
        raise ScenarioError(f"{folder} {why}; name the folder of the instance library")
    return found


def load(folder: str | os.PathLike[str] = "library") -> list[Instance]:
    """Every instance of a folder, or the one of a file."""
    return [load_instance(path) for path in files(folder)]


_REQUIRED = ("scenario", "class", "why", "best", "made_by")
_CLASS = ("problem", "convex", "size", "regime", "failure_mode")
_BEST = (
    *("x", "objective", "bound", "gap", "status", "bound_method", "found_by", "default"),
    "checked_by",
)


def load_instance(path: str | os.PathLike[str]) -> Instance:
    """One instance; raises ``ScenarioError`` naming file and field. Nothing is solved."""
    document = io.read_json(path)
    with naming(str(path)):
        return from_dict(Path(path).stem, document)


def from_dict(name: str, document: Any) -> Instance:
    """The instance of a document; its scenario passes the problem's constructor and its digest."""
    check_keys(document, INSTANCE, required=_REQUIRED, allowed=())
    with naming("scenario"):
        problem = io.from_dict(document["scenario"])
    kind, best = document["class"], document["best"]
    check_fields("class", kind, _CLASS, _CLASS)
    if kind["problem"] != type(problem).__name__:
        raise ScenarioError(f"class.problem: {kind['problem']!r}, the scenario is another problem")
    common: dict[str, Any] = {
        "name": name,
        "problem": problem,
        "why": text("why", document["why"]),
        "made_by": text("made_by", document["made_by"]),
        **{n: kind[n] for n in _CLASS if n != "problem"},
    }
    if best.get("status") == "infeasible":
        check_fields("best", best, ("status", "reason"), ("status", "reason", "prove"))
        return Instance(
            **common
            | {
                "claim": None,
                "reason": text("reason", best["reason"]),
                "found_by": "",
                "bound_method": "",
                "prove": _method(best),
                "default_solver": "",
                "default_objective": float("nan"),
                "checked_by": (),
            }
        )
    check_fields("best", best, _BEST, (*_BEST, "witness", "prove"))
    return Instance(**common, **_read_best(problem, best), reason="")


def _read_best(problem: Problem, best: Mapping[str, Any]) -> dict[str, Any]:
    words = {s.name.lower(): s for s in Status}
    if best["status"] not in words:
        raise ScenarioError(f"best.status: {best['status']!r} is none of {', '.join(words)}")
    numbers = {
        n: float(decode(f"best.{n}", best[n], float, nan=True))
        for n in ("objective", "bound", "gap")
    }
    witness = {
        n: decode(f"best.witness.{n}", v, float, nan=True)
        for n, v in best.get("witness", {}).items()
    }
    point = io.read_point(problem, best["x"], "best.x", whole=True)
    default = best["default"]
    check_fields("best.default", default, ("solver", "objective"), ("solver", "objective"))
    return {
        "claim": Claim(point, **numbers, status=words[best["status"]], witness=witness),
        "found_by": text("found_by", best["found_by"]),
        "bound_method": text("bound_method", best["bound_method"]),
        "prove": _method(best),
        "default_solver": default["solver"],
        "default_objective": float(
            decode("default.objective", default["objective"], float, nan=True)
        ),
        "checked_by": tuple(best["checked_by"]),
    }


def _method(best: Mapping[str, Any]) -> Method | None:
    prove = best.get("prove")
    return None if prove is None else Method(prove["solver"], prove["settings"])


def to_dict(instance: Instance) -> dict[str, Any]:
    """The document of an instance: JSON values that read back bit for bit."""
    return {
        "schema": INSTANCE,
        "why": instance.why,
        "class": {
            "problem": type(instance.problem).__name__,
            **{n: getattr(instance, n) for n in _CLASS if n != "problem"},
        },
        "scenario": io.to_dict(instance.problem),
        "best": _best_to_dict(instance),
        "made_by": instance.made_by,
    }


def _best_to_dict(instance: Instance) -> dict[str, Any]:
    claim = instance.claim
    if claim is None:
        return {"status": "infeasible", "reason": instance.reason} | _prove_to_dict(instance)
    numbers = {n: encode(n, getattr(claim, n)) for n in ("objective", "bound", "gap")}
    found: dict[str, Any] = {
        "x": {n: encode(f"x.{n}", v) for n, v in claim.x.items()},
        **numbers,
        "status": Status(int(claim.status)).name.lower(),
        "bound_method": instance.bound_method,
        "found_by": instance.found_by,
        "default": {
            "solver": instance.default_solver,
            "objective": encode("default", instance.default_objective),
        },
        "checked_by": list(instance.checked_by),
    }
    if claim.witness:
        found["witness"] = {n: encode(f"witness.{n}", v) for n, v in claim.witness.items()}
    return found | _prove_to_dict(instance)


def _prove_to_dict(instance: Instance) -> dict[str, Any]:
    prove = instance.prove
    if prove is None:
        return {}
    return {"prove": {"solver": prove.solver, "settings": dict(prove.settings)}}


# -- checks -------------------------------------------------------------------------------------


def check(instance: Instance, time_limit: float = SECONDS) -> Verdict:
    """Judge the claim, solve anew by the default and by the proving solver, compare."""
    begun = time.perf_counter()
    if instance.claim is None:
        regressions = _check_infeasible(instance, time_limit)
        seconds = time.perf_counter() - begun
        return Verdict(
            instance.name, instance.kind, tuple(regressions), (), 0.0, not regressions, seconds
        )
    problem, claim = instance.problem, instance.claim
    # 1. What is proven: by the point, the stored witness, or whoever must run for it.
    bound, prover = proven(problem, claim, instance.prove, time_limit)
    rivals = [] if prover is None else [(str(instance.prove), prover)]
    # 2. The claim.
    said = judge(problem, claim, bound)
    gap = float(gap_between(np.asarray(verify_objective(problem, claim)), bound))
    said += _weaker(instance, gap)
    # 3. The default solver, anew.
    fresh = _try_default(instance, time_limit)
    if fresh is not None:
        rivals.append((f"the default ({fresh.solver})", fresh))
        said += _default_worse(instance, fresh)
    # 4. Whoever found more than the best known, or more than is possible.
    news, contradictions = _better(instance, rivals)
    certified = not said and not contradictions and gap <= instance.goal
    return Verdict(
        name=instance.name,
        kind=instance.kind,
        regressions=(*said, *contradictions),
        news=tuple(news),
        gap=gap,
        certified=bool(certified),
        seconds=time.perf_counter() - begun,
    )


def proven(
    problem: Problem, claim: Claim, prove: Method | None, time_limit: float | None
) -> tuple[Array, Solution | None]:
    """The bound that stands for a claim, and the run that was needed for it, if one was."""
    bound, x = proven_bound(problem, claim), point_of(problem, claim)
    if prove is None:
        return bound, None
    if prove.solver.startswith(REDUCTION):
        reduction = REDUCTIONS[prove.solver.removeprefix(REDUCTION)]
        return tighter(problem, bound, reduction(problem, x, time_limit)), None
    run = prove.solve(problem, time_limit)
    return tighter(problem, bound, bound_at(problem, x, run.duals)), run


def verify_objective(problem: Problem, claim: Claim) -> Any:
    """The objective of the claimed point, recomputed."""
    with np.errstate(all="ignore"):
        return problem.objective(point_of(problem, claim))


def _check_infeasible(instance: Instance, time_limit: float) -> list[str]:
    """No solver may find a point; the problem, or the solver that proves, must rule one out."""
    runs = [DEFAULT.solve(instance.problem, time_limit)]
    if instance.prove is not None:
        runs.append(instance.prove.solve(instance.problem, time_limit))
    found = [r.solver for r in runs if r.status >= Status.FEASIBLE]
    if found:
        return [f"infeasible is claimed; {', '.join(found)} has a feasible point"]
    if runs[-1].status != Status.INFEASIBLE:
        return [f"infeasible is claimed; it is no longer proven ({runs[-1].status.name.lower()})"]
    return []


def _weaker(instance: Instance, gap: float) -> list[str]:
    """The bound must still prove what it proved; NaN is no proof."""
    held = instance.claim
    assert held is not None
    before = float(held.gap)
    if np.isnan(before) or gap <= 1.1 * before + 0.1 * instance.goal:
        return []
    return [f"the gap is {gap:.3g}; it was {before:.3g}"]


def _try_default(instance: Instance, time_limit: float) -> Solution | None:
    """The default solver's answer; None where it breaks as it broke when the file was made."""
    try:
        return DEFAULT.solve(instance.problem, time_limit)
    except RRAllocError:
        if np.isnan(instance.default_objective):
            return None
        raise


def _default_worse(instance: Instance, fresh: Solution) -> list[str]:
    before = instance.default_objective
    if np.isnan(before):
        return []
    if fresh.status < Status.FEASIBLE:
        return [f"the default solver {fresh.solver} ends {fresh.status.name.lower()}"]
    sign = 1.0 if instance.problem.sense == "max" else -1.0
    now = float(fresh.objective)
    if sign * (before - now) > WORSE * max(abs(before), abs(now)):
        return [f"the default solver {fresh.solver} reaches {now:.12g}; it reached {before:.12g}"]
    return []


def _better(
    instance: Instance, rivals: Iterable[tuple[str, Solution]]
) -> tuple[list[str], list[str]]:
    """News (better than the best known) and contradictions (better than the stored bound)."""
    claim, news, wrong = instance.claim, [], []
    assert claim is not None
    sign = 1.0 if instance.problem.sense == "max" else -1.0
    for who, sol in rivals:
        if sol.status < Status.FEASIBLE:
            continue
        value, scale = float(sol.objective), max(abs(float(sol.objective)), abs(claim.objective))
        if sign * (value - claim.bound) > SAME * scale:
            wrong.append(f"{who} reaches {value:.12g}, beyond the stored bound {claim.bound:.12g}")
        elif sign * (value - claim.objective) > SAME * scale:
            news.append(f"{who} reaches {value:.12g}; the best known is {claim.objective:.12g}")
    return news, wrong


def check_file(path: str | os.PathLike[str], time_limit: float = SECONDS) -> Verdict:
    """``check`` of one file; whatever goes wrong is a row, not an exception."""
    begun = time.perf_counter()
    try:
        return check(load_instance(path), time_limit)
    except (RRAllocError, OSError) as error:
        words = " ".join(str(error).split())
    except Exception as error:  # a solver or a problem that breaks is what this is here to find
        words = f"{type(error).__name__}: {error}"
    return Verdict(Path(path).stem, "unreadable", (words,), seconds=time.perf_counter() - begun)


def check_all(
    paths: Sequence[str | os.PathLike[str]],
    *,
    time_limit: float = SECONDS,
    executor: Executor | None = None,
) -> list[Verdict]:
    """A verdict for each file, in order; ``executor`` spreads the files over processes."""
    limits = [time_limit] * len(paths)
    return list((map if executor is None else executor.map)(check_file, paths, limits))


def shares(verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """Kind -> (certified, all), in the order of first appearance of the promised ones."""
    held = list(verdicts)
    kinds = dict.fromkeys((*SHARES, *(v.kind for v in held)))
    counted = {k: [v.certified for v in held if v.kind == k] for k in kinds}
    return {k: (sum(c), len(c)) for k, c in counted.items() if c}


def shortfalls(verdicts: Iterable[Verdict]) -> list[str]:
    """The promised shares that are not met."""
    found = shares(verdicts)
    return [
        f"{kind}: {found[kind][0]} of {found[kind][1]} certified, {least:.0%} promised"
        for kind, least in SHARES.items()
        if kind in found and found[kind][0] < least * found[kind][1]
    ]


__all__ = [
    "DEFAULT",
    "INSTANCE",
    "SHARES",
    "Claim",
    "Instance",
    "Method",
    "Verdict",
    "check",
    "check_all",
    "check_file",
    "files",
    "from_dict",
    "judge",
    "load",
    "load_instance",
    "proven",
    "proven_bound",
    "shares",
    "shortfalls",
    "to_dict",
]
