"""A convex function above SP-FL's objective that touches it at one point: the SCA surrogate.

Every error law is, or is below, a sum of terms c e^z, z = u s + v m, and the exponents s, m are
jointly convex in the bands of the packets and the share of power alpha (spec, Lemma 2). At a point
with exponents s0, m0 (z0 for z) each term is replaced by something convex that is above it:

    c > 0:   c e^(u S + v M)
    c < 0:   c e^z0 (1 + u S + v M - z0)                       as e^z >= e^z0 (1 + z - z0)

where S = s if c u > 0, so that the term grows with S, and else the tangent plane of s, which is
below s; M likewise. Value and gradient agree at the point. For ``plain`` with E >= D this is the
paper-style W_s s + W_m m with W_s = dJ/ds, W_m = dJ/dm.

Under common fading m stands for max(s, m), convex as well; where s = m the plane is that of m, the
slope on the side where a modulus packet is of use.

A device that is never decoded at the point (s0 = inf) stays as it is; without a modulus packet
(m0 = inf) the terms with p are 0 and stay 0: the convex problem is smaller there, never wrong.
Source: spec spfl.md §3.2; planes for terms that decrease in s or m, and the cases inf, derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rralloc.channel.packets import fade_threshold_slopes
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

NEAR = 1e-12
"""Exponents that agree to this, relative, are equal."""
TINY = 1e-290
"""Weights below this are 0: what they weigh would have to be 1e290 to be seen."""


class Curve(NamedTuple):
    """An exponent ``(S, K)``, its gradient ``(S, K, n)`` and Hessian ``(S, K, n, n)``."""

    value: Array
    slope: Array
    bend: Array


class Part(NamedTuple):
    """One term of the sum; ``rises``: c > 0; ``own_s``, ``own_m``: s or m itself, not its plane."""

    c: Array
    u: int
    v: int
    z0: Array
    rises: Array
    own_s: Array
    own_m: Array

    @property
    def weighs(self) -> Array:
        """Where the term counts: c > 0, or a weight |c| e^z0 that is not TINY."""
        with np.errstate(all="ignore"):
            return self.rises | (self.c != 0) & (np.abs(self.c * np.exp(self.z0)) >= TINY)


class Coordinates:
    """Which of (x_s, x_m, alpha) move: y, with (x_s, x_m, alpha) = held + sum_i toward_i y_i.

    Bands first, (x_s, x_m) with a free split and the total b with a fixed one; then alpha.
    """

    def __init__(self, problem: SPFL, anchor: Point, *, band: bool, power: bool) -> None:
        x_s, x_m = problem.packet_bands(anchor)
        alpha = np.asarray(anchor["sign_power_share"])
        zero, one = np.zeros(np.shape(x_s)), np.ones(np.shape(x_s))
        self.free, self.band, self.power = problem.free_split, band, power
        columns: list[tuple[Array, Array, Array]] = []
        if band and self.free:
            columns += [(one, zero, zero), (zero, one, zero)]
        elif band:
            columns += [(problem.theta_s * one, problem.theta_m * one, zero)]
        if power:
            columns += [(zero, zero, one)]
        self.toward = tuple(np.stack(part, axis=-1) for part in zip(*columns))
        self.held = (zero if band else x_s, zero if band else x_m, zero if power else alpha)
        self.row = np.array([1.0] * (len(columns) - power) + [0.0] * power)
        self.problem = problem

    def spread(self, y: Array) -> list[Array]:
        """x_s, x_m, alpha ``(S, K)`` of the coordinates ``(S, K, n)``."""
        return [held + (way * y).sum(-1) for held, way in zip(self.held, self.toward)]

    def read(self, x: Point) -> Array:
        """The coordinates of a point."""
        columns: list[Array] = []
        if self.band:
            bands = self.problem.packet_bands(x)
            columns += bands if self.free else [x["bandwidth_share"]]
        if self.power:
            columns += [x["sign_power_share"]]
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    def point(self, y: Array) -> Point:
        """The variables of the coordinates."""
        out: dict[str, Array] = {}
        if self.band:
            out["bandwidth_share"] = total = y @ self.row
            if self.free:
                share = y[..., 0] / np.where(total > 0, total, 1.0)
                out["sign_band_share"] = np.where(total > 0, share, 1.0)
        if self.power:
            out["sign_power_share"] = y[..., -1]
        return out

    def curves(self, y: Array) -> tuple[Curve, Curve]:
        """s and m (common fading: the larger of both) as functions of the coordinates."""
        problem, (to_s, to_m, to_a) = self.problem, self.toward
        x_s, x_m, alpha = self.spread(y)
        s = _packet(x_s, alpha, problem.snr, problem.sign_rate, to_s, to_a)
        m = _packet(x_m, 1.0 - alpha, problem.snr, problem.modulus_rate, to_m, -to_a)
        if problem.common:
            behind = m.value < s.value * (1.0 - NEAR)
            m = Curve(*(_where(behind, a, b) for a, b in zip(s, m)))
        return s, m


class Majorant:
    """The surrogate of sum_k J_k at ``anchor`` in some coordinates; problem and point are flat."""

    def __init__(self, problem: SPFL, anchor: Point, *, band: bool, power: bool) -> None:
        self.coordinates = Coordinates(problem, anchor, band=band, power=power)
        self.y0 = self.coordinates.read(anchor)
        with np.errstate(all="ignore"):
            s, m = self.coordinates.curves(self.y0)
            self.value0 = problem.law.value(s.value, m.value, problem)
            self.lost, self.mute = np.isinf(s.value), np.isinf(m.value)
            base, terms = problem.law.majorant(s.value, m.value, problem)
            # Planes of s and m where they are finite, 0 where their terms are dropped.
            self.s0 = Curve(*(_where(self.lost, np.zeros_like(v), v) for v in s))
            self.m0 = Curve(*(_where(self.mute, np.zeros_like(v), v) for v in m))
            self.base = np.where(self.lost, self.value0, base + 0 * s.value)
            self.parts = [self._part(term.c, *term.exponents(problem.common)) for term in terms]

    def _part(self, c: Array, u: int, v: int) -> Part:
        dropped = self.lost | (self.mute & (v < 0))
        c = np.where(dropped, 0.0, c)
        own_s, own_m = (c * u > 0), (c * v > 0)
        return Part(c, u, v, u * self.s0.value + v * self.m0.value, c > 0, own_s, own_m)

    def local(self, y: Array, *, scaled: bool = False) -> tuple[Array, Array, Array]:
        """Value ``(S, K)``, gradient and Hessian blocks in the coordinates.

        ``scaled``: gradient and Hessian divided by the largest e^z of the device, so that signs
        survive where the sum overflows.
        """
        with np.errstate(all="ignore"):
            s, m = self.coordinates.curves(y)
            z = [self._exponent(part, s, m, y) for part in self.parts]
            total, slope, bend = self.base, np.zeros(y.shape), np.zeros((*y.shape, y.shape[-1]))
            top = np.zeros(total.shape)
            if scaled:
                seen = [np.where(p.rises, c.value, p.z0) for p, c in zip(self.parts, z)]
                top = np.max([np.where(p.c != 0, v, -np.inf) for p, v in zip(self.parts, seen)], 0)
            for part, curve in zip(self.parts, z):
                flat = np.where(part.weighs, part.c * np.exp(part.z0), 0.0)
                line = np.where(flat == 0, 0.0, flat * (1.0 + curve.value - part.z0))
                grown = part.c * np.exp(curve.value)
                total = total + np.where(part.rises, grown, line)
                weight = part.c * np.exp(np.where(part.rises, curve.value, part.z0) - top)
                weight = np.where(part.c == 0, 0.0, weight)
                slope = slope + weight[..., None] * curve.slope
                outer = curve.slope[..., :, None] * curve.slope[..., None, :]
                twice = curve.bend + np.where(part.rises, 1.0, 0.0)[..., None, None] * outer
                bend = bend + weight[..., None, None] * twice
        return np.where(np.isnan(total), np.inf, total), without_nan(slope), without_nan(bend)

    def value(self, x: Point) -> Array:
        """The surrogate of each J_k ``(S, K)`` at a point."""
        return self.local(self.coordinates.read(x))[0]

    def _exponent(self, part: Part, s: Curve, m: Curve, y: Array) -> Curve:
        """u S + v M, each the exponent itself or its tangent plane at the anchor."""
        out = Curve(np.zeros(y.shape[:-1]), np.zeros(y.shape), np.zeros((*y.shape, y.shape[-1])))
        for power, own, now, then in (
            (part.u, part.own_s, s, self.s0),
            (part.v, part.own_m, m, self.m0),
        ):
            if power:
                line = then.value + (then.slope * (y - self.y0)).sum(-1)
                plane = Curve(line, then.slope, np.zeros_like(then.bend))
                used = (_where(own, a, b) for a, b in zip(now, plane))
                out = Curve(*(old + power * new for old, new in zip(out, used)))
        return out


def _packet(
    band: Array, share: Array, snr: Array, rate: Array, to_band: Array, to_share: Array
) -> Curve:
    """phi(band)/share; inf without power or where phi overflows, and then without derivatives."""
    phi, by, twice = fade_threshold_slopes(band, snr, rate)
    with np.errstate(all="ignore"):
        value = np.where(phi == 0, 0.0, np.where(share > 0, phi / share, np.inf))
        alive = np.isfinite(value)
        rows = by / share, -phi / share**2, twice / share, -by / share**2, 2 * phi / share**3
    d_x, d_a, d_xx, d_xa, d_aa = (np.where(alive, v, 0.0) for v in rows)
    slope = d_x[..., None] * to_band + d_a[..., None] * to_share
    bend = (
        d_xx[..., None, None] * (to_band[..., :, None] * to_band[..., None, :])
        + d_xa[..., None, None] * (to_band[..., :, None] * to_share[..., None, :])
        + d_xa[..., None, None] * (to_share[..., :, None] * to_band[..., None, :])
        + d_aa[..., None, None] * (to_share[..., :, None] * to_share[..., None, :])
    )
    return Curve(value, slope, bend)


def _where(mask: Array, a: Array, b: Array) -> Array:
    return np.where(mask.reshape(mask.shape + (1,) * (b.ndim - mask.ndim)), a, b)


def without_nan(values: Array) -> Array:
    """0 where a lost packet turned 0 times infinity into NaN."""
    return np.where(np.isnan(values), 0.0, values)
