"""MinMaxLatency for other people's solvers: epigraph coordinates, cvxpy and pyomo models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Handle, Smooth
from rralloc.numerics.logexp import LN2
from rralloc.numerics.rates import rate, rate_slope
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.min_max_latency import MinMaxLatency


class Epigraph:
    """Flat coordinates of one MinMaxLatency instance: shares of the band, and a scaled time."""

    def __init__(self, problem: MinMaxLatency) -> None:
        self.size = problem.sizes["K"]
        self.problem = problem
        self.total = float(problem.bandwidth_budget_hz)
        self.unit_s = float(problem.objective(problem.initial()))
        self.active = np.broadcast_to(problem.scheduled & (problem.payload_bit > 0), self.size)
        if not np.isfinite(self.unit_s) or self.unit_s == 0:
            raise NotOffered("some device cannot be heard, or nothing is to be sent")

    def form(self) -> Smooth:
        low = np.append(np.where(self.active, 1e-9, 0.0), 0.0)
        high = np.append(np.ones(self.size), np.inf)
        kinds = np.zeros(self.size + 1, dtype=bool)
        return Smooth(
            self.flatten, self.unflatten, (low, high), self.value_grad, self.constraints_jac, kinds
        )

    def flatten(self, x: Point) -> Array:
        time = float(self.problem.objective(x)) / self.unit_s
        return np.append(np.asarray(x["bandwidth_hz"]) / self.total, time)

    def unflatten(self, z: Array) -> Point:
        return {"bandwidth_hz": z[:-1] * self.total}

    def value_grad(self, z: Array) -> tuple[float, Array]:
        return float(z[-1]), np.append(np.zeros(self.size), 1.0)

    def constraints_jac(self, z: Array) -> tuple[Array, Array]:
        problem, band = self.problem, np.maximum(z[:-1], 1e-12) * self.total
        q = problem.snr_bandwidth_hz
        speed = np.broadcast_to(rate(band, q), self.size)
        late = np.where(self.active, problem.payload_bit / np.where(speed > 0, speed, 1.0), 0.0)
        late_slope = np.where(self.active, late * rate_slope(band, q) / speed, 0.0) * self.total
        takes_part = np.broadcast_to(problem.scheduled, self.size)
        slack = np.where(takes_part, z[-1] - (problem.compute_s + late) / self.unit_s, 1.0)
        jac = np.zeros((self.size + 1, self.size + 1))
        jac[np.arange(self.size), np.arange(self.size)] = late_slope / self.unit_s
        jac[: self.size, -1] = takes_part
        jac[-1, :-1] = -1.0
        return np.append(slack, 1 - z[:-1].sum()), jac


# -- models ---------------------------------------------------------------------------------------


def _normalised(problem: MinMaxLatency, size: int) -> tuple[Array, Array, Array, float]:
    """kappa = S ln2/(t0 B), c/t0, a/B and t0; a device that does not take part has 0, 0, 1."""
    total = float(problem.bandwidth_budget_hz)
    unit_s = float(problem.objective(problem.initial())) or 1.0
    active = np.broadcast_to(problem.scheduled & (problem.payload_bit > 0), size)
    kappa = np.where(active, problem.payload_bit * LN2 / (unit_s * total), 0.0)
    compute = np.where(problem.scheduled, problem.compute_s / unit_s, 0.0)
    heard = np.where(active, problem.snr_bandwidth_hz / total, 1.0)
    return kappa, np.broadcast_to(compute, size), heard, unit_s


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    kappa, compute, heard = (cp.Parameter(size, nonneg=True) for _ in range(3))
    y, tau = cp.Variable(size, nonneg=True), cp.Variable()
    # The window is a variable of its own: two parameters must not meet in one product (DPP).
    window = cp.Variable(size, nonneg=True)
    sent = cp.multiply(kappa, cp.inv_pos(window)) + cp.rel_entr(y, y + heard)
    limits = [sent <= 0, window <= tau - compute, cp.sum(y) <= 1]
    model = cp.Problem(cp.Minimize(tau), limits)

    def assign(problem: MinMaxLatency) -> None:
        kappa.value, compute.value, heard.value, _ = _normalised(problem, size)

    return Handle(model, assign, lambda p: {"bandwidth_hz": y.value * p.bandwidth_budget_hz})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    for name in ("kappa", "compute", "heard"):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    model.total_hz = pyo.Param(mutable=True, initialize=1.0)
    model.y = pyo.Var(model.k, bounds=(1e-12, 1), initialize=1 / size)
    model.tau = pyo.Var(bounds=(0, None), initialize=1.0)
    model.bandwidth_hz = pyo.Expression(model.k, rule=lambda m, k: m.total_hz * m.y[k])
    model.band = pyo.Constraint(expr=sum(model.y[k] for k in model.k) <= 1)
    model.late = pyo.Constraint(
        model.k,
        rule=lambda m, k: (
            (m.tau - m.compute[k]) * m.y[k] * pyo.log(1 + m.heard[k] / m.y[k]) >= m.kappa[k]
        ),
    )
    model.window = pyo.Constraint(model.k, rule=lambda m, k: m.tau >= m.compute[k])
    model.last = pyo.Objective(expr=model.tau)

    def assign(problem: MinMaxLatency) -> None:
        kappa, compute, heard, _ = _normalised(problem, size)
        model.total_hz = float(problem.bandwidth_budget_hz)
        for k in range(size):
            model.kappa[k], model.compute[k] = float(kappa[k]), float(compute[k])
            model.heard[k] = float(heard[k])

    def start(problem: MinMaxLatency, x: Point) -> None:
        for k, value in enumerate(x["bandwidth_hz"]):
            model.y[k] = max(float(value) / float(problem.bandwidth_budget_hz), 1e-12)
        model.tau = float(problem.objective(x)) / _normalised(problem, size)[3]

    def point(_: MinMaxLatency) -> Point:
        return {"bandwidth_hz": np.array([pyo.value(model.bandwidth_hz[k]) for k in model.k])}

    return Handle(model, assign, point, start)


MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
