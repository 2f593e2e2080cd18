"""Write the instance library: solve every instance by every fitting solver, keep the best.

    OPENBLAS_NUM_THREADS=1 python benchmarks/library.py --output library [--only NAME ...]

The instances are stated in ``library_instances.py``. Each is solved by every solver that applies
(baselines and online rules aside) with seed 0; the best feasible point is kept, with the tightest
bound that its problem can compute from the point, from a witness that fits in the file, or, where
the witness is a tree, from a run of the solver that is named then. The other solvers' objectives
stand beside it. A point that is better than the one on disk replaces it; a worse one is an error.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from library_instances import Draft, drafts

import rralloc as rr
from rralloc import io, library
from rralloc._claims import FEAS_TOL
from rralloc.library import DEFAULT, Claim, Instance, Method
from rralloc.solution import gap_between, in_domain

COMMAND = "python benchmarks/library.py --output library --only {}"
SECONDS = 10.0
ONLINE = ("drift-plus-penalty", "fixed-keep", "fixed-power", "max-power", "dense")
TIE = 1e-12
"""Objectives this close (relatively) are a tie."""
LARGE = 400
"""A witness with more numbers stays out of the file."""

Found = list[tuple[Method, rr.Solution]]


def main() -> None:
    """Make the files that are asked for; print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("library"))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    arguments = parser.parse_args()
    stated = {d.name: d for d in drafts()}
    for name in arguments.only or stated:
        begun = time.perf_counter()
        made = make(stated[name])
        _refuse_worse(made, arguments.output / f"{name}.json")
        io.write_text(arguments.output / f"{name}.json", io.dumps(library.to_dict(made)))
        print(f"{name:44s} {row(made)}  {time.perf_counter() - begun:.1f} s", flush=True)


def _refuse_worse(made: Instance, path: Path) -> None:
    """What is on disk about the same scenario must not be better than what was just found."""
    old = library.load_instance(path) if path.exists() else None
    if old is None or old.problem != made.problem or old.claim is None or made.claim is None:
        return
    sign = 1.0 if made.problem.sense == "max" else -1.0
    loss = sign * (old.claim.objective - made.claim.objective)
    if loss > 1e-9 * abs(old.claim.objective):
        raise RuntimeError(f"{path}: holds {old.claim.objective}, found {made.claim.objective}")


def row(made: Instance) -> str:
    """What was found, in a line."""
    if made.claim is None:
        return f"infeasible: {made.reason}"
    claim = made.claim
    proof = made.prove or ("witness" if claim.witness else "point")
    sure = "" if claim.gap <= made.goal else "OPEN "
    return f"{sure}{claim.objective:.12g} gap {claim.gap:.1e} by {made.found_by}; proof {proof}"


def make(draft: Draft) -> Instance:
    """Solve a draft by every fitting solver and keep the best."""
    problem = draft.problem
    size = draft.size or problem.sizes.get("K") or problem.sizes["N"]
    common: dict[str, Any] = {
        "name": draft.name,
        "problem": problem,
        "why": draft.why,
        "convex": draft.convex,
        "size": size,
        "regime": draft.regime,
        "failure_mode": draft.failure_mode,
        "made_by": COMMAND.format(draft.name),
    }
    if draft.infeasible:
        return _infeasible(draft, common)
    default = _default(draft)
    found = _solved(draft)
    method, best = _best(problem, found)
    bound, prove, witness = _proof(draft, best, found)
    claim = Claim(
        x=best.x,
        objective=float(best.objective),
        bound=bound,
        gap=float(gap_between(np.asarray(best.objective), np.asarray(bound))),
        status=best.status,
        witness=witness,
    )
    claim = _with_status(problem, claim, bound)
    feasible = default is not None and default.status >= rr.Status.FEASIBLE
    return Instance(
        **common,
        claim=claim,
        reason="",
        found_by=str(method),
        bound_method=problem.bound_method,
        prove=prove,
        default_solver="" if default is None else default.solver,
        default_objective=float(default.objective) if default and feasible else float("nan"),
        checked_by=tuple(_rows(found, method, best)),
    )


def _default(draft: Draft) -> rr.Solution | None:
    """The default solver's answer; None where it breaks, which the file then says."""
    try:
        return DEFAULT.solve(draft.problem, SECONDS)
    except rr.errors.RRAllocError as error:
        print(f"  {draft.name}: the default solver breaks: {error}")
        return None


def _infeasible(draft: Draft, common: dict[str, Any]) -> Instance:
    """An instance whose claim is that nothing is feasible, with who proves it."""
    problem = draft.problem
    shown = bool(np.all(problem.infeasible()))
    prove = None if shown else draft.methods[0]
    if prove is not None and prove.solve(problem, SECONDS).status != rr.Status.INFEASIBLE:
        raise RuntimeError(f"{draft.name}: {prove} does not prove that nothing is feasible")
    return Instance(
        **common,
        claim=None,
        reason=problem.why_infeasible() if shown else draft.why,
        found_by="" if shown else str(prove),
        bound_method=problem.bound_method,
        prove=prove,
        default_solver="",
        default_objective=float("nan"),
        checked_by=(),
    )


