"""MADS for other people's solvers: shares x = k/k_max, e = p t/(p_max tau), r = t/tau.

    max sum_n alpha_n x_n - beta_n e_n - gamma_n r_n
    s.t. c x <= r log(1 + q e/r),  0 <= x <= 1,  0 <= e <= r <= 1,  e + delta r <= eta

with c = ln 2 y(k_max), q = p_max g, delta = P_c/p_max, eta the energy budget. Convex: the right
side is a perspective, r log(1 + q) - rel_entr(r, (r + q e)/(1 + q)) with terms of size one. Source:
spec mads.md §2.7 and §4, scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rralloc.forms import Handle, Smooth
from rralloc.numerics.logexp import LN2
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.mads import MADS

NAMES = ("alpha", "beta", "gamma", "c", "q", "delta", "eta")
LEAST_SHARE = 1e-9
"""Least share of the contact for solvers that divide by it."""


def _normalised(problem: MADS, size: int) -> dict[str, Array]:
    """The parameters; who cannot send has k_max = 0, pays like another, and has harmless limits."""
    tau, p_max, g = problem.contact_s, problem.power_max_w, problem.snr_per_watt
    top, Q, P_c = problem.kept_max, problem.energy_price, problem.circuit_power_w
    able = np.broadcast_to(top > 0, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        c = top * problem.bits_per_coordinate * LN2 / problem.bandwidth_hz / tau
        delta = np.where(able, P_c / p_max, 0.0)
        budget = np.inf if problem.energy_budget_j is None else problem.energy_budget_j
        eta = np.where(able, np.minimum(budget / (tau * p_max), 1 + delta), 1.0)
    values = {"alpha": problem.value * top, "beta": Q * tau * p_max, "gamma": Q * tau * P_c}
    unit = max(float(np.abs(v).max()) for v in values.values()) or 1.0
    limits = {"c": np.where(able, c, 1.0), "q": np.where(able, p_max * g, 1.0)}
    return {n: v / unit for n, v in values.items()} | limits | {"delta": delta, "eta": eta}


class Shares:
    """Flat coordinates (x, e, r) of one instance: a linear objective over a convex set."""

    def __init__(self, problem: MADS) -> None:
        self.problem, self.size = problem, problem.sizes["N"]
        found = _normalised(problem, self.size)
        data = (np.broadcast_to(found[name], self.size) for name in NAMES)
        alpha, beta, gamma, self.c, self.q, self.delta, self.eta = data
        self.cost = np.concatenate([-alpha, beta, gamma])

    def form(self) -> Smooth:
        low = np.repeat([0.0, 0.0, LEAST_SHARE], self.size)
        count = 2 * self.size + (self.problem.energy_budget_j is not None) * self.size
        return Smooth(
            self.flatten,
            lambda z: _point(self.problem, *z.reshape(3, -1)),
            (low, np.ones(3 * self.size)),
            lambda z: (float(self.cost @ z), self.cost),
            self.constraints_jac,
            np.zeros(count, dtype=bool),
        )

    def flatten(self, x: Point) -> Array:
        return np.concatenate(_shares(self.problem, x))

    def constraints_jac(self, z: Array) -> tuple[Array, Array]:
        x, e, r = z.reshape(3, -1)
        r = np.maximum(r, 1e-12)
        snr = self.q * e / r
        log = np.log1p(np.maximum(snr, -0.5))
        eye, none = np.eye(self.size), np.zeros((self.size, self.size))
        rows = [
            (r * log - self.c * x, [-self.c, self.q / (1 + snr), log - snr / (1 + snr)]),
            (r - e, [none, -eye, eye]),
        ]
        if self.problem.energy_budget_j is not None:
            rows.append((self.eta - e - self.delta * r, [none, -eye, -self.delta]))
        blocks = [[b * eye if b.ndim == 1 else b for b in row] for _, row in rows]
        return np.concatenate([slack for slack, _ in rows]), np.block(blocks)


def _shares(problem: MADS, x: Point) -> tuple[Array, Array, Array]:
    """x, e, r of a point; 0 where there is nothing to share."""
    r, p = (
        np.asarray(x[name]) / np.where(whole > 0, whole, 1.0)
        for name, whole in (("airtime_s", problem.contact_s), ("power_w", problem.power_max_w))
    )
    kept = np.asarray(x["kept"]) / np.where(problem.kept_max > 0, problem.kept_max, 1.0)
    return kept, p * r, r


def _point(problem: MADS, x: Array, e: Array, r: Array) -> Point:
    """Physical units, nothing where no time is used; never more than fits."""
    x, e, r = (np.asarray(v, dtype=float) for v in (x, e, r))
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(r > 0, problem.power_max_w * e / r, 0.0)
    return {
        "kept": problem.kept_max * x,
        "power_w": power,
        "airtime_s": problem.contact_s * r,
    }


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    data = {n: cp.Parameter(size, nonneg=n != "alpha") for n in NAMES if n != "q"}
    x, e, r = (cp.Variable(size, nonneg=True) for _ in range(3))
    unit, share, most = (cp.Parameter(size, nonneg=True) for _ in range(3))
    worth = data["alpha"] @ x - data["beta"] @ e - data["gamma"] @ r
    level = cp.multiply(unit, r) + cp.multiply(share, e)
    sent = cp.multiply(data["c"], x) <= cp.multiply(most, r) - cp.rel_entr(r, level)
    spent = e + cp.multiply(data["delta"], r) <= data["eta"]
    model = cp.Problem(cp.Maximize(worth), [sent, spent, x <= 1, e <= r, r <= 1])

    def assign(problem: MADS) -> None:
        found = _normalised(problem, size)
        for name, values in found.items():
            if name in data:
                data[name].value = np.broadcast_to(values, size)
        q = np.broadcast_to(found["q"], size)
        unit.value, share.value, most.value = 1 / (1 + q), q / (1 + q), np.log1p(q)

    return Handle(model, assign, lambda p: _point(p, x.value, e.value, r.value))


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.n = pyo.RangeSet(0, size - 1)
    for name in NAMES:
        setattr(model, name, pyo.Param(model.n, mutable=True, initialize=1.0))
    model.x = pyo.Var(model.n, bounds=(0, 1), initialize=0.1)
    model.e = pyo.Var(model.n, bounds=(0, 1), initialize=0.5)
    model.r = pyo.Var(model.n, bounds=(LEAST_SHARE, 1), initialize=0.9)
    model.sent = pyo.Constraint(
        model.n,
        rule=lambda m, n: m.c[n] * m.x[n] <= m.r[n] * pyo.log(1 + m.q[n] * m.e[n] / m.r[n]),
    )
    model.peak = pyo.Constraint(model.n, rule=lambda m, n: m.e[n] <= m.r[n])
    model.spent = pyo.Constraint(
        model.n, rule=lambda m, n: m.e[n] + m.delta[n] * m.r[n] <= m.eta[n]
    )
    model.worth = pyo.Objective(
        expr=sum(
            model.alpha[n] * model.x[n] - model.beta[n] * model.e[n] - model.gamma[n] * model.r[n]
            for n in model.n
        ),
        sense=pyo.maximize,
    )

    def assign(problem: MADS) -> None:
        for name, values in _normalised(problem, size).items():
            for n, value in enumerate(np.broadcast_to(values, size)):
                getattr(model, name)[n] = float(value)

    def start(problem: MADS, x: Point) -> None:
        for name, values in zip("xer", _shares(problem, x)):
            low = LEAST_SHARE if name == "r" else 0.0
            for n, value in enumerate(np.clip(values, low, 1.0)):
                getattr(model, name)[n] = float(value)

    def point(problem: MADS) -> Point:
        found = [np.array([pyo.value(v[n]) for n in model.n]) for v in (model.x, model.e, model.r)]
        return _point(problem, *found)

    return Handle(model, assign, point, start)


MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
