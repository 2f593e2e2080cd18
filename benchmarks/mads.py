"""MADS: nanoseconds for a device, ratios to textbook models, the horizon; one run, one thread, CPU.

    python benchmarks/mads.py --output benchmarks/mads.json [--quick] [--part peers]

kernel: the closed form on 2e5 devices drawn as ``MADS.random`` draws them, as arrays:
    constructed  build the problem and call ``closed_form().point()``
    first call   ``closed_form().point()`` alone, on a problem that has computed nothing yet
    again        the same on one problem, which keeps log2(1 + p_max g) and what circuits cost
    solved       ``rr.solve(problem, certify="none")`` on one problem: the point and its verdict
peers: one device at a time: x s b ln2/(tau B) <= log(1 + g p_max y), max W s x - Q tau p_max y,
    written by hand in cvxpy with ECOS and Clarabel, compiled once with parameters, or rebuilt for
    each instance; one joint problem of 100 devices; the median time inside the engine alone (its
    own wall clock); SciPy's bounded scalar search; and this package's own adapter. Ratios are to
    our time through ``rr.solve`` for each of 1e5 problems of one device, a batch; beside it 1e5
    devices in one problem. Error: of the optimal value against the closed form, relative to the
    larger of it and 1/1000 of the best device's (silent devices are worth 0).
horizon: 1e4 rounds x 1e3 devices with its bound.
small: microseconds of a call for 20 devices.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import gc
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from first_numbers import cpu, fingerprint

import rralloc as rr
from rralloc.problems import MADS, MADSHorizon

VARIANTS = {
    "base": {},
    "integer": {"integer": True},
    "circuit power and header": {"circuit_power_w": 0.05, "header_bits": 500.0},
    "hard budget": {"energy_budget_j": 0.05},
}
FIELDS = ("value", "energy_price", "contact_s", "snr_per_watt")
S, BITS, BAND, PEAK = 2410, 44, 4000.0, 0.2
COMMAND = "python benchmarks/mads.py --output benchmarks/mads.json"
ENGINES = {"ECOS": "ECOS", "CLARABEL": "Clarabel"}
LEAST = 1e-3
"""An error counts relative to at least this share of the best device's worth."""


def first_calls(fresh: Callable[[], MADS], runs: int = 5) -> float:
    """Median CPU seconds of the closed form on problems built outside the clock."""
    found = []
    for _ in range(runs + 1):
        problem = fresh()
        start = time.process_time()
        problem.closed_form().point()
        found.append(time.process_time() - start)
    return float(np.median(found[1:]))


def kernel(devices: int) -> dict[str, float]:
    """Nanoseconds for a device."""
    out = {}
    for name, settings in VARIANTS.items():
        drawn = MADS.random(K=devices, rng=0, **settings)
        fields = {field: getattr(drawn, field) for field in drawn._data}
        given = {n: v for n, v in fields.items() if v is not None} | settings
        fresh = partial(MADS, **given)
        ways = {
            "constructed": cpu(lambda fresh=fresh: fresh().closed_form().point(), 1, runs=5),
            "first call": first_calls(fresh),
            "again": cpu(drawn.closed_form().point, 1, runs=5),
            "solved": cpu(lambda p=drawn: rr.solve(p, certify="none"), 1, runs=5),
        }
        out |= {f"{name}, {way}, ns": 1e9 * took / devices for way, took in ways.items()}
    return out


def values(problem: MADS, devices: int) -> list[dict[str, float]]:
    """Each device's data, those that can send."""
    columns = {n: getattr(problem, n)[:devices].tolist() for n in FIELDS}
    rows = [dict(zip(FIELDS, row)) for row in zip(*columns.values())]
    return [row for row in rows if row["contact_s"] > 0]


class Textbook:
    """The convex problem of ``devices`` devices in cvxpy, compiled once with parameters."""

    def __init__(self, devices: int = 1) -> None:
        import cvxpy as cp

        self.names = ("worth", "cost", "load", "snr")
        self.data = {n: cp.Parameter(devices, nonneg=True) for n in self.names}
        x, y = cp.Variable(devices), cp.Variable(devices)
        d = self.data
        fits = cp.multiply(d["load"], x) <= cp.log(1 + cp.multiply(d["snr"], y))
        limits = [fits, x >= 0, x <= 1, y >= 0, y <= 1]
        self.model = cp.Problem(cp.Maximize(d["worth"] @ x - d["cost"] @ y), limits)

    def assign(self, rows: list[dict[str, float]]) -> None:
        """x = k/s and y = p/p_max."""
        w, q, tau, g = (np.array([row[n] for row in rows]) for n in FIELDS)
        self.data["worth"].value, self.data["cost"].value = w * S, q * tau * PEAK
        self.data["load"].value, self.data["snr"].value = (
            S * BITS * np.log(2) / tau / BAND,
            g * PEAK,
        )

    def __call__(self, rows: list[dict[str, float]], engine: str) -> float:
        """The optimal value, from a cold start: a reused Clarabel adds up its own clock."""
        self.assign(rows)
        return float(self.model.solve(solver=engine, warm_start=False))


