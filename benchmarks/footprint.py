"""What rralloc costs before it does anything, and how much memory its batches take.

    python benchmarks/footprint.py --output benchmarks/footprint.json

imports: wall and CPU seconds of fresh interpreters, median of 7, alternating.
first plot: a fresh interpreter imports rralloc, solves a batch and saves a figure. The first run
    after installation compiles our bytecode and builds matplotlib's list of fonts: ``cold`` is that
    run, on a copy of the tree without bytecode and with an empty matplotlib cache.
memory: peak resident megabytes of a fresh interpreter for each batch benchmark, and of one that
    only imports what the benchmark imports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from first_numbers import fingerprint

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "python benchmarks/footprint.py --output benchmarks/footprint.json"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
PLOTS = {
    "the tutorial's (min-max latency, 100 x 20)": "MinMaxLatency.random(K=20, batch=100, rng=0)",
    "SP-FL, 100 x 20, with certificates": "SPFL.random(K=20, load=6, batch=100, rng=0)",
}
PLOT = """
import rralloc as rr
from rralloc.problems import MinMaxLatency, SPFL
sol = rr.solve({problem})
rr.plot.save(sol.plot(), "first.png")
"""
BATCHES: dict[str, tuple[str, dict[str, int]]] = {
    "water-filling 1e4 x 20": ("WaterFilling.random(K=20, batch={n}, rng=0)", {"n": 10_000}),
    "water-filling 1e6 x 20": ("WaterFilling.random(K=20, batch={n}, rng=0)", {"n": 1_000_000}),
    "SP-FL, dual, 128 x 20": ("SPFL.random(K=20, load=6, batch={n}, rng=0)", {"n": 128}),
    "SP-FL, newton, 1000 x 20": (
        "SPFL.random(K=20, load=3, batch={n}, rng=0, objective='unbiased')",
        {"n": 1000},
    ),
    "MADS, 1e5 x 2": ("MADS.random(K=2, batch={n}, rng=0)", {"n": 100_000}),
    "MADS horizon 1e4 x 1e3": (
        "MADSHorizon.random(K={n}, rounds={rounds}, rng=0)",
        {"n": 1000, "rounds": 10_000},
    ),
    "OTA selection, coverage, 100 x (6, 20)": (
        "OTASelection.random(K=20, N=6, batch={n}, rng=0)",
        {"n": 100},
    ),
}
"""Problem and sizes; with every size 2 it is what the batch itself is compared with."""
CLOCK = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
PEAK = "import resource as r; print(r.getrusage(r.RUSAGE_SELF).ru_maxrss / 1024)"


def python(code: str, cwd: str | None = None, **variables: str) -> tuple[float, float]:
    """Wall seconds of a fresh interpreter, and the number it prints last."""
    import time

    start = time.perf_counter()
    environment = os.environ | ONE_THREAD | variables
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def imports(times: int = 7) -> dict[str, float]:
    """Fresh interpreters: nothing, NumPy, rralloc."""
    found: dict[str, list[tuple[float, float]]] = {"pass": [], "numpy": [], "rralloc": []}
    for _ in range(times):
        for module, runs in found.items():
            runs.append(python(f"{'pass' if module == 'pass' else 'import ' + module}\n{CLOCK}"))
    out = {}
    for module, runs in found.items():
        name = "interpreter alone" if module == "pass" else f"import {module}"
        out[f"{name}, wall s"] = statistics.median(wall for wall, _ in runs)
        out[f"{name}, CPU s"] = statistics.median(cpu for _, cpu in runs)
    return out


def first_plot() -> dict[str, float]:
    """From the interpreter's start to the figure on disk."""
    out = {}
    for name, problem in PLOTS.items():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            tree.mkdir()
            for part in ("rralloc", "problems", "solvers", "studies"):
                told = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, tree / part, symlinks=True, ignore=told)
            fresh = {"PYTHONPATH": str(tree), "MPLCONFIGDIR": str(Path(folder) / "mpl")}
            for run in ("cold", "warm"):
                code = PLOT.format(problem=problem) + CLOCK
                wall, cpu = python(code, cwd=folder, **fresh)
                out |= {f"{name}: {run}, wall s": wall, f"{name}: {run}, CPU s": cpu}
    return out


def memory() -> dict[str, float]:
    """Peak megabytes with and without the work."""
    out = {}
    for name, (problem, sizes) in BATCHES.items():
        code = "import rralloc as rr\nrr.solve(rr.problems.{p})\n{peak}"
        small, large = problem.format(**dict.fromkeys(sizes, 2)), problem.format(**sizes)
        base = python(code.format(p=small, peak=PEAK))[1]
        wall, peak = python(code.format(p=large, peak=PEAK))
        out |= {f"{name}, peak MB": peak, f"{name}, of it for the batch MB": peak - base}
        out[f"{name}, wall s"] = wall
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"command": COMMAND, "machine": fingerprint()}
    for part in (imports, first_plot, memory):
        figures[part.__name__] = part()
        for key, value in figures[part.__name__].items():
            print(f"{key:60s} {value:10.4g}", flush=True)
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
