"""EnergyEfficiency for other people's solvers, in units of the power that is about right."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rralloc.forms import Handle
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.energy_efficiency import EnergyEfficiency


def _scaled(problem: EnergyEfficiency, size: int) -> tuple[Array, float, Array, float]:
    """g P0, p_c/P0, caps/P0 (a million where there is none) and P0."""
    unit = float(problem.power_scale_w[0])
    cap = np.minimum(np.broadcast_to(problem.power_max_w, size) / unit, 1e6)
    gain = np.broadcast_to(problem.gain, size) * unit
    return gain, float(problem.circuit_power_w) / unit, cap, unit


def _cvxpy(size: int, capped: bool) -> Handle:
    import cvxpy as cp

    gain, cap = (cp.Parameter(size, nonneg=True) for _ in range(2))
    circuit = cp.Parameter(nonneg=True)
    # Charnes-Cooper: t = 1/C, y = t p; t ln(1 + g y/t) is jointly concave.
    t, y = cp.Variable(nonneg=True), cp.Variable(size, nonneg=True)
    bits = -sum(cp.rel_entr(t, t + gain[k] * y[k]) for k in range(size))
    limits = [cp.sum(y) + circuit * t <= 1, *([y <= cap * t] if capped else [])]
    model = cp.Problem(cp.Maximize(bits), limits)

    def assign(problem: EnergyEfficiency) -> None:
        gain.value, circuit.value, cap.value, _ = _scaled(problem, size)

    def point(problem: EnergyEfficiency) -> Point:
        return {"power_w": y.value / t.value * _scaled(problem, size)[3]}

    return Handle(model, assign, point)


def _pyomo(size: int, capped: bool) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.gain = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.cap = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.circuit = pyo.Param(mutable=True, initialize=1.0)
    model.unit_w = pyo.Param(mutable=True, initialize=1.0)
    model.y = pyo.Var(model.k, bounds=(0, None), initialize=1.0 / size)
    model.power_w = pyo.Expression(model.k, rule=lambda m, k: m.unit_w * m.y[k])
    if capped:
        model.capped = pyo.Constraint(model.k, rule=lambda m, k: m.y[k] <= m.cap[k])
    rate = sum(pyo.log(1 + model.gain[k] * model.y[k]) for k in model.k)
    spent = sum(model.y[k] for k in model.k) + model.circuit
    model.best = pyo.Objective(expr=rate / spent, sense=pyo.maximize)

    def assign(problem: EnergyEfficiency) -> None:
        gain, circuit, cap, unit = _scaled(problem, size)
        model.circuit, model.unit_w = circuit, unit
        for k in range(size):
            model.gain[k], model.cap[k] = float(gain[k]), float(cap[k])

    def start(problem: EnergyEfficiency, x: Point) -> None:
        unit = _scaled(problem, size)[3]
        for k, value in enumerate(np.asarray(x["power_w"])):
            model.y[k] = float(value) / unit

    def point(_: EnergyEfficiency) -> Point:
        return {"power_w": np.array([pyo.value(model.power_w[k]) for k in model.k])}

    return Handle(model, assign, point, start)


MODELS: dict[str, Callable[[int, bool], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
