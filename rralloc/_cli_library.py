"""The commands ``rralloc library`` and ``rralloc certify``."""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rralloc as rr
from rralloc import io, library
from rralloc._cli_text import columns
from rralloc.library import Instance, Verdict
from rralloc.pool import pool_of

FOLDER = Path("library")
Add = Callable[..., Any]


def _library(arguments: argparse.Namespace) -> None:
    if arguments.name is not None:
        path = Path(arguments.name)
        path = path if path.suffix else arguments.folder / f"{path}.json"
        print(in_words(library.load_instance(path)))
        return
    rows = [_row(i) for i in library.load(arguments.folder)]
    heads = ("instance", "problem", "convex", "K", "regime", "best known", "gap", "found by")
    columns([heads, *rows])


def _row(instance: Instance) -> tuple[str, ...]:
    claim = instance.claim
    best = "infeasible" if claim is None else f"{claim.objective:.10g}"
    return (
        instance.name,
        type(instance.problem).__name__,
        "yes" if instance.convex else "no",
        str(instance.size),
        instance.regime,
        best,
        "" if claim is None else f"{claim.gap:.1e}",
        instance.found_by,
    )


def in_words(instance: Instance) -> str:
    """One instance for a person: what it is, why it is there, what is known and who said so."""
    problem, claim = instance.problem, instance.claim
    shape = "convex" if instance.convex else "not convex"
    lines = [
        f"{instance.name}: {problem!r}, {shape}, {problem.sense} [{problem.unit}]",
        *textwrap.wrap(instance.why, 96),
        f"regime: {instance.regime}; what goes wrong here: {instance.failure_mode}",
    ]
    if claim is None:
        lines += textwrap.wrap(f"infeasible: {instance.reason}", 96)
    else:
        proof = instance.prove or ("a stored witness" if claim.witness else "the point itself")
        lines += [
            f"best known {claim.objective:.12g}, found by {instance.found_by}",
            f"bound {claim.bound:.12g}, gap {claim.gap:.1e}, from {proof}: {instance.bound_method}",
            f"default solver: {instance.default_solver or 'breaks'}, "
            f"{instance.default_objective:.12g}",
        ]
        lines += ["checked by:"] if instance.checked_by else ["checked by: no other solver"]
        lines += [
            f"  {c['solver']:24s} {c['objective']!s:22s} behind by {c['behind']:.1e}"
            for c in instance.checked_by
        ]
    return "\n".join((*lines, f"made by: {instance.made_by}"))


def _certify(arguments: argparse.Namespace) -> int:
    paths = [p for named in arguments.paths or [FOLDER] for p in library.files(named)]
    schemas = {p: _schema_of(p) for p in paths}
    for path in (p for p, s in schemas.items() if s == io.SCENARIO):
        raise rr.errors.ScenarioError(f"{path} is a scenario; solve it first: nothing is claimed")
    results = [p for p, s in schemas.items() if s == io.RESULT]
    wrong = sum(_certify_result(p, arguments.time_limit) for p in results)
    held = [p for p in paths if p not in results]
    return int(bool(wrong) | bool(held and _certify_library(held, arguments)))


def _schema_of(path: Path) -> Any:
    try:
        document = io.read_json(path)
    except rr.errors.ScenarioError:  # the check will say what is wrong with it
        return None
    return document.get("schema") if isinstance(document, dict) else None


def _certify_result(path: Path, time_limit: float) -> int:
    """Search for the best bound, then judge what the result says by it; 1 if something is false."""
    told = io.load_result(path)
    sure = rr.certify(told.problem, told, time_limit=time_limit)
    wrong = library.judge(told.problem, told, sure.bound)
    print(f"{path}\n{sure!r}")
    print("\n".join(f"FALSE {w}" for w in wrong) or "every claim of the file stands")
    return int(bool(wrong))


def _certify_library(paths: list[Path], arguments: argparse.Namespace) -> int:
    """Check the instances, print a row for each and the shares; 1 on a regression or shortfall."""
    begun = time.perf_counter()
    jobs = min(arguments.jobs or os.cpu_count() or 1, len(paths))
    limit = arguments.time_limit
    with pool_of(jobs) as executor:
        verdicts = library.check_all(paths, time_limit=limit, executor=executor)
    for verdict in verdicts:
        if arguments.all or not verdict.certified or verdict.news or not verdict.ok:
            print(_said(verdict))
    print(f"{len(verdicts)} instances in {time.perf_counter() - begun:.0f} s, {jobs} processes")
    for kind, (sure, of) in library.shares(verdicts).items():
        print(f"  {kind:20s} {sure:3d} of {of:3d} certified ({sure / of:.1%})")
    bad = sum(not v.ok for v in verdicts)
    short = library.shortfalls(verdicts)
    print("\n".join([f"{bad} regressions", *(f"SHORT {s}" for s in short)]))
    return int(bool(bad or short))


def _said(verdict: Verdict) -> str:
    mark = "BAD " if not verdict.ok else "ok  " if verdict.certified else "open"
    head = f"{mark} {verdict.name:42s} gap {verdict.gap:.1e}  {verdict.seconds:5.1f} s"
    more = [f"     regression: {r}" for r in verdict.regressions]
    return "\n".join((head, *more, *(f"     news: {n}" for n in verdict.news)))


def _library_arguments(add: Add) -> None:
    add("name", nargs="?", help="an instance, to be put into words")
    add("--folder", type=Path, default=FOLDER, metavar="DIR", help="default: ./library")


def _certify_arguments(add: Add) -> None:
    add("paths", type=Path, nargs="*", metavar="path", help="folders, instances, results (JSON)")
    add("--time-limit", type=float, default=library.SECONDS, metavar="S", help="for each solve")
    add("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    add("--all", action="store_true", help="a row for every instance, also where nothing is wrong")


COMMANDS: dict[
    str, tuple[Callable[[argparse.Namespace], int | None], Callable[[Add], None], str]
] = {
    "library": (
        _library,
        _library_arguments,
        "list the instance library; with a name, put one instance into words",
    ),
    "certify": (
        _certify,
        _certify_arguments,
        "recompute every claim of the library (or of a result); exit code 1 if one is false",
    ),
}
