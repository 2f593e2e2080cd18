"""Water-filling: power over parallel channels, and its twin, the least power for a rate.

    max  sum_k log2(1 + g_k p_k)     s.t.  sum_k p_k <= P,  p >= 0          (WaterFilling)
    min  sum_k p_k                   s.t.  sum_k log2(1 + g_k p_k) >= R     (InverseWaterFilling)

g is the channel gain over noise [1/W], p the power [W], rates in bit/s/Hz. The optimum is
``p_k = [nu - 1/g_k]^+`` with one water level nu [W] in both. Computed as depths over the ground of
the strongest channel (nu - 1/g_max, in W; ln(nu g_max), in nats), as the level itself loses the
power when it is small against 1/g. Source: spec rrm.md §15 item 1; the depths are derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Level, Model, offers
from rralloc.numerics.logexp import LN2, log1p_excess
from rralloc.numerics.shapes import within_budget
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness


def _depth_of(ground: Array, budget: Array) -> Array:
    """w ``(...)`` with sum_k [w - ground_k]^+ = budget: sort, count the wet, read w off."""
    floor = np.sort(ground, axis=-1)
    depth = (budget[..., None] + floor.cumsum(-1)) / np.arange(1, floor.shape[-1] + 1)
    wet = np.maximum((depth > floor).sum(-1, keepdims=True), 1)
    return np.take_along_axis(depth, wet - 1, -1)[..., 0]


class WaterFilling(Problem):
    """Maximise the sum rate of parallel channels under one power budget.

    Problem
        max sum_k log2(1 + g_k p_k)  s.t.  sum_k p_k <= P, p_k >= 0.

    Parameters
        gain: g ``(..., K)``, 1/W, >= 0, channel gain over noise. With g = 0 a channel gets none.
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

    gain: Field = data("K", unit="1/W", low=0, doc="channel gain over noise power")
    power_budget_w: Field = data(unit="W", low=0, doc="total power")

    power_w = variable("K", unit="W", low=0, scale="power_budget_w", doc="transmit power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading at 10 dB mean SNR: g ~ Exp(1) at P = 10 W, unless set otherwise."""
        return {"gain": rng.exponential(size=shape), "power_budget_w": 10.0}

    def objective(self, x: Point) -> Array:
        """Sum rate in bit/s/Hz; -inf where some g p <= -1."""
        return _rate(self.gain * x["power_w"]).sum(-1)

    def gradient(self, x: Point) -> dict[str, Array]:
        """g/(1 + g p)/ln 2."""
        return {"power_w": self.gain / (1 + self.gain * x["power_w"]) / LN2}

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Total power."""
        slack = self.power_budget_w - x["power_w"].sum(-1)
        return (Constraint("total power", slack, "W", self.power_budget_w),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to p >= 0 and scale down onto the budget."""
        return {"power_w": within_budget(x["power_w"], self.power_budget_w)}

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
            value = log1p_excess(np.log(lifted)).sum(-1) + self.power_budget_w / level
        # A level of infinity (all gains zero) leaves rate zero: nothing can be sent.
        silent = ~(self.gain > 0).any(-1)
        return np.where(silent, 0.0, np.where(level > 0, value / LN2, np.inf))

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Sort the channels, find how many are active, read the level off the budget."""
        return ClosedForm(self._filled, lambda: {"water_level_w": self._water_level()})

    def _filled(self) -> Point:
        return {"power_w": self._poured(_depth_of(self._ground, self.power_budget_w))}

    @property
    def _ground(self) -> Array:
        """1/g_k - 1/g_max ``(..., K)``, W; inf where g_k = 0."""
        best = self.gain.max(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            return np.where(self.gain > 0, 1 / self.gain - 1 / np.where(best > 0, best, 1), np.inf)

    def _poured(self, depth: Array) -> Array:
        heard = self.gain > 0
        above = depth[..., None] - np.where(heard, self._ground, 0.0)
        return np.where(heard, np.maximum(above, 0.0), 0.0)

    def _water_level(self, depth: Array | None = None) -> Array:
        """nu = 1/g_max + depth."""
        if depth is None:
            depth = _depth_of(self._ground, self.power_budget_w)
        with np.errstate(divide="ignore"):
            return depth + 1 / self.gain.max(-1)

    @offers(Level)
    def level(self) -> Level:
        """level = 1/depth of the water over the strongest channel: less is used as it rises."""
        if not (self.power_budget_w > 0).all() or not (self.gain.max(-1) > 0).all():
            raise NotOffered("some instance has no power or no channel: no water level exists")
        ground, total = self._ground, self.power_budget_w

        def point(level: Array) -> Point:
            return {"power_w": self._poured(1 / level)}

        def used(level: Array) -> Array:
            return self._poured(1 / level).sum(-1)

        def slope(level: Array) -> Array:
            return -(1 / level[..., None] > ground).sum(-1) / level**2

        # The strongest channel takes between P/K and P.
        bracket = 1 / total, ground.shape[-1] / total
        return Level(
            point,
            used,
            total,
            bracket,
            "log",
            slope,
            lambda level: {"water_level_w": self._water_level(1 / level)},
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

    gain: Field = data("K", unit="1/W", low=0, open_low=True, doc="channel gain over noise power")
    rate_target: Field = data(unit="bit/s/Hz", low=0, doc="sum rate to carry")

    power_w = variable("K", unit="W", low=0, scale="power_scale_w", doc="transmit power")

    @property
    def power_scale_w(self) -> Array:
        """The least total power ``(..., 1)``: the only scale that fits every rate and gain."""
        return self._filled()["power_w"].sum(-1, keepdims=True)

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading, 2 bit/s/Hz for each channel."""
        return {"gain": rng.exponential(size=shape), "rate_target": 2.0 * shape[-1]}

    def objective(self, x: Point) -> Array:
        """Total power in W."""
        return x["power_w"].sum(-1)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The promised rate."""
        rate = _rate(self.gain * x["power_w"]).sum(-1)
        return (Constraint("sum rate", rate - self.rate_target, "bit/s/Hz", self.rate_target),)

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal-rate``: the same rate everywhere; ``best``: all on the strongest channel."""
        shape = self.shape_of(type(self).power_w)

        def send(nats: Array) -> Point:
            with np.errstate(over="ignore"):  # 2^2000 W is infinity: a bad rule, not an error
                return {"power_w": np.broadcast_to(np.expm1(nats) / self.gain, shape)}

        def equal_rate() -> Point:
            return send(self.rate_target[..., None] * LN2 / shape[-1])

        def best() -> Point:
            strongest = np.arange(shape[-1]) == self.gain.argmax(-1)[..., None]
            return send(self.rate_target[..., None] * LN2 * strongest)

        return {"equal-rate": equal_rate, "best": best}

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to p >= 0 and raise all rates by one factor up to the promised sum."""
        nats = np.log1p(self.gain * np.maximum(x["power_w"], 0.0))
        total, goal = nats.sum(-1, keepdims=True), self.rate_target[..., None] * LN2
        raised = np.where(
            total > 0, nats * (goal / np.where(total > 0, total, 1)), goal / self.sizes["K"]
        )
        return {"power_w": np.expm1(np.where(total < goal, raised, nats)) / self.gain}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """Weak duality at the witness's level, or at the highest p + 1/g of an active channel."""
        if witness is not None and "water_level_w" in witness:
            level = np.asarray(witness["water_level_w"])
        else:
            power = (x if x is not None else self.initial())["power_w"]
            level = np.where(power > 0, power + 1 / self.gain, 0.0).max(-1)
        nats = np.log(np.maximum(level[..., None] * self.gain, 1.0))
        missing = self.rate_target * LN2 - nats.sum(-1)
        return (np.expm1(nats) / self.gain).sum(-1) + level * missing

    @property
    def _ground(self) -> Array:
        """ln(g_max/g_k) ``(..., K)``, nats: what the strongest channel carries before k joins."""
        return np.log(self.gain.max(-1, keepdims=True)) - np.log(self.gain)

    def _sent(self, depth: Array) -> Array:
        """Nats on each channel when the strongest carries ``depth``."""
        return np.maximum(depth[..., None] - self._ground, 0.0)

    def _filled(self, depth: Array | None = None) -> Point:
        if depth is None:
            depth = _depth_of(self._ground, self.rate_target * LN2)
        with np.errstate(over="ignore"):
            return {"power_w": np.expm1(self._sent(depth)) / self.gain}

    def _water_level(self, depth: Array | None = None) -> Array:
        """nu = e^depth/g_max."""
        if depth is None:
            depth = _depth_of(self._ground, self.rate_target * LN2)
        with np.errstate(over="ignore"):
            return np.exp(depth) / self.gain.max(-1)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Water-filling in nats: rates are depths, and their sum is the budget."""
        return ClosedForm(self._filled, lambda: {"water_level_w": self._water_level()})

    @offers(Level)
    def level(self) -> Level:
        """level = nats on the strongest channel; "used" is minus the rate, so that it falls."""
        goal = self.rate_target * LN2
        return Level(
            lambda level: self._filled(level),
            lambda level: -self._sent(level).sum(-1),
            -goal,
            (goal / self._ground.shape[-1], goal),
            "linear",
            lambda level: -(level[..., None] > self._ground).sum(-1).astype(float),
            lambda level: {"water_level_w": self._water_level(level)},
        )


def _rate(snr: Array) -> Array:
    """log2(1 + snr), -inf outside the domain; complex-safe."""
    outside = np.real(snr) <= -1
    return np.where(outside, -np.inf, np.log1p(np.where(outside, 0.0, snr)) / LN2)


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
