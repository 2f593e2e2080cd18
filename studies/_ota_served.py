"""Devices served against the error target, solver by solver, on the same channels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import rralloc as rr
from rralloc.problems import OTASelection

COVERAGE: dict[str, dict[str, Any]] = {
    f"coverage, effort {effort}": {"effort": effort} for effort in (1, 2, 3)
}
SOLVERS = (
    *COVERAGE,
    *("exact", "greedy", "gsds", "subgradient", "hinge-ccp", "l1-sdr", "reweighted-l2-sdr", "dc"),
    *("baseline:all-devices", "baseline:strongest", "baseline:random"),
)
QUICK = ("exact", "coverage, effort 1", "coverage, effort 2", "greedy", "gsds")


def measured(row: Mapping[str, Any]) -> dict[str, float]:
    """One channel, named by antennas, devices, target_db, solver, draw: served, bound, CPU s."""
    problem = OTASelection.random(
        N=row["antennas"],
        K=row["devices"],
        rng=row["draw"],
        mse_target=10 ** (row["target_db"] / 10),
    )
    name = str(row["solver"])
    start = time.process_time()
    sol = rr.solve(problem, name.split(",")[0], rng=0, time_limit=120, **COVERAGE.get(name, {}))
    spent = time.process_time() - start
    return {
        "served": float(sol.objective),
        "bound": float(sol.bound),
        "cpu_s": spent,
        "violation": float(sol.violation),
        "proven": float(sol.status == rr.Status.GLOBAL),
    }
