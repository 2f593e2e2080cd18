"""Water-filling: power over parallel channels, and its twin, the least power for a rate.

    max  sum_k log2(1 + g_k p_k)     s.t.  sum_k p_k <= P,  p >= 0          (WaterFilling)
    min  sum_k p_k                   s.t.  sum_k log2(1 + g_k p_k) >= R     (InverseWaterFilling)

g is the channel gain over noise [1/W], p the power [W], rates in bit/s/Hz. The optimum is
``p_k = [nu - 1/g_k]^+`` with one water level nu [W] in both. Source: spec rrm.md §15 item 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Level, Model, offers
from rralloc.numerics.logexp import LN2
from rralloc.numerics.shapes import batched, shrink
from rralloc.problem import Problem
from rralloc.typing import Array, Point, Witness


class WaterFilling(Problem):
    """Maximise the sum rate of parallel channels under one power budget.

    Problem
        max sum_k log2(1 + g_k p_k)  s.t.  sum_k p_k <= P, p_k >= 0.
    Parameters
        gain: g ``(..., K)``, 1/W, >= 0, the channel gain over noise. A channel with g = 0 gets none.
        power_budget_w: P ``(...)``, W, >= 0.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Lagrangian dual at a water level nu: for any nu > 0 no feasible point exceeds
        sum_k [log2(nu g_k)]^+ - (1/ln 2) sum_k [1 - 1/(nu g_k)]^+ + P/(nu ln 2).
    Errors
        InvalidProblem for negative, missing or infinite values.
    Choose this when
        channels do not interfere and only total power is limited (subcarriers, MIMO eigenmodes).
    Source
        Spec rrm.md §15 item 1; the dual bound is derived.
    """

    sense = "max"
    unit = "bit/s/Hz"
    source = "classic; rrm.md §15.1"
    bound_method = "Lagrangian dual at the water level"

    gain: Array = data("K", unit="1/W", low=0, doc="channel gain over noise power")
    power_budget_w: Array = data(unit="W", low=0, doc="total power")

    power_w = variable("K", unit="W", low=0, scale="power_budget_w", doc="transmit power")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        **settings: Any,
    ) -> Self:
        """Rayleigh fading at 10 dB mean SNR: g ~ Exp(1) at P = 10 W, unless set otherwise."""
        rng = np.random.default_rng(rng)
        shape = batched(batch, K)
        return cls(**{"gain": rng.exponential(size=shape), "power_budget_w": 10.0} | settings)

    def objective(self, x: Point) -> Array:
        """Sum rate in bit/s/Hz."""
        return np.log1p(self.gain * x["power_w"]).sum(-1) / LN2

    def gradient(self, x: Point) -> dict[str, Array]:
        """g/(1 + g p)/ln 2."""
        return {"power_w": self.gain / (1 + self.gain * x["power_w"]) / LN2}

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Total power."""
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return (Constraint("total power", slack, "W", self.power_budget_w),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to p >= 0 and scale down onto the budget."""
        power = np.maximum(x["power_w"], 0.0)
        return {"power_w": power * shrink(power.sum(-1), self.power_budget_w)[..., None]}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal``: the same power everywhere; ``best``: all power on the strongest channel."""
        shape = self.shape_of(type(self).power_w)

        def equal() -> Point:
            return {"power_w": np.broadcast_to(self.power_budget_w[..., None] / shape[-1], shape)}

        def best() -> Point:
            strongest = np.arange(shape[-1]) == self.gain.argmax(-1)[..., None]
            return {"power_w": np.broadcast_to(self.power_budget_w[..., None] * strongest, shape)}

        return {"equal": equal, "best": best}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual function at the witness's ``water_level_w``, or at the level read off x."""
        if witness is not None and "water_level_w" in witness:
            level = witness["water_level_w"]
        else:
            level = self._level_of(x if x is not None else self.initial())
        return self._dual(np.asarray(level))

    def _level_of(self, x: Point) -> Array:
        """p + 1/g of the strongest active channel; P + 1/g_max when nothing is active."""
        strongest = self.gain.argmax(-1)[..., None]
        best = np.broadcast_to(self.gain, x["power_w"].shape)
        power = np.take_along_axis(x["power_w"], strongest, -1)[..., 0]
        with np.errstate(divide="ignore"):
            return power + 1 / np.take_along_axis(best, strongest, -1)[..., 0]

    def _dual(self, level: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            lifted = np.maximum(level[..., None] * self.gain, 1.0)
            value = (np.log(lifted) - (1 - 1 / lifted)).sum(-1) + self.power_budget_w / level
        # A level of infinity (all gains zero) leaves rate zero: nothing can be sent.
        silent = ~(self.gain > 0).any(-1)
        return np.where(silent, 0.0, np.where(np.isnan(value), np.inf, value / LN2))

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Sort the channels, find how many are active, read the level off the budget."""
        return ClosedForm(self._filled, lambda: {"water_level_w": self._water_level()})

    def _filled(self) -> Point:
        return {"power_w": self._poured(self._water_level())}

    def _poured(self, level: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.maximum(level[..., None] - 1 / self.gain, 0.0)

    def _water_level(self) -> Array:
        """nu = (P + sum_{i <= m} 1/g_i)/m for the largest m whose m-th channel stays active."""
        with np.errstate(divide="ignore", invalid="ignore"):
            floor = np.sort(1 / self.gain, axis=-1)
            count = np.arange(1, floor.shape[-1] + 1)
            level = (self.power_budget_w[..., None] + floor.cumsum(-1)) / count
            active = (level > floor).sum(-1)
        last = np.maximum(active, 1)[..., None] - 1
        return np.take_along_axis(level, last, -1)[..., 0]

    @offers(Level)
    def level(self) -> Level:
        """level = 1/nu, the price of power: the power used falls as the price rises."""
        if not (self.power_budget_w > 0).all() or not (self.gain.max(-1) > 0).all():
            raise NotOffered("some instance has no power or no channel: no water level exists")
        best, total = self.gain.max(-1), self.power_budget_w
        count = self.gain.shape[-1]

        def point(price: Array) -> Point:
            return {"power_w": self._poured(1 / price)}

        def used(price: Array) -> Array:
            return self._poured(1 / price).sum(-1)

        def slope(price: Array) -> Array:
            return -(self.gain > price[..., None]).sum(-1) / price**2

        # nu lies between 1/g_max and P + 1/g_max; dividing P by K gives the tighter lower end.
        bracket = 1 / (total + 1 / best), 1 / (total / count + 1 / best)
        return Level(
            point, used, total, bracket, "log", slope, lambda p: {"water_level_w": 1 / p}
        )

    @offers(Model)
    def model(self) -> Model:
        """Normalised: y = p/P, q = g P; DPP because q enters only as a parameter times y."""
        size = self.sizes["K"]
        return Model(("WaterFilling", size), lambda backend: _MODELS[backend](size))


class InverseWaterFilling(Problem):
    """The twin of water-filling: the least total power that carries a sum rate.

    Problem
        min sum_k p_k  s.t.  sum_k log2(1 + g_k p_k) >= R, p_k >= 0.
    Parameters
        gain: g ``(..., K)``, 1/W, > 0.
        rate_target: R ``(...)``, bit/s/Hz, >= 0.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Weak duality at a water level nu: sum_k p_k(nu) + nu ln2 (R - sum_k r_k(nu)).
    Choose this when
        a rate is promised and energy is what counts (margin-adaptive loading).
    Source
        Spec rrm.md §15 item 1 ("dual twin").
    """

    sense = "min"
    unit = "W"
    source = "classic; rrm.md §15.1"
    bound_method = "Lagrangian dual at the water level"

    gain: Array = data("K", unit="1/W", low=0, open_low=True, doc="channel gain over noise power")
    rate_target: Array = data(unit="bit/s/Hz", low=0, doc="sum rate to carry")

    power_w = variable("K", unit="W", low=0, scale="power_scale_w", doc="transmit power")

    @property
    def power_scale_w(self) -> Array:
        """Power of sending everything on the strongest channel: a natural unit ``(..., 1)``."""
        return np.expm1(self.rate_target * LN2)[..., None] / self.gain.max(-1, keepdims=True)

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        **settings: Any,
    ) -> Self:
        """Rayleigh fading, 2 bit/s/Hz for each channel."""
        rng = np.random.default_rng(rng)
        return cls(**{"gain": rng.exponential(size=batched(batch, K)), "rate_target": 2.0 * K} | settings)

    def objective(self, x: Point) -> Array:
        """Total power in W."""
        return x["power_w"].sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The promised rate."""
        rate = np.log1p(self.gain * x["power_w"]).sum(-1) / LN2
        return (Constraint("sum rate", rate - self.rate_target, "bit/s/Hz", self.rate_target),)

    def points(self) -> dict[str, Callable[[], Point]]:
        """``best``: everything on the strongest channel."""

        def best() -> Point:
            strongest = self.gain == self.gain.max(-1, keepdims=True)
            first = strongest & (strongest.cumsum(-1) == 1)
            shape = self.shape_of(type(self).power_w)
            return {"power_w": np.broadcast_to(self.power_scale_w * first, shape)}

        return {"best": best}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """Weak duality at the witness's level, or at the highest p + 1/g of an active channel."""
        if witness is not None and "water_level_w" in witness:
            level = np.asarray(witness["water_level_w"])
        else:
            power = (x if x is not None else self.initial())["power_w"]
            level = np.where(power > 0, power + 1 / self.gain, 0.0).max(-1)
        power, rate = self._at(level)
        return power.sum(-1) + level * LN2 * (self.rate_target - rate)

    def _at(self, level: Array) -> tuple[Array, Array]:
        power = np.maximum(level[..., None] - 1 / self.gain, 0.0)
        return power, np.log1p(self.gain * power).sum(-1) / LN2

    @offers(Level)
    def level(self) -> Level:
        """level = water level nu; "used" is minus the rate, so that it does not increase."""
        best = self.gain.max(-1)
        top = np.exp(self.rate_target * LN2) / best  # the strongest channel alone carries R

        def slope(level: Array) -> Array:
            return -(self.gain * level[..., None] > 1).sum(-1) / (level * LN2)

        return Level(
            lambda level: {"power_w": self._at(level)[0]},
            lambda level: -self._at(level)[1],
            -self.rate_target,
            (1 / best, top),
            "log",
            slope,
            lambda level: {"water_level_w": level},
        )


# -- models ---------------------------------------------------------------------------------------


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    q, y = cp.Parameter(size, nonneg=True), cp.Variable(size, nonneg=True)
    rate = cp.sum(cp.log1p(cp.multiply(q, y)))
    model = cp.Problem(cp.Maximize(rate), [cp.sum(y) <= 1])

    def assign(problem: WaterFilling) -> None:
        q.value = np.broadcast_to(problem.gain * problem.power_budget_w, size)

    return Handle(model, assign, lambda p: {"power_w": y.value * p.power_budget_w})


def _pyomo(size: int) -> Handle:
    import pyomo.environ as pyo

    model = pyo.ConcreteModel()
    model.k = pyo.RangeSet(0, size - 1)
    model.q = pyo.Param(model.k, mutable=True, initialize=1.0)
    model.total_w = pyo.Param(mutable=True, initialize=1.0)
    model.y = pyo.Var(model.k, bounds=(0, 1), initialize=1 / size)
    model.power_w = pyo.Expression(model.k, rule=lambda m, k: m.total_w * m.y[k])
    model.budget = pyo.Constraint(expr=sum(model.y[k] for k in model.k) <= 1)
    model.rate = pyo.Objective(
        expr=sum(pyo.log(1 + model.q[k] * model.y[k]) for k in model.k), sense=pyo.maximize
    )

    def assign(problem: WaterFilling) -> None:
        model.total_w = float(problem.power_budget_w)
        for k, value in enumerate(np.broadcast_to(problem.gain * problem.power_budget_w, size)):
            model.q[k] = float(value)

    def start(problem: WaterFilling, x: Point) -> None:
        total = float(problem.power_budget_w) or 1.0
        for k, value in enumerate(x["power_w"]):
            model.y[k] = float(value) / total

    def point(problem: WaterFilling) -> Point:
        return {"power_w": np.array([pyo.value(model.power_w[k]) for k in model.k])}

    return Handle(model, assign, point, start)


_MODELS: dict[str, Callable[[int], Handle]] = {"cvxpy": _cvxpy, "pyomo": _pyomo}
