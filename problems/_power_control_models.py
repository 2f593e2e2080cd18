"""Power control for other people's solvers: logarithmic coordinates, cvxpy and pyomo models.

A geometric program in q = ln y, y = p/cap in (0, 1]: what link i hears is the log-sum-exp of
``ln v_i`` and ``ln A_ij + q_j`` over the non-zero gains (a zero has no logarithm).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Handle, Model, Smooth
from rralloc.problems._interference import times
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.power_control import MaxMinSINR, PowerForSINR
    from rralloc.problems.sinr_product import SINRProduct

Builder = Callable[..., Handle]
FLOOR = 1e-100
"""Shares of a cap below this are not told apart in logarithms."""


def pattern(problem: MaxMinSINR | SINRProduct) -> Array:
    """Which cross gains are not zero, ``(K, K)``, in any instance."""
    return np.asarray((problem._cross > 0).reshape(-1, *problem._cross.shape[-2:]).any(0))


def log_model(
    problem: MaxMinSINR | SINRProduct, builders: dict[str, Builder], total: bool
) -> Model:
    """Which gains are zero and whether there is a total is structure, the rest is data."""
    if not (problem._direct > 0).all():
        raise NotOffered(f"{problem.dead_links()}; it has no logarithm")
    size, there = problem.sizes["K"], pattern(problem)
    return Model(
        (type(problem).__name__, size, there.tobytes(), total),
        lambda backend: builders[backend](there, total),
    )


# -- flat coordinates -----------------------------------------------------------------------------


class _Logarithmic:
    """One instance in z = ln y: signal-to-noise ratios in shares, and their derivatives."""

    def __init__(self, problem: MaxMinSINR | SINRProduct, cap: Array) -> None:
        self.size = problem.sizes["K"]
        if not (problem._direct > 0).all():
            raise NotOffered(f"{problem.dead_links()}: it has no logarithm")
        self.cap = np.broadcast_to(cap, self.size)
        signal = problem._direct * self.cap
        self.loop = problem._cross * self.cap / signal[:, None]
        self.need = problem.noise_w / signal

    def flatten(self, x: Point) -> Array:
        return np.log(np.maximum(np.asarray(x["power_w"]) / self.cap, FLOOR))

    def unflatten(self, z: Array) -> Point:
        return {"power_w": np.exp(z) * self.cap}

    def log_sinr(self, z: Array) -> tuple[Array, Array]:
        """ln SINR ``(K,)`` and its Jacobian: the identity minus the interference shares."""
        share = np.exp(z)
        heard = self.need + times(self.loop, share)
        return z - np.log(heard), np.eye(self.size) - self.loop * share / heard[:, None]


class LogProduct(_Logarithmic):
    """SINRProduct: minimise minus the sum of ln SINR."""

    def __init__(self, problem: SINRProduct) -> None:
        super().__init__(problem, problem.power_max_w)

    def form(self) -> Smooth:
        low = np.full(self.size, np.log(FLOOR))
        nothing = np.zeros(0), np.zeros((0, self.size))
        return Smooth(
            self.flatten,
            self.unflatten,
            (low, np.zeros(self.size)),
            self.value_grad,
            lambda z: nothing,
            np.zeros(0, dtype=bool),
        )

    def value_grad(self, z: Array) -> tuple[float, Array]:
        value, jac = self.log_sinr(z)
        return float(-value.sum()), -jac.sum(0)


class Epigraph(_Logarithmic):
    """MaxMinSINR: a further coordinate ln t below every ln SINR, and the total as a logarithm."""

    def __init__(self, problem: MaxMinSINR) -> None:
        super().__init__(problem, problem.power_cap_w)
        self.problem = problem
        self.part = self.cap / problem.total_power_w

    def form(self) -> Smooth:
        low = np.append(np.full(self.size, np.log(FLOOR)), -np.inf)
        high = np.append(np.zeros(self.size), np.inf)
        kinds = np.zeros(self.size + bool(self.part.any()), dtype=bool)
        flat = super().flatten

        def flatten(x: Point) -> Array:
            z = flat(x)
            return np.append(z, self.log_sinr(z)[0].min())

        return Smooth(
            flatten,
            lambda z: self.unflatten(z[:-1]),
            (low, high),
            lambda z: (float(-z[-1]), np.append(np.zeros(self.size), -1.0)),
            self.constraints_jac,
            kinds,
        )

    def constraints_jac(self, z: Array) -> tuple[Array, Array]:
        value, slopes = self.log_sinr(z[:-1])
        slack, jac = value - z[-1], np.hstack([slopes, np.full((self.size, 1), -1.0)])
        if self.part.any():
            used = self.part * np.exp(z[:-1])
            slack = np.append(slack, -np.log(used.sum()))
            jac = np.vstack([jac, np.append(-used / used.sum(), 0.0)])
        return slack, jac


# -- models ---------------------------------------------------------------------------------------


def _data(problem: Any) -> tuple[Array, Array, Array]:
    """A, v in shares of the caps, and the caps, of one instance."""
    size = problem.sizes["K"]
    cap = getattr(problem, "power_cap_w", problem.power_max_w)
    cap = np.broadcast_to(cap, size)
    signal = problem._direct * cap
    return problem._cross * cap / signal[:, None], problem.noise_w / signal, cap


class _LogCvxpy:
    """Variables, parameters and what each link hears, of the non-zero gains only."""

    def __init__(self, there: Array) -> None:
        import cvxpy as cp

        self.there, self.size = there, len(there)
        self.q = cp.Variable(self.size, nonpos=True)
        self.noise = cp.Parameter(self.size)
        self.gain = cp.Parameter(max(int(there.sum()), 1))
        place = np.cumsum(there).reshape(there.shape) - 1
        self.heard = [
            cp.log_sum_exp(
                cp.hstack(
                    [self.noise[i]]
                    + [self.gain[int(place[i, j])] + self.q[j] for j in np.flatnonzero(there[i])]
                )
            )
            for i in range(self.size)
        ]

    def assign(self, problem: Any) -> None:
        loop, need, _ = _data(problem)
        gains = np.log(loop[self.there])
        self.gain.value = gains if gains.size else np.zeros(1)
        self.noise.value = np.broadcast_to(np.log(need), self.size)

    def point(self, problem: Any) -> Point:
        return {"power_w": np.exp(self.q.value) * _data(problem)[2]}


def _max_min_cvxpy(there: Array, total: bool) -> Handle:
    import cvxpy as cp

    links, least = _LogCvxpy(there), cp.Variable()
    limits = [heard - links.q[i] + least <= 0 for i, heard in enumerate(links.heard)]
    part = cp.Parameter(links.size)
    if total:
        limits.append(cp.log_sum_exp(links.q + part) <= 0)

    def assign(problem: MaxMinSINR) -> None:
        links.assign(problem)
        if total:
            part.value = np.log(_data(problem)[2] / problem.total_power_w)

    return Handle(cp.Problem(cp.Maximize(least), limits), assign, links.point)


def _product_cvxpy(there: Array, total: bool) -> Handle:
    import cvxpy as cp

    links = _LogCvxpy(there)
    model = cp.Problem(cp.Minimize(sum(links.heard) - cp.sum(links.q)))
    return Handle(model, links.assign, links.point)


class _LogPyomo:
    """The same in pyomo; zero gains are zero coefficients there."""

    def __init__(self, size: int) -> None:
        import pyomo.environ as pyo

        self.size = size
        self.model = model = pyo.ConcreteModel()
        model.k = pyo.RangeSet(0, size - 1)
        model.gain = pyo.Param(model.k, model.k, mutable=True, initialize=1.0)
        for name in ("noise", "cap_w", "part"):
            setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
        model.q = pyo.Var(model.k, bounds=(None, 0), initialize=-0.1)
        model.power_w = pyo.Expression(model.k, rule=lambda m, k: m.cap_w[k] * pyo.exp(m.q[k]))

    def heard(self, i: int) -> Any:
        import pyomo.environ as pyo

        model = self.model
        others = sum(model.gain[i, j] * pyo.exp(model.q[j]) for j in model.k if j != i)
        return pyo.log(model.noise[i] + others)

    def assign(self, problem: Any) -> None:
        loop, need, cap = _data(problem)
        part = cap / getattr(problem, "total_power_w", np.inf)
        for i in range(self.size):
            self.model.noise[i], self.model.cap_w[i] = float(need[i]), float(cap[i])
            self.model.part[i] = float(part[i])
            for j in range(self.size):
                self.model.gain[i, j] = float(loop[i, j])

    def start(self, problem: Any, x: Point) -> None:
        share = np.maximum(np.asarray(x["power_w"]) / _data(problem)[2], FLOOR)
        for k in range(self.size):
            self.model.q[k] = float(np.log(share[k]))

    def point(self, _: Any) -> Point:
        import pyomo.environ as pyo

        return {"power_w": np.array([pyo.value(self.model.power_w[k]) for k in self.model.k])}


def _max_min_pyomo(there: Array, total: bool) -> Handle:
    import pyomo.environ as pyo

    links = _LogPyomo(len(there))
    model = links.model
    model.least = pyo.Var(initialize=0.0)
    model.sinr = pyo.Constraint(model.k, rule=lambda m, k: m.q[k] - links.heard(k) >= m.least)
    if total:
        used = sum(model.part[k] * pyo.exp(model.q[k]) for k in model.k)
        model.total = pyo.Constraint(expr=used <= 1)
    model.best = pyo.Objective(expr=model.least, sense=pyo.maximize)
    return Handle(model, links.assign, links.point, links.start)


def _product_pyomo(there: Array, total: bool) -> Handle:
    import pyomo.environ as pyo

    links = _LogPyomo(len(there))
    model = links.model
    product = sum(model.q[k] - links.heard(k) for k in model.k)
    model.best = pyo.Objective(expr=product, sense=pyo.maximize)
    return Handle(model, links.assign, links.point, links.start)


def _scaled(problem: PowerForSINR) -> tuple[Array, Array, Array, Array]:
    """Loop, need and caps in y = p/scale, and each link's share of the total scale."""
    scale = problem.power_scale_w
    loop, need = problem._loop
    loop = loop * scale / scale[:, None]
    cap = np.broadcast_to(problem.power_max_w, scale.shape) / scale
    return loop, np.broadcast_to(need, scale.shape) / scale, cap, scale / scale.sum()


