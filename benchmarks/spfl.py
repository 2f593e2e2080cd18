"""SP-FL: quality, gaps and CPU time against the rivals, all in one run, on one thread.

    python benchmarks/spfl.py --output benchmarks/spfl.json [--quick] [--part speed]

Quality: on random instances (K in 5, 20, 100, loads 3 and 6, all four objectives, both fadings,
fixed split) the default solver against SLSQP, an IPOPT-type engine and the best of the alternating
variants; how often the default is worse by more than 1e-6 relative. Speed: convex batch and single
instances against cvxpy (compiled once) and pounce/IPOPT; the non-convex default in batch.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import time
from pathlib import Path

import numpy as np
from first_numbers import fingerprint

import rralloc as rr
from rralloc.problems import SPFL

LAWS = ("plain", "sign_unbiased", "unbiased", "optimal_scaling")
FADINGS = ("common", "independent")
ALTERNATING = {"start_from": "all", "order": "all"}


def cpu(call, repeat=1):
    """Least CPU seconds of a call, and its last answer."""
    best, answer = np.inf, None
    for _ in range(repeat):
        start = time.process_time()
        answer = call()
        best = min(best, time.process_time() - start)
    return best, answer


def quality(per_cell: int) -> list[dict]:
    """Default against rivals, cell by cell."""
    table = []
    for K, load in ((5, 3.0), (5, 6.0), (20, 3.0), (20, 6.0), (100, 3.0), (100, 6.0)):
        for law in LAWS:
            for fading in FADINGS:
                p = SPFL.random(K=K, load=load, batch=per_cell, rng=7, objective=law, fading=fading)
                ours = rr.solve(p)
                row = {"K": K, "load": load, "objective": law, "fading": fading, "n": per_cell}
                row["gap_median"] = float(np.median(ours.gap))
                row["gap_max"] = float(np.max(ours.gap))
                row["uniform_over_ours"] = float(
                    np.mean(rr.solve(p, "baseline:uniform", certify="none").objective)
                    / np.mean(ours.objective)
                )
                rivals = {"alternating": ("alternating", ALTERNATING)}
                if K <= 20:
                    rivals |= {"slsqp": ("scipy:slsqp", {}), "pounce": ("pyomo:pounce", {})}
                for name, (solver, options) in rivals.items():
                    theirs = rr.solve(p, solver, certify="none", time_limit=30, **options)
                    value = np.where(theirs.violation <= 1e-9, theirs.objective, np.inf)
                    lead = ours.objective / value - 1
                    lead = np.where(np.isfinite(value), lead, -1.0)
                    row[f"{name}_beats_us"] = int((lead > 1e-6).sum())
                    row[f"{name}_worst_lead"] = float(max(lead.max(), 0.0))
                    found = np.isfinite(value)
                    row[f"{name}_solved"] = int(found.sum())
                    row[f"{name}_mean_excess"] = (
                        float(np.mean(-lead[found])) if found.any() else None
                    )
                table.append(row)
                print(json.dumps(row), flush=True)
    return table


def speed(quick: bool) -> dict[str, float]:
    """CPU milliseconds for each instance, and ratios."""
    out: dict[str, float] = {}
    batch = 100 if quick else 1000
    convex = {"objective": "unbiased", "fading": "independent"}
    for load in (3.0, 6.0):
        p = SPFL.random(K=20, load=load, batch=batch, rng=0, **convex)
        rr.solve(p[:2], "newton", certify="none")
        took, _ = cpu(lambda p=p: rr.solve(p, "newton", certify="none"), 3)
        out[f"newton_batch_K20_load{load:g}_ms"] = 1e3 * took / batch
    few = SPFL.random(K=20, load=3, batch=10, rng=0, **convex)
    for name, solver in {"cvxpy": "cvxpy", "pounce": "pyomo:pounce"}.items():
        rr.solve(few[:1], solver, certify="none")  # compile, warm up
        took, _ = cpu(lambda s=solver: rr.solve(few, s, certify="none"))
        out[f"{name}_K20_ms"] = 1e3 * took / 10
        out[f"{name}_over_newton_batch"] = out[f"{name}_K20_ms"] / out["newton_batch_K20_load3_ms"]
    one = SPFL.random(K=20, load=3, rng=0, **convex)
    out["newton_single_K20_ms"] = 1e3 * cpu(lambda: rr.solve(one, "newton", certify="none"), 5)[0]
    big = SPFL.random(K=1000, load=3, rng=0, **convex)
    out["newton_single_K1000_ms"] = 1e3 * cpu(lambda: rr.solve(big, "newton", certify="none"), 5)[0]
    if not quick:
        for name, solver in {"cvxpy": "cvxpy", "pounce": "pyomo:pounce"}.items():
            rr.solve(big, solver, certify="none")
            took, _ = cpu(lambda s=solver: rr.solve(big, s, certify="none"))
            out[f"{name}_K1000_ms"] = 1e3 * took
            out[f"{name}_over_newton_K1000"] = (
                out[f"{name}_K1000_ms"] / out["newton_single_K1000_ms"]
            )
    for law in ("plain", "sign_unbiased", "optimal_scaling"):
        for fading in FADINGS:
            for split in ("fixed", "free"):
                extra = {"sign_band_share": "free"} if split == "free" else {}
                p = SPFL.random(
                    K=20, load=6, batch=128, rng=0, objective=law, fading=fading, **extra
                )
                took, sol = cpu(lambda p=p: rr.solve(p, "dual", certify="none"), 2)
                key = f"dual_K20_{law}_{fading}_{split}"
                out[f"{key}_ms"] = 1e3 * took / 128
                took, _ = cpu(lambda p=p, s=sol: p.bound(s.x, s.duals))
                out[f"{key}_bound_ms"] = 1e3 * took / 128
    for key, value in out.items():
        print(f"{key:50s} {value:10.3f}", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--part", choices=("speed", "quality", "both"), default="both")
    arguments = parser.parse_args()
    told = arguments.output
    figures = json.loads(told.read_text()) if told and told.exists() else {}
    figures |= {"command": "python benchmarks/spfl.py", "machine": fingerprint()}
    if arguments.part in ("speed", "both"):
        figures["speed"] = speed(arguments.quick)
    if arguments.part in ("quality", "both"):
        figures["quality"] = quality(1 if arguments.quick else 5)
    if told:
        told.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
