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
BATCHES = {
    "water-filling 1e4 x 20": "p = P.WaterFilling.random(K=20, batch=10_000, rng=0)",
    "water-filling 1e6 x 20": "p = P.WaterFilling.random(K=20, batch=1_000_000, rng=0)",
    "SP-FL, dual, 128 x 20": "p = P.SPFL.random(K=20, load=6, batch=128, rng=0)",
    "SP-FL, newton, 1000 x 20": (
        "p = P.SPFL.random(K=20, load=3, batch=1000, rng=0, objective='unbiased')"
    ),
    "MADS, 1e5 x 2": "p = P.MADS.random(K=2, batch=100_000, rng=0)",
    "MADS horizon 1e4 x 1e3": "p = P.MADSHorizon.random(K=1000, rounds=10_000, rng=0)",
    "OTA selection, coverage, 100 x (6, 20)": (
        "p = P.OTASelection.random(K=20, N=6, batch=100, rng=0)"
    ),
}
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
    head = "import rralloc as rr\nfrom rralloc import problems as P\n"
    out = {}
    for name, make in BATCHES.items():
        small = make.replace("10_000", "2").replace("1_000_000", "2").replace("100_000", "2")
        small = small.replace("batch=128", "batch=2").replace("batch=1000", "batch=2")
        small = small.replace("K=1000, rounds=2,", "K=2, rounds=2,").replace(
            "batch=100,", "batch=2,"
        )
        base = python(f"{head}{small}\nrr.solve(p)\n{PEAK}")[1]
        wall, peak = python(f"{head}{make}\nrr.solve(p)\n{PEAK}")
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
