"""Models of subcarrier assignment for cvxpy and Pyomo: relaxations whose optimum has owners."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rralloc.forms import Handle
from rralloc.typing import Point

if TYPE_CHECKING:
    from rralloc.problems.subcarrier_assignment import SubcarrierAssignment, SubcarrierQuota


def shares_cvxpy(devices: int, count: int) -> Handle:
    """a log(1 + q y/a) with the power y of each pair: concave in both; over P, as y <= 1."""
    import cvxpy as cp

    shape = (devices, count)
    q, a, y = cp.Parameter(shape, nonneg=True), cp.Variable(shape), cp.Variable(shape, nonneg=True)
    rate = -cp.sum(cp.rel_entr(a, a + cp.multiply(q, y)))
    model = cp.Problem(cp.Maximize(rate), [cp.sum(a, axis=0) <= 1, cp.sum(y) <= 1])

    def assign(problem: SubcarrierAssignment) -> None:
        q.value = np.broadcast_to(problem.gain * problem.power_budget_w, shape)

    def point(problem: SubcarrierAssignment) -> Point:
        return {"assigned": a.value, "power_w": y.value.sum(0) * problem.power_budget_w}

    return Handle(model, assign, point)


def _cvxpy(devices: int, count: int) -> Handle:
    import cvxpy as cp

    shape = (devices, count)
    rates, places = cp.Parameter(shape, nonneg=True), cp.Parameter(devices, nonneg=True)
    a = cp.Variable(shape, nonneg=True)
    rules = [cp.sum(a, axis=0) <= 1, cp.sum(a, axis=1) == places]
    model = cp.Problem(cp.Maximize(cp.sum(cp.multiply(rates, a))), rules)

    def assign(problem: SubcarrierQuota) -> None:
        rates.value = problem.rates / max(float(problem.rates.max()), 1e-300)
        places.value = problem._quota

    return Handle(model, assign, lambda _: {"assigned": a.value})


def _pyomo(devices: int, count: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k, model.f = pyo.RangeSet(0, devices - 1), pyo.RangeSet(0, count - 1)
    model.rate = pyo.Param(model.k, model.f, mutable=True, initialize=1.0)
    model.places = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.a = pyo.Var(model.k, model.f, bounds=(0, 1), initialize=1 / devices)
    model.owner = pyo.Constraint(model.f, rule=lambda m, f: sum(m.a[k, f] for k in model.k) <= 1)
    model.quota = pyo.Constraint(
        model.k, rule=lambda m, k: sum(m.a[k, f] for f in model.f) == m.places[k]
    )
    total = sum(model.rate[k, f] * model.a[k, f] for k in model.k for f in model.f)
    model.total = pyo.Objective(expr=total, sense=pyo.maximize)

    def assign(problem: SubcarrierQuota) -> None:
        scale = max(float(problem.rates.max()), 1e-300)
        for k in range(devices):
            model.places[k] = int(problem._quota[k])
            for f in range(count):
                model.rate[k, f] = float(problem.rates[k, f]) / scale

    def point(_: SubcarrierQuota) -> Point:
        share = [[pyo.value(model.a[k, f]) for f in range(count)] for k in range(devices)]
        return {"assigned": np.array(share)}

    return Handle(model, assign, point)


QUOTA: dict[str, Callable[[int, int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