def bounded(row: dict[str, float]) -> float:
    """SciPy's scalar search over the spectral efficiency."""
    from scipy.optimize import minimize_scalar

    w, q, tau, g = (row[n] for n in FIELDS)
    a = tau * BAND / BITS
    cap = min(np.log2(1 + PEAK * g), S / a)
    found = minimize_scalar(
        lambda y: q * tau * (2**y - 1) / g - a * w * y,
        bounds=(0, cap),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return -found.fun


class Peers:
    """Times each rival on the same devices, checks its value, and compares with ours."""

    def __init__(self, ours: float) -> None:
        self.ours, self.out = ours, {}

    def __call__(self, name: str, call: Callable[[], Any], devices: int, want: np.ndarray) -> None:
        """One warm-up call, then the median of three."""
        got = np.asarray(call())  # compile and import
        gc.collect()
        gc.freeze()  # what imports left behind would be searched for garbage on a rival's clock
        took = cpu(call, 1, runs=3) / devices
        error = np.abs(got - want) / np.maximum(np.abs(want), LEAST * want.max())
        self.out[f"{name}, us"] = 1e6 * took
        self.out[f"{name}, error"] = float(error.max())
        self.out[f"{name} over ours"] = took / self.ours


def peers(count: int, batch: int) -> dict[str, Any]:
    """Microseconds for a device, worst error of the value, and ratios to us."""
    import cvxpy as cp

    many, wide = MADS.random(K=1, batch=batch, rng=1), MADS.random(K=batch, rng=1)
    ours = cpu(lambda: rr.solve(many, certify="none"), 1, runs=5) / batch
    joint = cpu(lambda: rr.solve(wide, certify="none"), 1, runs=5) / batch
    timed = Peers(ours)
    timed.out |= {"ours, us": 1e6 * ours, "ours, one problem, us": 1e6 * joint}
    rows = values(wide, 2 * count)[:count]
    exact = np.array([_value(row) for row in rows])
    if "ECOS" not in cp.installed_solvers():
        timed.out["note"] = "ECOS is not installed (no wheel for this Python?): left out"
    engines = [e for e in ENGINES if e in cp.installed_solvers()]
    for engine in engines:
        textbook(timed, engine, rows, exact)
    timed("scipy bounded", lambda: [bounded(row) for row in rows], count, exact)
    few = MADS.random(K=1, batch=count, rng=1, contact_s=3.0)
    for engine in engines:
        own = partial(rr.solve, few, "cvxpy", engine=engine, certify="none")
        want = np.asarray(rr.solve(few).objective)
        timed(f"our adapter + {ENGINES[engine]}", lambda own=own: own().objective, count, want)
    return timed.out


def textbook(timed: Peers, engine: str, rows: list[dict[str, float]], exact: np.ndarray) -> None:
    """Compiled once, rebuilt for each device, and a hundred devices at once."""
    name, one, crowd = f"cvxpy + {ENGINES[engine]}", Textbook(), Textbook(100)
    inside: list[float] = []

    def compiled() -> list[float]:
        found = []
        inside.clear()
        for row in rows:
            found.append(one([row], engine))
            inside.append(one.model.solver_stats.solve_time)
        return found

    timed(f"{name}, parametrised", compiled, len(rows), exact)
    alone = float(np.median(inside))
    timed.out[f"{name}, inside the engine, us"] = 1e6 * alone
    timed.out[f"{name}, inside the engine over ours"] = alone / timed.ours
    few = rows[: max(len(rows) // 10, 2)]
    timed(
        f"{name}, rebuilt",
        lambda: [Textbook()([row], engine) for row in few],
        len(few),
        exact[: len(few)],
    )
    group = np.resize(np.arange(len(rows)), 100)
    total = exact[group].sum(keepdims=True)
    timed(f"{name}, 100 at once", lambda: [crowd([rows[i] for i in group], engine)], 100, total)


def _value(row: dict[str, float]) -> float:
    fields = {"model_size": S, "bits_per_coordinate": BITS, "bandwidth_hz": BAND}
    return float(rr.solve(MADS(**row, **fields, power_max_w=PEAK)).objective)


def horizon(rounds: int, devices: int) -> dict[str, float]:
    """CPU seconds of one clairvoyant horizon, bound included."""
    problem = MADSHorizon.random(K=devices, rounds=rounds, rng=0)
    start = time.process_time()
    sol = rr.solve(problem)
    return {
        f"{rounds} rounds x {devices} devices, s": time.process_time() - start,
        "gap": float(sol.gap),
    }


def small() -> dict[str, float]:
    """Microseconds of a call."""
    problem = MADS.random(K=20, rng=0)
    return {
        "point, us": 1e6 * cpu(lambda: problem.closed_form().point(), 200),
        "solved, us": 1e6 * cpu(lambda: rr.solve(problem, certify="none"), 50),
        "solved and proven, us": 1e6 * cpu(lambda: rr.solve(problem), 50),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--part", choices=("kernel", "peers", "small", "horizon", "all"), default="all"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="cvxpy")
    quick = arguments.quick
    parts = {
        "kernel": lambda: kernel(20_000 if quick else 200_000),
        "peers": lambda: peers(20 if quick else 200, 10_000 if quick else 100_000),
        "small": small,
        "horizon": lambda: horizon(*((1000, 100) if quick else (10_000, 1000))),
    }
    told = arguments.output
    figures = json.loads(told.read_text()) if told and told.exists() else {}
    figures |= {"command": COMMAND, "machine": fingerprint()}
    for name, part in parts.items():
        if arguments.part in (name, "all"):
            figures[name] = part()
            print(name)
            for key, value in figures[name].items():
                shown = value if isinstance(value, str) else f"{value:12.5g}"
                print(f"  {key:50s} {shown}", flush=True)
    if told and not quick:
        told.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
