"""The bandwidth step's surrogate by its price: Newton on the KKT system, in the log domain.

With alpha held and a fixed split, each device's surrogate is a convex function of its band b, and

    P_k(b) - N_k(b) = price,     sum_k b_k = 1

where -dJ/db = P - N: P collects the slopes of s and m themselves, N those of tangent planes. For
``plain`` N = 0 and P = (W_s kappa_s/alpha) psi(c_s/b) + (W_m kappa_m/(1-alpha)) psi(c_m/b) with
psi(x) = x e^x - e^x + 1, kappa_i = theta_i/gamma, c_i = ln2 r_i/theta_i.

* Inner root: log P - log(price + N) = 0 in t = 1/b, in which log psi is nearly linear; a starved
  device with W = 1e-300 then takes as many steps as any other. Weights are kept as logarithms.
* Outer root: sum_k b_k = 1 in log price, with slope db/dlog(price) = -b^2 dt/dlog(price).
Source: spec spfl.md §3.2 (beta-step); N derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rralloc.channel.packets import FULL, log_fade_threshold
from rralloc.forms import Level
from rralloc.numerics.logexp import LN2, log1p_excess
from rralloc.numerics.memo import last_call
from rralloc.numerics.roots import guarded_newton
from rralloc.problems._spfl_majorant import NEAR, Curve, Majorant, Part
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

LEAST = 1e-13
"""The inverse of the largest t that is tried."""


class Packet(NamedTuple):
    """An exponent, the logarithm of -d/db of it, and that logarithm's derivative in t = 1/b."""

    value: Array
    log_slope: Array
    bend: Array


class Pressure:
    """log P and log N of every device as functions of t = 1/b; flat problem, fixed split."""

    def __init__(self, problem: SPFL, majorant: Majorant, power: Array) -> None:
        self.problem, self.majorant = problem, majorant
        self.active = ~majorant.lost & np.any([p.weighs for p in majorant.parts], axis=0)
        self.start = 1.0 / np.maximum(majorant.y0[..., 0], LEAST)
        self.packets = (
            (problem.theta_s, problem.sign_rate, power),
            (problem.theta_m, problem.modulus_rate, 1.0 - power),
        )

    def __call__(self, t: Array) -> tuple[Array, Array, Array, Array]:
        """log P, its derivative in t, log N, its derivative."""
        positive: list[tuple[Array, Array]] = []
        negative: list[tuple[Array, Array]] = []
        with np.errstate(all="ignore"):
            s, m = (self._packet(t, *packet) for packet in self.packets)
            if self.problem.common:
                behind = m.value < s.value * (1.0 - NEAR)
                m = Packet(*(np.where(behind, a, b) for a, b in zip(s, m)))
            for part in self.majorant.parts:
                z, moved = self._exponent(part, t, s, m)
                weight = np.log(np.abs(part.c)) + np.where(part.rises, z, part.z0)
                grown = np.where(part.rises, moved, 0.0)
                for power, own, now, then in self._factors(part, s, m):
                    each = weight + np.log(abs(power))
                    itself, plane = each + now.log_slope, each + np.log(-then.slope[..., 0])
                    positive.append((np.where(own, itself, -np.inf), grown + now.bend))
                    negative.append((np.where(own, -np.inf, plane), grown))
            return *_log_sum(positive), *_log_sum(negative)

    def _packet(self, t: Array, share: Array, rate: Array, power: Array) -> Packet:
        """phi/power; -d/db of it is (theta/(gamma power)) psi(c t), psi(x) = e^x (x - 1 + e^-x)."""
        snr = self.problem.snr
        x = np.where(rate > 0, rate * LN2 / share * t, 0.0)
        value = np.exp(log_fade_threshold(share / t, snr, rate) - np.log(power))
        excess = log1p_excess(x)
        log_slope = np.log(share / (snr * power)) + x + np.log(excess)
        return Packet(value, log_slope, np.where(x > 0, x * x / excess, 0.0) / t)

    def _factors(self, part: Part, s: Packet, m: Packet) -> list[tuple[int, Array, Packet, Curve]]:
        """The term's powers of s and m, if not 0: power, itself or plane, now, at the anchor."""
        both = (
            (part.u, part.own_s, s, self.majorant.s0),
            (part.v, part.own_m, m, self.majorant.m0),
        )
        return [factor for factor in both if factor[0]]

    def _exponent(self, part: Part, t: Array, s: Packet, m: Packet) -> tuple[Array, Array]:
        """u S + v M and its derivative in t."""
        z, moved, band = np.zeros(t.shape), np.zeros(t.shape), 1.0 / t
        for power, own, now, then in self._factors(part, s, m):
            line = then.value + then.slope[..., 0] * (band - self.majorant.y0[..., 0])
            fall = np.where(own, np.exp(now.log_slope), -then.slope[..., 0])
            z = z + power * np.where(own, now.value, line)
            moved = moved + power * fall * band * band
        return z, moved

    # -- the inner root -------------------------------------------------------------------------

    def bands(self, log_price: Array, start: Array) -> tuple[Array, Array, Array]:
        """t, b and db/dlog(price) ``(S, K)`` at a price ``(S,)``: safeguarded Newton on log P."""
        goal = log_price[:, None]

        def excess(t: Array) -> tuple[Array, Array]:
            gain, rise, loss, loss_rise = self(t)
            with np.errstate(all="ignore"):
                cost = np.logaddexp(goal, loss)
                return gain - cost, rise - np.exp(loss - cost) * loss_rise

        t, slope = _rising_root(excess, start, ~self.active)
        band = np.where(self.active, 1.0 / t, 0.0)
        with np.errstate(all="ignore"):
            share = np.exp(goal - np.logaddexp(goal, self(t)[2]))
            pull = np.where(self.active & (t > 1.0), -band * band * share / slope, 0.0)
        return t, band, np.nan_to_num(pull)

    def log_prices(self) -> tuple[Array, Array]:
        """log prices at which more, and less, than the whole band is used."""
        served = np.maximum(self.active.sum(-1, keepdims=True), 1.0)

        def log_pressure(t: Array) -> Array:
            gain, _, loss, _ = self(t)
            with np.errstate(all="ignore"):
                left = gain + np.log1p(-np.exp(np.minimum(loss - gain, 0.0)))
            return np.where(self.active & (gain > loss), left, -np.inf)

        one = np.ones(self.start.shape)
        fair, whole = log_pressure(served * one), log_pressure(one)
        high = fair.max(-1)
        high = np.where(high > -np.inf, high, 0.0)
        low = np.where(self.active, fair, np.inf).min(-1)
        low = np.maximum(np.where(np.isfinite(low), low, high - 700.0), whole.max(-1))
        return np.minimum(low, high), high


