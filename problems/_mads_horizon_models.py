"""The horizon of MADS for other people's solvers, scaled as spec mads.md §4 advises.

    max sum alpha x   s.t.  c x <= r log(1 + q e/r),  e <= r,  sum_r eps (e + delta r) <= 1

with x = k/k_max, e = p t/(p_max tau), r = t/tau in [0, 1], c = ln 2 y(k_max), q = p_max g,
eps = tau p_max/E, delta = P_c/p_max. Without circuits r = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.forms import Handle
from rralloc.numerics.logexp import LN2
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.mads_horizon import MADSHorizon

NAMES = ("alpha", "c", "q", "eps", "delta")
LEAST_SHARE = 1e-9
"""Least share of the contact for a solver that divides by it."""
Size = tuple[int, int, bool]


def normalised(problem: MADSHorizon) -> dict[str, Array]:
    """The parameters ``(R, N)``; who cannot send has no value and harmless limits."""
    d, packet, top = problem.devices, problem.packet, problem.kept_max
    able = (top > 0) & (d.value > 0) & (problem.energy_budget_j[..., None, :] > 0)
    with np.errstate(all="ignore"):
        found = {
            "alpha": d.value * top,
            "c": d.y_for(top * packet.bits) * LN2,
            "q": d.power_max * d.snr,
            "eps": d.contact_s * d.power_max / problem.energy_budget_j[..., None, :],
            "delta": problem.circuit_power_w[..., None, :] / d.power_max,
        }
    # A hint of a price keeps e of a silent round from being anything at all.
    harmless = {"alpha": 0.0, "c": 1.0, "q": 1.0, "eps": 0.01 / len(able), "delta": 0.0}
    full = {n: np.where(able, v, harmless[n]) for n, v in found.items()}
    full["alpha"] = full["alpha"] / (full["alpha"].max() or 1.0)
    return full


def point(problem: MADSHorizon, x: Array, e: Array, r: Array) -> Point:
    """Physical units, nothing where no time is used."""
    x, e, r = (np.clip(np.asarray(v, dtype=float), 0.0, 1.0) for v in (x, e, r))
    with np.errstate(all="ignore"):
        power = np.where(r > 0, problem.devices.power_max * np.minimum(e / r, 1.0), 0.0)
    return {
        "kept": problem.kept_max * x,
        "power_w": power,
        "airtime_s": problem.devices.contact_s * r,
    }


def _cvxpy(size: Size) -> Handle:
    import cvxpy as cp

    rounds, devices, circuits = size
    shape = (rounds, devices)
    data = {n: cp.Parameter(shape, nonneg=True) for n in NAMES}
    x, e = (cp.Variable(shape, nonneg=True) for _ in range(2))
    limits = [x <= 1]
    drawn = cp.multiply(data["eps"], e)
    if circuits:
        # eps delta; and the perspective with its second argument scaled to [0, 1]
        cost, unit, share, most = (cp.Parameter(shape, nonneg=True) for _ in range(4))
        r: Any = cp.Variable(shape, nonneg=True)
        level = cp.multiply(unit, r) + cp.multiply(share, e)  # (r + q e)/(1 + q)
        sent = cp.multiply(most, r) - cp.rel_entr(r, level)
        limits += [e <= r, r <= 1]
        drawn = drawn + cp.multiply(cost, r)
    else:
        r, sent = np.ones(shape), cp.log(1 + cp.multiply(data["q"], e))
        limits += [e <= 1]
    limits += [cp.multiply(data["c"], x) <= sent, cp.sum(drawn, axis=0) <= 1]
    model = cp.Problem(cp.Maximize(cp.sum(cp.multiply(data["alpha"], x))), limits)

    def assign(problem: MADSHorizon) -> None:
        found = normalised(problem)
        for name, parameter in data.items():
            parameter.value = found[name]
        if circuits:
            cost.value, most.value = found["eps"] * found["delta"], np.log1p(found["q"])
            unit.value, share.value = 1 / (1 + found["q"]), found["q"] / (1 + found["q"])

    def read(problem: MADSHorizon) -> Point:
        return point(problem, x.value, e.value, r.value if circuits else r)

    return Handle(model, assign, read)


def _pyomo(size: Size) -> Handle:
    import pyomo.environ as pyo

    rounds, devices, circuits = size
    model = pyo.ConcreteModel()
    model.n = pyo.RangeSet(0, devices - 1)
    model.i = pyo.RangeSet(0, rounds - 1) * model.n
    for name in NAMES:
        setattr(model, name, pyo.Param(model.i, mutable=True, initialize=1.0))
    model.x = pyo.Var(model.i, bounds=(0, 1), initialize=0.1)
    model.e = pyo.Var(model.i, bounds=(0, 1), initialize=0.1)
    model.r = pyo.Var(model.i, bounds=(LEAST_SHARE if circuits else 1, 1), initialize=1.0)

    def sent(m: Any, t: int, n: int) -> Any:
        i = (t, n)
        return m.c[i] * m.x[i] <= m.r[i] * pyo.log(1 + m.q[i] * m.e[i] / m.r[i])

    def spent(m: Any, n: int) -> Any:
        cells = [(t, n) for t in range(rounds)]
        return sum(m.eps[i] * (m.e[i] + m.delta[i] * m.r[i]) for i in cells) <= 1

    model.sent = pyo.Constraint(model.i, rule=sent)
    model.peak = pyo.Constraint(model.i, rule=lambda m, t, n: m.e[t, n] <= m.r[t, n])
    model.spent = pyo.Constraint(model.n, rule=spent)
    worth = sum(model.alpha[i] * model.x[i] for i in model.i)
    model.worth = pyo.Objective(expr=worth, sense=pyo.maximize)

    def assign(problem: MADSHorizon) -> None:
        for name, values in normalised(problem).items():
            for i in np.ndindex(values.shape):
                getattr(model, name)[i] = float(values[i])

    def read(problem: MADSHorizon) -> Point:
        found = [
            np.array([[pyo.value(v[t, n]) for n in range(devices)] for t in range(rounds)])
            for v in (model.x, model.e, model.r)
        ]
        return point(problem, *found)

    return Handle(model, assign, read)


MODELS: dict[str, Callable[[Size], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
