"""Over-the-air selection: devices served and CPU time, one thread, the same channels for all.

    python benchmarks/ota.py --output benchmarks/ota.json [--quick] [--part paired]

paired: (N, K) = (6, 20), gamma P/noise -4, -2, 0 dB, 100 channels CN(0, 1). ``coverage``, ``gsds``,
    ``subgradient`` and baselines solve them as one batch, the others one after another; CPU a
    channel, ``certify="none"``, compiling included once. Losses: channels on which coverage serves
    fewer than ``dc``; beside them the first 25.
wide: (8, 50) at 0 dB, 5 channels with ``dc``. large: (16, 200) at 0 dB, 20 channels, coverage only.
batch: wall and CPU milliseconds of one batch of 100 at (6, 20), median of 7.
ensembles: 12 devices, coverage and the rivals over the certified optimum of ``exact``.
``dc`` is our own reconstruction with Clarabel through cvxpy: without a modelling layer it would be
faster, perhaps by half.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from first_numbers import cpu, fingerprint

import rralloc as rr
from rralloc.problems import OTASelection

COMMAND = "python benchmarks/ota.py --output benchmarks/ota.json"
EFFORTS = (1, 2, 3)
BATCHED = ("gsds", "subgradient", "baseline")
RIVALS = (
    *("exact", "greedy", "gsds", "subgradient", "hinge-ccp", "l1-sdr", "reweighted-l2-sdr", "dc"),
    *("baseline:all-devices", "baseline:strongest"),
)
ENSEMBLES: dict[str, tuple[dict[str, Any], int]] = {
    "iid N=3 -2 dB": ({"N": 3, "mse_target": 10**-0.2}, 20),
    "iid N=4 -3 dB": ({"N": 4, "mse_target": 10**-0.3}, 20),
    "iid N=6 -4 dB": ({"N": 6, "mse_target": 10**-0.4}, 15),
    "Rician array N=6 -3 dB": ({"N": 6, "mse_target": 10**-0.3, "k_factor": 4.0}, 20),
    "Rician array N=4 -1 dB": ({"N": 4, "mse_target": 10**-0.1, "k_factor": 4.0}, 12),
    "path loss N=6 4 dB": ({"N": 6, "mse_target": 10**0.4, "loss_db": 20.0}, 12),
}


def spent(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its CPU seconds."""
    start = time.process_time()
    found = call()
    return found, time.process_time() - start


def coverage(problem: OTASelection, effort: int) -> tuple[np.ndarray, float]:
    """Served on each channel of a batch, CPU seconds a channel; the median of 3 after one."""
    rr.solve(problem[:2], "coverage", effort=effort, certify="none", rng=0)
    runs = [
        spent(lambda: rr.solve(problem, "coverage", effort=effort, certify="none", rng=0))
        for _ in range(3)
    ]
    return np.asarray(runs[0][0].objective), float(np.median([t for _, t in runs])) / len(problem)


def rival(problem: OTASelection, name: str) -> tuple[np.ndarray, float]:
    """The same as one batch where the solver takes it, else one after another, with compiling."""
    if name.startswith(BATCHED):
        sol, took = spent(lambda: rr.solve(problem, name, certify="none", rng=0))
        return np.asarray(sol.objective), took / len(problem)
    found, took = spent(
        lambda: [rr.solve(p, name, certify="none", rng=0, time_limit=60) for p in problem]
    )
    return np.array([float(sol.objective) for sol in found]), took / len(problem)


def compared(problem: OTASelection, rivals: tuple[str, ...]) -> dict[str, float]:
    """Means, CPU, ratios and paired wins over ``dc`` where it runs."""
    out: dict[str, float] = {}
    found: dict[str, tuple[np.ndarray, float]] = {}
    for effort in EFFORTS:
        found[f"coverage, effort {effort}"] = coverage(problem, effort)
    for name in rivals:
        found[name] = rival(problem, name)
    for name, (served, seconds) in found.items():
        out[f"{name}, mean served"] = float(served.mean())
        out[f"{name}, standard error"] = float(served.std(ddof=1) / len(served) ** 0.5)
        out[f"{name}, CPU ms"] = 1e3 * seconds
        if "exact" in found:
            out[f"{name}, share of exact"] = float(served.sum() / found["exact"][0].sum())
    if "dc" in found:
        theirs, seconds = found["dc"]
        for effort in EFFORTS:
            name = f"coverage, effort {effort}"
            ours, own = found[name]
            out[f"dc over {name}, CPU"] = seconds / own
            out[f"{name} minus dc"] = float((ours - theirs).mean())
            out[f"{name}, wins over dc"] = int((ours > theirs).sum())
            out[f"{name}, losses to dc"] = int((ours < theirs).sum())
            out[f"{name}, losses to dc in the first 25"] = int((ours < theirs)[:25].sum())
    return out