def _least_cvxpy(size: int, capped: bool) -> Handle:
    import cvxpy as cp

    y, loop = cp.Variable(size, nonneg=True), cp.Parameter((size, size), nonneg=True)
    need, cap, weight = (cp.Parameter(size, nonneg=True) for _ in range(3))
    limits = [y >= loop @ y + need, *([y <= cap] if capped else [])]
    model = cp.Problem(cp.Minimize(weight @ y), limits)

    def assign(problem: PowerForSINR) -> None:
        loop.value, need.value, least_cap, weight.value = _scaled(problem)
        cap.value = np.minimum(least_cap, 1e6)  # a cap far away does not bind

    return Handle(model, assign, lambda p: {"power_w": y.value * p.power_scale_w})


def _least_pyomo(size: int, capped: bool) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.loop = pyo.Param(model.k, model.k, mutable=True, initialize=0.0)
    for name in ("need", "cap", "weight", "scale_w"):
        setattr(model, name, pyo.Param(model.k, mutable=True, initialize=1.0))
    model.y = pyo.Var(model.k, bounds=(0, None), initialize=1.1)
    model.power_w = pyo.Expression(model.k, rule=lambda m, k: m.scale_w[k] * m.y[k])
    model.sinr = pyo.Constraint(
        model.k,
        rule=lambda m, k: m.y[k] >= m.need[k] + sum(m.loop[k, j] * m.y[j] for j in m.k if j != k),
    )
    if capped:
        model.capped = pyo.Constraint(model.k, rule=lambda m, k: m.y[k] <= m.cap[k])
    model.total = pyo.Objective(expr=sum(model.weight[k] * model.y[k] for k in model.k))

    def assign(problem: PowerForSINR) -> None:
        loop, need, cap, weight = _scaled(problem)
        for k in range(size):
            model.need[k], model.weight[k] = float(need[k]), float(weight[k])
            model.cap[k] = min(float(cap[k]), 1e6)
            model.scale_w[k] = float(problem.power_scale_w[k])
            for j in range(size):
                model.loop[k, j] = float(loop[k, j])

    def start(problem: PowerForSINR, x: Point) -> None:
        for k, value in enumerate(np.asarray(x["power_w"]) / problem.power_scale_w):
            model.y[k] = float(value)

    def point(_: PowerForSINR) -> Point:
        return {"power_w": np.array([pyo.value(model.power_w[k]) for k in model.k])}

    return Handle(model, assign, point, start)


MAX_MIN: dict[str, Builder] = {"cvxpy": _max_min_cvxpy, "pyomo": _max_min_pyomo}
PRODUCT: dict[str, Builder] = {"cvxpy": _product_cvxpy, "pyomo": _product_pyomo}
LEAST_POWER: dict[str, Builder] = {"cvxpy": _least_cvxpy, "pyomo": _least_pyomo}
