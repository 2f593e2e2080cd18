"""The frame's numbers in one run: CPU time, one thread, against the named peers.

    OPENBLAS_NUM_THREADS=1 python benchmarks/first_numbers.py --output benchmarks/first_numbers.json

* water-filling, 1e4 x 20: microseconds for each instance, and the ratio to a compiled cvxpy model
* what one ``rr.solve`` costs beyond the problem's own formulas, on a tiny problem
* ``problem[i]``
* ``import rralloc`` against ``import numpy``, median of 9 fresh interpreters, alternating

The peer is this package's own cvxpy adapter minus its overhead: the compiled DPP model is called
directly, so only ``assign`` and ``solve`` are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # after the thread limits above

import rralloc as rr
from rralloc.forms import ClosedForm, Model
from rralloc.problems import WaterFilling
from rralloc.verify import violation


def cpu(call: Callable[[], Any], repeats: int, runs: int = 7) -> float:
    """Median over ``runs`` of the CPU seconds of one call."""
    call()
    found = []
    for _ in range(runs):
        start = time.process_time()
        for _ in range(repeats):
            call()
        found.append((time.process_time() - start) / repeats)
    return statistics.median(found)


def batch_water_filling() -> dict[str, float]:
    """1e4 x 20 by the closed form and by level; 50 of them by a compiled cvxpy model."""
    problem = WaterFilling.random(K=20, batch=10_000, rng=0)
    ours = cpu(lambda: rr.solve(problem), 1) / 1e4
    level = cpu(lambda: rr.solve(problem, "level"), 1) / 1e4
    handle = problem.flat()[0].view(Model).build("cvxpy")
    few = [problem[i] for i in range(50)]

    def peer() -> None:
        for one in few:
            handle.assign(one)
            handle.model.solve(solver="CLARABEL")

    cvxpy = cpu(peer, 1, runs=5) / len(few)
    return {
        "closed_form_us_per_instance": 1e6 * ours,
        "level_us_per_instance": 1e6 * level,
        "cvxpy_us_per_instance": 1e6 * cvxpy,
        "cvxpy_over_closed_form": cvxpy / ours,
        "cvxpy_over_level": cvxpy / level,
    }


def call_overhead() -> dict[str, float]:
    """``rr.solve`` on 4 channels, less the formulas that any answer with a proof needs."""
    problem = WaterFilling(gain=[2.0, 1.0, 0.5, 0.1], power_budget_w=3.0)
    flat = problem.flat()
    form = flat.view(ClosedForm)
    x, witness = form.point(), form.witness() if form.witness else None

    def formulas() -> None:
        form.point()
        if form.witness:
            form.witness()
        flat.objective(x)
        violation(flat, x)
        flat.bound(x, witness)

    # In turn, so that a drift of the machine's speed hits both.
    pairs = [
        (cpu(lambda: rr.solve(problem), 200, runs=1), cpu(formulas, 200, runs=1)) for _ in range(25)
    ]
    return {
        "solve_us": 1e6 * statistics.median(a for a, _ in pairs),
        "formulas_us": 1e6 * statistics.median(b for _, b in pairs),
        "overhead_us": 1e6 * statistics.median(a - b for a, b in pairs),
    }


def indexing() -> dict[str, float]:
    """``problem[i]`` of a batch of 1000."""
    problem = WaterFilling.random(K=20, batch=1000, rng=0)
    return {"problem_i_us": 1e6 * cpu(lambda: problem[17], 2000)}


def imports(times: int = 9) -> dict[str, float]:
    """User CPU seconds of fresh interpreters, alternating."""
    found: dict[str, list[float]] = {"numpy": [], "rralloc": []}
    for _ in range(times):
        for module, seconds in found.items():
            code = f"import time; t = time.process_time(); import {module}; "
            code += "print(time.process_time() - t)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            seconds.append(float(done.stdout))
    numpy, ours = (statistics.median(found[m]) for m in ("numpy", "rralloc"))
    return {"import_numpy_s": numpy, "import_rralloc_s": ours, "import_ratio": ours / numpy}


def fingerprint() -> dict[str, Any]:
    """Enough to know what machine this was."""
    cpu_name = platform.processor() or platform.machine()
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    ):
        if line.startswith("model name"):
            cpu_name = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": cpu_name,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Run everything, print it, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    command = "OPENBLAS_NUM_THREADS=1 python benchmarks/first_numbers.py"
    result: dict[str, Any] = {"command": command, "machine": fingerprint()}
    for part in (batch_water_filling, call_overhead, indexing, imports):
        result[part.__name__] = part()
        for name, value in result[part.__name__].items():
            print(f"{name:32s} {value:12.4g}")
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