def _solved(draft: Draft) -> Found:
    """Every solver that applies, in order of rank, then what the draft adds."""
    names = [n for n in rr.solvers_for(draft.problem) if n not in ONLINE]
    own = {m.solver for m in draft.methods}  # with settings of their own
    methods = [Method(n) for n in names if not n.startswith("baseline") and n not in own]
    out: Found = []
    added = [m for m in draft.methods if not m.solver.startswith(library.REDUCTION)]
    for method in (*methods, *added):
        try:
            out.append((method, method.solve(draft.problem, SECONDS)))
        except rr.errors.RRAllocError as error:
            print(f"  {draft.name}: {method}: {error}")
    return out


def _best(problem: rr.Problem, found: Found) -> tuple[Method, rr.Solution]:
    """The best feasible point; of those that tie, the one whose own proof is tightest."""
    sign = 1.0 if problem.sense == "max" else -1.0
    sound = [
        (m, s)
        for m, s in found
        if s.violation <= FEAS_TOL and in_domain(np.asarray(s.objective), problem.sense)
    ]
    if not sound:
        raise RuntimeError("no solver has a feasible point")
    most = max(sign * float(s.objective) for _, s in sound)
    ties = [r for r in sound if sign * float(r[1].objective) >= most - TIE * abs(most)] or sound
    least = min(_gap(s, float(s.bound)) for _, s in ties)
    return next(r for r in ties if _gap(r[1], float(r[1].bound)) <= 3 * least + 1e-14)


def _proof(
    draft: Draft, best: rr.Solution, found: Found
) -> tuple[float, Method | None, dict[str, Any]]:
    """The bound, who must run again for it (None: nobody), the witness to store.

    Simplest first: the point alone, a witness of numbers, a solver's run, a reduction. A later
    kind must close the gap by a tenth of what certifies.
    """
    problem = draft.problem
    slack = 0.1 * (library.CONVEX_GAP if draft.convex else library.OPEN_GAP)
    point = (float(problem.bound(best.x)), None, {})
    numbers = [
        (float(problem.bound(best.x, dict(s.duals))), None, dict(s.duals))
        for _, s in found
        if s.duals and _fits(s)
    ]
    runs = [
        (float(problem.bound(best.x, dict(s.duals))), m, {})
        for m, s in found
        if s.duals
        and not _fits(s)
        and s.stopped != rr.Stopped.TIME  # another machine, another bound
    ]
    claim = Claim(best.x, best.objective, np.nan, np.nan, best.status)
    reductions = [
        (float(library.proven(problem, claim, m, SECONDS)[0]), m, {})
        for m in draft.methods
        if m.solver.startswith(library.REDUCTION)
    ]
    kept: tuple[float, Method | None, dict[str, Any]] = point
    for kind in (numbers, runs, reductions):
        rival = min(kind, key=lambda r: _gap(best, r[0]), default=kept)
        if _gap(best, rival[0]) < _gap(best, kept[0]) - slack:
            kept = rival
    return kept


def _gap(best: rr.Solution, bound: float) -> float:
    gap = float(gap_between(np.asarray(best.objective), np.asarray(bound)))
    return np.inf if np.isnan(gap) else gap


def _fits(sol: rr.Solution) -> bool:
    arrays = [np.asarray(v) for v in sol.duals.values()]
    return all(a.dtype.kind == "f" for a in arrays) and sum(a.size for a in arrays) <= LARGE


def _with_status(problem: rr.Problem, claim: Claim, bound: float) -> Claim:
    """The highest status that stands before the judge."""
    import dataclasses

    for status in (rr.Status.GLOBAL, rr.Status.LOCAL, rr.Status.FEASIBLE):
        said = dataclasses.replace(claim, status=status)
        wrong = library.judge(problem, said, bound)
        if not wrong:
            return said
    raise RuntimeError(f"the claim does not stand: {wrong}")


def _rows(found: Found, method: Method, best: rr.Solution) -> list[dict[str, Any]]:
    """The second methods, best first: solver, objective, relative distance to the best."""
    others = [(str(m), s) for m, s in found if m != method and s.violation <= FEAS_TOL]
    rows = [
        {
            "solver": n,
            "objective": io.values.encode(n, s.objective),
            "behind": _gap(best, s.objective),
        }
        for n, s in others
        if np.isfinite(s.objective) or s.objective == best.objective
    ]
    rows = [r | {"behind": float(f"{r['behind']:.1e}")} for r in rows]
    return sorted(rows, key=lambda r: r["behind"])


if __name__ == "__main__":
    main()
