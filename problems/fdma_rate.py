"""FDMA sum rate: one band shared by devices that each have their own power.

    max  sum_k w_k b_k log2(1 + q_k/b_k)     s.t.  sum_k b_k <= B,  b >= 0

q_k = P_k g_k/N0 is the received power over noise density [Hz], b_k the bandwidth [Hz]. With equal
weights b is proportional to q and the value is B log2(1 + sum q/B), the multiple-access bound.
Otherwise one price nu of bandwidth fixes every share. Source: spec rrm.md §15 item 10 (equal
weights); the weighted case is derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Level, Model, offers
from rralloc.numerics.logexp import LN2, inverse_log1p_excess
from rralloc.numerics.memo import last_call
from rralloc.numerics.rates import rate, rate_slope
from rralloc.numerics.shapes import within_budget
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness


class FDMARate(Problem):
    """Maximise the weighted sum rate over the split of one band.

    Problem
        max sum_k w_k b_k log2(1 + q_k/b_k)  s.t.  sum_k b_k <= B, b_k >= 0.

    Parameters
        snr_bandwidth_hz: q ``(..., K)``, Hz, >= 0, received power over noise density P g/N0.
        bandwidth_budget_hz: B ``(...)``, Hz, > 0.
        weight: w ``(..., K)``, >= 0, default 1.
    Variables
        bandwidth_hz: b ``(..., K)``, Hz.
    Bound
        Lagrangian dual at a price nu [bit/s/Hz]: nu B + sum_k w_k q_k/((1+s_k) ln2) with
        w_k [log2(1+s_k) - s_k/((1+s_k) ln2)] = nu.
    Choose this when
        devices send at once on separate bands with fixed power and total rate is what counts.
    Source
        Spec rrm.md §15 item 10; weights, dual and level form derived.
    """

    sense = "max"
    unit = "bit/s"
    source = "classic; rrm.md §15.10"
    bound_method = "Lagrangian dual at the price of bandwidth"

    snr_bandwidth_hz: Field = data("K", unit="Hz", low=0, doc="received power over noise density")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")
    weight: Field = data("K", unit="1", low=0, default=1.0, doc="weight of the device's rate")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading at 10 dB mean SNR over an equal share of 1 MHz."""
        q = 1e7 / shape[-1] * rng.exponential(size=shape)
        return {"snr_bandwidth_hz": q, "bandwidth_budget_hz": 1e6}

    def objective(self, x: Point) -> Array:
        """Weighted sum rate in bit/s."""
        return (self.weight * rate(x["bandwidth_hz"], self.snr_bandwidth_hz)).sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band."""
        slack = self.bandwidth_budget_hz - x["bandwidth_hz"].sum(-1)
        return (Constraint("total bandwidth", slack, "Hz", self.bandwidth_budget_hz),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to b >= 0 and scale down onto the band."""
        return {"bandwidth_hz": within_budget(x["bandwidth_hz"], self.bandwidth_budget_hz)}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal``: the same band for all; ``best``: the whole band to the largest w q."""
        shape = self.shape_of(type(self).bandwidth_hz)
        total = self.bandwidth_budget_hz[..., None]

        def equal() -> Point:
            return {"bandwidth_hz": np.broadcast_to(total / shape[-1], shape)}

        def best() -> Point:
            strongest = (self.weight * self.snr_bandwidth_hz).argmax(-1)[..., None]
            chosen = np.arange(shape[-1]) == strongest
            return {"bandwidth_hz": np.broadcast_to(total * chosen, shape)}

        return {"equal": equal, "best": best}

    # -- the price of bandwidth -------------------------------------------------------------

    def _marginal(self, band: Array) -> Array:
        """w r'(b), bit/s/Hz."""
        return self.weight * rate_slope(band, self.snr_bandwidth_hz)

    def _exponent(self, price: Array) -> Array:
        """u = ln(1+s) at which each device's marginal rate is the price."""
        heavy = self.weight > 0
        with np.errstate(over="ignore"):
            rise = price[..., None] * LN2 / np.where(heavy, self.weight, 1.0)
        return inverse_log1p_excess(np.where(heavy, rise, np.inf))

    def _demand(self, exponent: Array) -> Array:
        """b = q/s."""
        with np.errstate(over="ignore"):
            return self.snr_bandwidth_hz / np.expm1(exponent)

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``price``, else at the mean marginal rate of x."""
        if witness is not None and "price" in witness:
            price = np.maximum(witness["price"], 0.0)
        else:
            price = self._price_of(x if x is not None else self.initial())
        useful = self.weight * self.snr_bandwidth_hz
        return price * self.bandwidth_budget_hz + (
            useful * np.exp(-self._exponent(price)) / LN2
        ).sum(-1)

    def _price_of(self, x: Point) -> Array:
        band = x["bandwidth_hz"]
        live = (band > 0) & (self.snr_bandwidth_hz * self.weight > 0)
        marginal = np.where(live, self._marginal(np.where(live, band, 1.0)), 0.0)
        share = np.where(live, band, 0.0)
        total = share.sum(-1)
        return (share * marginal).sum(-1) / np.where(total > 0, total, 1.0)

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Equal weights: b proportional to q."""
        if np.any(self.weight != self.weight[..., :1]):
            raise NotOffered("weights differ between devices: no closed form, ask for Level")

        def point() -> Point:
            total = self.snr_bandwidth_hz.sum(-1, keepdims=True)
            size = self.sizes["K"]
            share = np.where(total > 0, self.snr_bandwidth_hz, 1.0)
            share = share / np.where(total > 0, total, size)
            return {"bandwidth_hz": share * self.bandwidth_budget_hz[..., None]}

        return ClosedForm(point)

    @offers(Level)
    def level(self) -> Level:
        """level = price of bandwidth; each device asks for q/s(price)."""
        live = (self.weight > 0) & (self.snr_bandwidth_hz > 0)
        if not live.any(-1).all():
            raise NotOffered("some instance has no device with weight and signal: no price")
        total = self.bandwidth_budget_hz
        whole = np.broadcast_to(total[..., None], live.shape)
        low = np.where(live, self._marginal(whole), np.inf).min(-1)
        high = np.where(live, self._marginal(whole / live.shape[-1]), 0.0).max(-1)

        exponent_at = last_call(self._exponent)

        def demand(price: Array) -> Array:
            return self._demand(exponent_at(price))

        def slope(price: Array) -> Array:
            u = exponent_at(price)
            # db/dnu = -(q/s^2) ds/dnu and w s/((1+s)^2 ln2) ds = dnu.
            with np.errstate(all="ignore"):
                s = np.expm1(u)
                each = -self.snr_bandwidth_hz * (1 + s) ** 2 * LN2 / (self.weight * s**3)
            return np.where(live, each, 0.0).sum(-1)

        return Level(
            lambda price: {"bandwidth_hz": demand(price)},
            lambda price: demand(price).sum(-1),
            total,
            (low, high),
            "log",
            slope,
            lambda price: {"price": price},
        )

    @offers(Model)
    def model(self) -> Model:
        """Normalised: y = b/B; DPP because w rel_entr(y, y+q) = rel_entr(w y, w y + w q)."""
        size = self.sizes["K"]
        return Model(("FDMARate", size), lambda backend: _MODELS[backend](size))