def pressure_level(problem: SPFL, majorant: Majorant, power: Array) -> Level:
    """The Level form: ``level`` is log price, ``used`` the sum of the bands."""
    pressure = Pressure(problem, majorant, power)
    start = [pressure.start]

    @last_call
    def at(level: Array) -> Array:
        """t, b, db/dlevel, stacked; each search starts where the last one ended."""
        found = np.stack(pressure.bands(level, start[0]))
        start[0] = found[0]
        return found

    def point(level: Array) -> Point:
        band = at(level)[1]
        used = band.sum(-1)
        off = np.abs(used - 1.0) <= 1e-6
        return {"bandwidth_share": band / np.where(off, used, 1.0)[:, None]}

    return Level(
        point=point,
        used=lambda level: at(level)[1].sum(-1),
        budget=np.ones(problem.size),
        bracket=pressure.log_prices(),
        slope=lambda level: at(level)[2].sum(-1),
        witness=lambda level: {"price": np.exp(np.minimum(level, FULL))},
    )


def _rising_root(
    fun: Callable[[Array], tuple[Array, Array]], start: Array, done: Array
) -> tuple[Array, Array]:
    """t >= 1 where a rising function is 0 (1 where it is positive there), and the slope at it."""
    low, high = np.ones(start.shape), np.full(start.shape, 1.0 / LEAST)
    t, step = np.clip(start, low, high), high - low
    slope = np.ones(start.shape)
    for _ in range(200):
        value, slope = fun(t)
        low, high = np.where(value <= 0, t, low), np.where(value >= 0, t, high)
        trial = guarded_newton(t, value, slope, low, high, step, "log")
        step = np.where(done, 0.0, np.abs(trial - t))
        t = np.where(done, t, trial)
        done = done | (step <= 1e-13 * t) | (high - low <= 4e-16 * high)
        if done.all():
            break
    return t, slope


def _log_sum(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """log sum e^a_i and its derivative, given a_i and their derivatives."""
    top = np.max([a for a, _ in parts], axis=0)
    safe = np.where(np.isfinite(top), top, 0.0)
    weights = [np.exp(a - safe) for a, _ in parts]
    total = np.sum(weights, axis=0)
    moved = np.sum([np.where(w > 0, w * d, 0.0) for w, (_, d) in zip(weights, parts)], axis=0)
    return safe + np.log(total), np.where(total > 0, moved / total, 0.0)
