"""MADS: nanoseconds for a device, ratios to textbook models, the horizon; one run, one thread, CPU.

    python benchmarks/mads.py --output benchmarks/mads.json [--quick] [--part peers]

kernel: the closed form on 2e5 devices drawn as ``MADS.random`` draws them: with the problem's
    construction, again on the same problem (what it computed once is kept), and through
    ``rr.solve`` with its verdict on feasibility.
peers: one device at a time: x s b ln2/(tau B) <= log(1 + g p_max y), max W s x - Q tau p_max y,
    written by hand in cvxpy with ECOS and Clarabel, compiled once with parameters, or rebuilt for
    each instance; one joint problem of 100 devices; the seconds inside the engine alone; SciPy's
    bounded scalar search; and this package's own adapter. Ratios are to our time for each device in
    a batch of 1e5, through ``rr.solve``.
horizon: 1e4 rounds x 1e3 devices with its bound.
small: microseconds of a call for 20 devices.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import time
import warnings
from pathlib import Path

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


def kernel(devices: int) -> dict[str, float]:
    """Nanoseconds for a device."""
    out = {}
    for name, settings in VARIANTS.items():
        drawn = MADS.random(K=devices, rng=0, **settings)
        fields = {field: getattr(drawn, field) for field in drawn._data}

        def fresh(fields=fields, settings=settings) -> MADS:
            given = {n: v for n, v in fields.items() if v is not None}
            return MADS(**given | settings)

        form = drawn.closed_form()
        ways = {
            "again": form.point,
            "constructed": lambda fresh=fresh: fresh().closed_form().point(),
            "solved": lambda p=drawn: rr.solve(p, certify="none"),
        }
        for way, call in ways.items():
            out[f"{name}, {way}, ns"] = 1e9 * cpu(call, 1, runs=5) / devices
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
        """The optimal value."""
        self.assign(rows)
        return float(self.model.solve(solver=engine))


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


def peers(count: int, batch: int) -> dict[str, float]:
    """Microseconds for a device, worst error of the value, and ratios to us."""
    import cvxpy as cp

    many = MADS.random(K=batch, rng=1)
    ours = cpu(lambda: rr.solve(many, certify="none"), 1, runs=5) / batch
    out = {"ours, solved, us": 1e6 * ours}
    rows = values(many, 2 * count)[:count]
    exact = np.array([_value(row) for row in rows])
    engines = [e for e in ("ECOS", "CLARABEL") if e in cp.installed_solvers()]
    if "ECOS" not in engines:
        print("ECOS has no wheel for this Python: its rows are left out")
    one, crowd = Textbook(), Textbook(100)
    inside: list[float] = []

    def compiled(engine: str) -> list[float]:
        found = [one([row], engine) for row in rows]
        inside.append(one.model.solver_stats.solve_time)
        return found

    def timed(name: str, call, devices: int, want: np.ndarray) -> None:
        call()  # compile and import
        start = time.process_time()
        got = np.asarray(call())
        took = (time.process_time() - start) / devices
        error = np.abs(got - want) / np.maximum(np.abs(want), 1e-3 * want.max())
        out[f"{name}, us"], out[f"{name}, error"] = 1e6 * took, float(error.max())
        out[f"{name} over ours"] = took / ours

    for engine in engines:
        name = f"cvxpy + {engine.capitalize()}"
        timed(f"{name}, parametrised", lambda e=engine: compiled(e), count, exact)
        out[f"{name}, inside the engine, us"] = 1e6 * inside[-1]
        few = rows[: max(count // 10, 2)]

        def rebuilt(engine: str = engine, few: list = few) -> list[float]:
            return [Textbook()([row], engine) for row in few]

        timed(f"{name}, rebuilt", rebuilt, len(few), exact[: len(few)])
        group = (rows * (100 // len(rows) + 1))[:100]
        total = np.array([sum(_value(row) for row in group)])
        timed(f"{name}, 100 at once", lambda e=engine, g=group: [crowd(g, e)], 100, total)
    timed("scipy bounded", lambda: [bounded(row) for row in rows], count, exact)
    single = MADS.random(K=1, batch=count, rng=1, contact_s=3.0)
    want = np.asarray(rr.solve(single).objective)
    own = {"engine": "CLARABEL" if "ECOS" not in engines else "ECOS"}
    timed(
        "our cvxpy adapter",
        lambda: rr.solve(single, "cvxpy", certify="none", **own).objective,
        count,
        want,
    )
    return out


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
    figures |= {"command": "python benchmarks/mads.py", "machine": fingerprint()}
    for name, part in parts.items():
        if arguments.part in (name, "all"):
            figures[name] = part()
            print(name)
            for key, value in figures[name].items():
                print(f"  {key:50s} {value:12.5g}", flush=True)
    if told and not quick:
        told.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