def _normalised(problem: FDMARate, size: int) -> tuple[Array, Array, float]:
    total = float(problem.bandwidth_budget_hz)
    q = np.broadcast_to(problem.snr_bandwidth_hz / total, size)
    return q, np.broadcast_to(problem.weight, size), total


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    weight, useful = cp.Parameter(size, nonneg=True), cp.Parameter(size, nonneg=True)
    y = cp.Variable(size, nonneg=True)
    heard = cp.multiply(weight, y)
    rates = -cp.rel_entr(heard, heard + useful)
    model = cp.Problem(cp.Maximize(cp.sum(rates)), [cp.sum(y) <= 1])

    def assign(problem: FDMARate) -> None:
        q, weight.value, _ = _normalised(problem, size)
        useful.value = weight.value * q

    return Handle(model, assign, lambda p: {"bandwidth_hz": y.value * p.bandwidth_budget_hz})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.q = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.weight = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.total_hz = pyo.Param(mutable=True, initialize=1.0)
    model.y = pyo.Var(model.k, bounds=(1e-12, 1), initialize=1 / size)
    model.bandwidth_hz = pyo.Expression(model.k, rule=lambda m, k: m.total_hz * m.y[k])
    model.band = pyo.Constraint(expr=sum(model.y[k] for k in model.k) <= 1)
    rates = (model.weight[k] * model.y[k] * pyo.log(1 + model.q[k] / model.y[k]) for k in model.k)
    model.rate = pyo.Objective(expr=sum(rates), sense=pyo.maximize)

    def assign(problem: FDMARate) -> None:
        q, weight, total = _normalised(problem, size)
        model.total_hz = total
        for k in range(size):
            model.q[k], model.weight[k] = float(q[k]), float(weight[k])

    def start(problem: FDMARate, x: Point) -> None:
        for k, value in enumerate(x["bandwidth_hz"]):
            model.y[k] = max(float(value) / float(problem.bandwidth_budget_hz), 1e-12)

    def point(problem: FDMARate) -> Point:
        return {"bandwidth_hz": np.array([pyo.value(model.bandwidth_hz[k]) for k in model.k])}

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
