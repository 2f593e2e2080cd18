"""Energy efficiency: the most bits for a joule, circuits included.

    max  sum_k log2(1 + g_k p_k) / (sum_k p_k + p_c)     s.t.  0 <= p <= P

g is the gain over noise [1/W], p the transmit power [W], p_c the power that circuits take anyway
[W]; the value is in bit/s/Hz for each W, so times a bandwidth it is bit/J. The optimum is
water-filling at the depth u (nats on the strongest channel) where rate over power is what another
watt brings. One channel: p = (exp(1 + W0((g p_c - 1)/e)) - 1)/g, and u = 1 + W0(...). Source:
Dinkelbach 1967, spec rrm.md §15 item 6; several channels, level form and bound derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Level, Model, Surrogate, offers
from rralloc.numerics.logexp import LN2, log1p_excess
from rralloc.numerics.roots import bracketed_root
from rralloc.problem import Problem
from rralloc.problems._energy_models import MODELS
from rralloc.typing import Array, Field, Point, Witness

LADDER = (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""How far above the efficiency of a point (relatively) Dinkelbach's inequality is tried."""


class EnergyEfficiency(Problem):
    """Rate over total power of parallel channels, at its best.

    Problem
        max_p sum_k log2(1 + g_k p_k)/(sum_k p_k + p_c)  s.t.  0 <= p_k <= P_k.

    Parameters
        gain: g ``(..., K)``, 1/W, >= 0, channel gain over noise. With g = 0 a channel gets none.
        circuit_power_w: p_c ``(...)``, W, > 0. power_max_w: P ``(..., K)``, W, > 0, default inf.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Dinkelbach's inequality: with F(lam) = max_p rate(p) - lam (sum_k p_k + p_c), for any
        lam >= 0 no allocation exceeds lam + max(F(lam), 0)/p_c.
    Errors
        InvalidProblem for negative, missing or infinite values; p_c = 0, where the optimum is a
        limit at no power.
    Choose this when
        a battery pays for the bits and no rate is promised.
    Source
        Dinkelbach 1967; spec rrm.md §15 item 6. Several channels, level form, bound derived.
    """

    sense = "max"
    unit = "bit/s/Hz/W"
    source = "classic (Dinkelbach 1967); rrm.md §15.6"
    bound_method = "Dinkelbach's inequality"

    gain: Field = data("K", unit="1/W", low=0, doc="channel gain over noise power")
    circuit_power_w: Field = data(unit="W", low=0, open_low=True, doc="power of the circuits")
    power_max_w: Field = data(
        "K", unit="W", low=0, open_low=True, inf=True, default=np.inf, doc="power cap"
    )

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_scale_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading at 10 dB mean SNR for the cap of 1 W; circuits take 0.5 W."""
        gain = 10 * rng.exponential(size=shape)
        return {"gain": gain, "circuit_power_w": 0.5, "power_max_w": 1.0}

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """Bits for each Hz and joule; negative power counts as none."""
        power = x["power_w"]
        return _rate(self.gain, power) / _spent(power, self.circuit_power_w)

    def gradient(self, x: Point) -> dict[str, Array]:
        """(g/((1 + g p) ln 2) - efficiency)/(sum p + p_c)."""
        power, value = x["power_w"], self.objective(x)[..., None]
        slope = self.gain / (1 + self.gain * power) / LN2
        return {"power_w": (slope - value) / _spent(power, self.circuit_power_w)[..., None]}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``like-circuits``: as much power as the circuits take, equally; ``strongest``: on one."""
        shape = self.shape_of(type(self).power_w)
        power = self.circuit_power_w[..., None]

        def equal() -> Point:
            return self.project({"power_w": np.broadcast_to(power / shape[-1], shape)})

        def strongest() -> Point:
            chosen = np.arange(shape[-1]) == self.gain.argmax(-1)[..., None]
            return self.project({"power_w": np.broadcast_to(power * chosen, shape)})

        return {"like-circuits": equal, "strongest": strongest}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """Dinkelbach's inequality at the witness's ``efficiency``, else at the efficiency of x."""
        if witness is not None and "efficiency" in witness:
            claimed = np.maximum(witness["efficiency"], 0.0)
        else:
            claimed = self.objective(x if x is not None else self.initial())
        # Each step up is a bound too; where circuits take little the first is all rounding.
        bounds = [self._dinkelbach(claimed * (1 + step)) for step in LADDER]
        return np.broadcast_to(np.min(bounds, axis=0), self.batch_shape)

    def _dinkelbach(self, claimed: Array) -> Array:
        """lam + max(F(lam), 0)/p_c."""
        surplus = best_surplus(self.gain, self.power_max_w, claimed)
        return claimed + np.maximum(surplus / self.circuit_power_w - claimed, 0.0)

    # -- water-filling depths ---------------------------------------------------------------

    @cached_property
    def _best_gain(self) -> Array:
        """The strongest channel's gain ``(...)``, 1 where all are silent."""
        best = self.gain.max(-1)
        return np.where(best > 0, best, 1.0)

    @cached_property
    def _ground(self) -> Array:
        """ln(g_max/g_k) ``(..., K)``: nats on the strongest channel before k joins; inf if deaf."""
        with np.errstate(divide="ignore"):
            return np.log(self._best_gain)[..., None] - np.log(self.gain)

    @cached_property
    def _alone(self) -> Array:
        """u ``(...)``: the depth if the strongest channel were alone and without cap."""
        return efficient_nats(self._best_gain * self.circuit_power_w)

    def _sent(self, depth: Array) -> Array:
        """Nats on each channel ``(..., K)``, caps included."""
        wet = np.maximum(depth[..., None] - self._ground, 0.0)
        return np.minimum(wet, most_nats(self.gain, self.power_max_w))

    def _poured(self, depth: Array) -> Point:
        """The powers that send these nats."""
        heard = np.where(self.gain > 0, self.gain, 1.0)
        power = np.minimum(np.expm1(self._sent(depth)) / heard, self.power_max_w)
        return {"power_w": np.broadcast_to(power, self.shape_of(type(self).power_w))}

    @property
    def power_scale_w(self) -> Array:
        """Power of the strongest channel, were it alone ``(..., 1)``: what fits every unit."""
        return (np.expm1(self._alone) / self._best_gain)[..., None]

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """One channel: Lambert's W, or the cap if that is lower (one peak, no valley)."""
        if self.sizes["K"] > 1:
            raise NotOffered("several channels share the circuits: no closed form, ask for Level")

        def point() -> Point:
            return self._poured(np.broadcast_to(self._alone, self.batch_shape))

        return ClosedForm(point, lambda: {"efficiency": self.objective(point())})

    @offers(Level)
    def level(self) -> Level:
        """level = u, nats on the strongest channel; the root has e^u/g_max sum r = sum p + p_c.

        "used" = -p_c (1 + ln(loss/p_c)), loss = e^u/g_max sum_k r_k - sum_k p_k [W], r in nats: the
        logarithm is almost a straight line. What one rounding of the level moves counts as met.
        """
        silent = ~(self.gain > 0).any(-1)
        circuit = np.broadcast_to(self.circuit_power_w, self.batch_shape)

        def price(depth: Array) -> Array:
            return np.exp(depth) / self._best_gain  # W for the next nat

        def lost(depth: Array) -> tuple[Array, Array]:
            # r - p/price without its cancellation, for r nats that a cap keeps d below the water:
            # e^-d (r - 1 + e^-r) + r (1 - e^-d).
            sent = self._sent(depth)
            short = np.maximum(depth[..., None] - self._ground, 0.0) - sent
            each = np.exp(-short) * log1p_excess(sent) - sent * np.expm1(-short)
            with np.errstate(divide="ignore", invalid="ignore"):
                return each.sum(-1), sent.sum(-1) / each.sum(-1)

        def used(depth: Array) -> Array:
            loss, steep = lost(depth)
            with np.errstate(divide="ignore"):
                off = np.log(price(depth) * loss / circuit)
            off = np.where(silent | (np.abs(off) <= 2e-15 * (1 + steep * depth)), 0.0, off)
            return -circuit * (1 + off)

        def slope(depth: Array) -> Array:
            return np.where(silent, 0.0, -circuit * lost(depth)[1])

        # More channels make more of the circuits, at most K times; a cap makes less of them.
        low = np.maximum(self._alone - np.log(self.sizes["K"]), 0.0)
        strongest = self.gain == self.gain.max(-1, keepdims=True)
        reach = self._best_gain * np.where(strongest, self.power_max_w, 0.0).max(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            paid = np.log(self._best_gain * self.circuit_power_w + reach)
            capped = paid - np.log(np.log1p(reach))
        high = np.where(self._alone <= np.log1p(reach), self._alone, capped)
        shape = self.batch_shape
        return Level(
            self._poured,
            used,
            -circuit,
            (np.broadcast_to(low, shape), np.broadcast_to(high, shape)),
            "linear",
            slope,
            lambda depth: {"efficiency": np.where(silent, 0.0, 1 / price(depth) / LN2)},
        )

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """Dinkelbach: at efficiency lam0 the parametric problem max rate - lam0 power."""
        return Surrogate(self._dinkelbach_at)

    def _dinkelbach_at(self, x: Point) -> Problem:
        """f = lam0 + (R - lam0 C)/C >= lam0 + (R - lam0 C)/span where R >= lam0 C, if C <= span.

        With lam = lam0/2: lam0 C <= R <= F(lam) + lam C bounds C on that set.
        """
        value = self.objective(x)
        half = value / 2
        surplus = best_surplus(self.gain, self.power_max_w, half)
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.where(half > 0, surplus / half, np.inf)
        caps = self.power_max_w * np.ones(self.sizes["K"])
        span = np.minimum(most, caps.sum(-1) + self.circuit_power_w)
        return DinkelbachSurrogate(
            gain=self.gain,
            circuit_power_w=self.circuit_power_w,
            power_max_w=self.power_max_w,
            efficiency=value,
            span_w=np.maximum(span, self.circuit_power_w),
        )

    @offers(Model)
    def model(self) -> Model:
        """cvxpy: Charnes-Cooper, t = 1/C and y = t p, concave; pyomo: the ratio itself."""
        size, capped = self.sizes["K"], bool(np.isfinite(self.power_max_w).any())
        return Model(
            ("EnergyEfficiency", size, capped), lambda backend: MODELS[backend](size, capped)
        )


class DinkelbachSurrogate(Problem):
    """One step of Dinkelbach: rate minus a price of power, where that is not below zero.

    Problem
        max lam0 + (R(p) - lam0 C(p))/span  s.t.  R(p) >= lam0 C(p), 0 <= p <= P, with
        R = sum_k log2(1 + g_k p_k) and C = sum_k p_k + p_c.
    Choose this when
        never by hand: ``EnergyEfficiency`` makes it at each point for ``sca``.
    Source
        Dinkelbach 1967; spec rrm.md §15 item 6. ``span`` (at least C wherever R >= lam0 C) makes
        it a lower bound of R/C; it does not move the optimum.
    """

    sense = "max"
    unit = "bit/s/Hz/W"

    gain: Field = data("K", unit="1/W", low=0, doc="channel gain over noise power")
    circuit_power_w: Field = data(unit="W", low=0, open_low=True, doc="power of the circuits")
    power_max_w: Field = data(
        "K", unit="W", low=0, open_low=True, inf=True, default=np.inf, doc="power cap"
    )
    efficiency: Field = data(unit="bit/s/Hz/W", low=0, doc="efficiency where it was made")
    span_w: Field = data(unit="W", low=0, open_low=True, inf=True, doc="most power that can pay")

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_scale_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """An EnergyEfficiency instance at the efficiency of its first baseline."""
        whole = EnergyEfficiency(**EnergyEfficiency.random_fields(rng, shape))
        made = whole._dinkelbach_at(whole.initial())
        return {name: getattr(made, name) for name in made._data}

    @property
    def power_scale_w(self) -> Array:
        """The circuits' power ``(..., 1)``."""
        return self.circuit_power_w[..., None]

    def _surplus(self, power: Array) -> Array:
        """R - lam0 C."""
        return _rate(self.gain, power) - self.efficiency * _spent(power, self.circuit_power_w)

    def objective(self, x: Point) -> Array:
        """Lower bound of the efficiency, tight where it was made."""
        return self.efficiency + self._surplus(x["power_w"]) / self.span_w

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """At least as efficient as where it was made."""
        scale = self.efficiency * self.circuit_power_w
        slack = np.where(scale > 0, self._surplus(x["power_w"]), 1.0)
        return (Constraint("efficiency kept", slack, "bit/s/Hz", np.where(scale > 0, scale, 1.0)),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to the caps; from what is less efficient than the start, move to the optimum."""
        power, best = np.clip(x["power_w"], 0.0, self.power_max_w), self._bought()
        # The surplus is concave: by interpolation between the two it is not below zero there.
        gain, lost = (np.maximum(v, 0.0) for v in (self._surplus(best), -self._surplus(power)))
        way = np.where(lost > 0, gain / np.where(lost > 0, gain + lost, 1.0), 1.0)[..., None]
        return {"power_w": np.where(way < 1, best + way * (power - best), power)}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``bought``: all power that is worth its price."""
        return {"bought": lambda: {"power_w": self._bought()}}

    def _bought(self) -> Array:
        """[1/(lam0 ln 2) - 1/g]^+ up to the cap; as much as the circuits where power is free."""
        price = (self.efficiency * LN2)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.where(self.gain > 0, np.log(self.gain / price), 0.0)
            power = np.expm1(np.maximum(nats, 0.0)) / np.where(self.gain > 0, self.gain, 1.0)
        power = np.minimum(power, self.power_max_w)
        power = np.where(np.isfinite(power), power, self.circuit_power_w[..., None])
        return np.broadcast_to(power, self.shape_of(type(self).power_w))

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """p = min(P, [1/(lam0 ln 2) - 1/g]^+)."""
        return ClosedForm(lambda: {"power_w": self._bought()})


def _rate(gain: Array, power: Array) -> Array:
    """sum_k log2(1 + g_k p_k) ``(...)``; negative power counts as none, complex passes."""
    power = np.where(np.real(power) >= 0, power, 0.0)
    return np.log1p(gain * power).sum(-1) / LN2


def _spent(power: Array, circuit_power_w: Array) -> Array:
    """sum_k p_k + p_c ``(...)``."""
    return np.where(np.real(power) >= 0, power, 0.0).sum(-1) + circuit_power_w


def most_nats(gain: Array, cap: Array) -> Array:
    """ln(1 + g P) ``(..., K)``, inf without a cap, 0 without a gain."""
    with np.errstate(invalid="ignore"):
        return np.where(gain > 0, np.log1p(gain * cap), 0.0)


def best_surplus(gain: Array, cap: Array, price: Array) -> Array:
    """max_{0<=p<=P} sum_k log2(1 + g_k p_k) - price sum_k p_k ``(...)``, without cancellation.

    With t = ln(g/(price ln2)) nats wanted and r = min(t, ln(1 + g P)) sent, each channel brings
    r - 1 + e^-r + (1 - e^-r)(1 - e^-(t-r)) nats.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = np.log(gain / (price * LN2)[..., None])
        wanted = np.where(gain > 0, np.maximum(wanted, 0.0), 0.0)
        sent = np.minimum(wanted, most_nats(gain, cap))
        short = np.where(wanted > sent, wanted - sent, 0.0)
        nats = log1p_excess(sent) + np.expm1(-sent) * np.expm1(-short)
    return nats.sum(-1) / LN2


def efficient_nats(reach: Array) -> Array:
    """u > 0 with e^u (u - 1) + 1 = g p_c: u = 1 + W0((g p_c - 1)/e), exact near the branch point.

    (u/2) e^(u/2) lies within sqrt(g p_c/2) and its square root of 2, which gives the bracket.
    """
    flat = np.asarray(reach, dtype=float).ravel()
    low = np.log1p(np.sqrt(flat / 2))
    high = np.minimum(np.sqrt(2 * flat), 1 + np.log1p(flat)) * (1 + 1e-15)

    def fall(u: Array, target: Array) -> tuple[Array, Array]:
        excess = log1p_excess(u)
        return np.log(target) - u - np.log(excess), -1 + np.expm1(-u) / excess

    return bracketed_root(fall, low, high, flat).reshape(np.shape(reach))