def paired(channels: int) -> dict[str, float]:
    """(6, 20)."""
    out: dict[str, float] = {}
    for db in (-4, -2, 0):
        problem = OTASelection.random(
            K=20, N=6, batch=channels, rng=2024, mse_target=10 ** (db / 10)
        )
        told = compared(problem, RIVALS)
        out |= {f"{db} dB: {name}": value for name, value in told.items()}
    return out


def wide(channels: int) -> dict[str, float]:
    """(8, 50) at 0 dB."""
    problem = OTASelection.random(K=50, N=8, batch=channels, rng=2024, mse_target=1.0)
    return compared(problem, ("greedy", "dc"))


def large(channels: int) -> dict[str, float]:
    """(16, 200) at 0 dB."""
    problem = OTASelection.random(K=200, N=16, batch=channels, rng=2024, mse_target=1.0)
    return compared(problem, ())


def batch() -> dict[str, float]:
    """One batch of 100."""
    problem = OTASelection.random(K=20, N=6, batch=100, rng=2024)
    out = {}
    for effort in EFFORTS[:2]:

        def call(effort: int = effort) -> None:
            rr.solve(problem, "coverage", effort=effort, certify="none", rng=0)

        out[f"effort {effort}, CPU ms"] = 1e3 * cpu(call, 1)
        walls = []
        for _ in range(7):
            start = time.perf_counter()
            call()
            walls.append(time.perf_counter() - start)
        out[f"effort {effort}, wall ms"] = 1e3 * float(np.median(walls))
    return out


def ensembles(share: float) -> dict[str, float]:
    """Mean served over the mean optimum, for the channels that ``exact`` certifies."""
    out: dict[str, float] = {}
    rivals = ("greedy", "gsds", "subgradient", "l1-sdr", "dc")
    for label, (settings, channels) in ENSEMBLES.items():
        count = max(3, round(share * channels))
        problem = OTASelection.random(K=12, batch=count, rng=2024, **settings)
        exact = [rr.solve(p, "exact", rng=0, time_limit=60) for p in problem]
        proven = np.array([sol.status == rr.Status.GLOBAL for sol in exact])
        best = np.array([float(sol.objective) for sol in exact])
        bound = np.array([float(sol.bound) for sol in exact])
        out[f"{label}: certified"] = int(proven.sum())
        out[f"{label}: of"] = count
        out[f"{label}: exact, mean"] = float(best[proven].mean())
        out[f"{label}: exact, median s"] = float(np.median([sol.seconds for sol in exact]))
        for effort in EFFORTS:
            ours, _ = coverage(problem, effort)
            out[f"{label}: coverage, effort {effort}"] = float(
                ours[proven].sum() / best[proven].sum()
            )
            out[f"{label}: coverage, effort {effort}, above the bound"] = int((ours > bound).sum())
        for name in rivals:
            theirs, _ = rival(problem, name)
            out[f"{label}: {name}"] = float(theirs[proven].sum() / best[proven].sum())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true")
    quick_parts = ("paired", "wide", "large", "batch", "ensembles")
    parser.add_argument("--part", choices=(*quick_parts, "all"), default="all")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="cvxpy")
    quick = arguments.quick
    parts: Mapping[str, Callable[[], dict[str, float]]] = {
        "paired": lambda: paired(5 if quick else 100),
        "wide": lambda: wide(2 if quick else 5),
        "large": lambda: large(4 if quick else 20),
        "batch": batch,
        "ensembles": lambda: ensembles(0.0 if quick else 1.0),
    }
    told = arguments.output
    figures = json.loads(told.read_text()) if told and told.exists() else {}
    figures |= {"command": COMMAND, "machine": fingerprint()}
    for name, part in parts.items():
        if arguments.part in (name, "all"):
            figures[name] = part()
            print(name)
            for key, value in figures[name].items():
                print(f"  {key:60s} {value:12.5g}", flush=True)
            if told and not quick:
                told.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
