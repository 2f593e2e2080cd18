"""SP-FL as a sum over devices in coordinates where every kink is the face of a box.

Fixed split x = (b, t), free split x = (x_s, x_m, t) per device: its band (or the band of each
packet) and one coordinate t for the power.

* independent fading: t = alpha in [0, 1], s = phi_s/alpha, m = phi_m/(1 - alpha). ``unbiased`` is
  jointly convex here.
* common fading: t = s/m in [0, 1], so s = phi_s + t phi_m, m = phi_s/t + phi_m and
  alpha = phi_s/s. The face t = 1 is the single packet (both decoded or none), t = 0 is sign-only.

Under both, a device is off where its bands are 0. Where a packet is never decoded, J no longer
depends on its coordinates: derivatives are 0 there and the price of band holds them at their bound.
Source: spec spfl.md §2.7 (chain rule), corrections "free band split"; coordinate t derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.channel.packets import fade_threshold_slopes
from rralloc.problems.spfl_objectives import CAP, Slopes
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL


class Pieces:
    """Coordinates of a flat SPFL problem, and J with its derivatives in them."""

    def __init__(self, problem: SPFL) -> None:
        self.problem = problem
        self.free = problem.free_split
        self.size = 3 if self.free else 2

    @property
    def row(self) -> Array:
        """Which coordinates are band: the coupling row."""
        return np.array([1.0, 1.0, 0.0]) if self.free else np.array([1.0, 0.0])

    # -- points ---------------------------------------------------------------------------------

    def bands(self, x: Array) -> tuple[Array, Array]:
        """Band shares of the two packets ``(S, K)``."""
        if self.free:
            return x[..., 0], x[..., 1]
        problem = self.problem
        return problem.theta_s * x[..., 0], problem.theta_m * x[..., 0]

    def point(self, x: Array) -> Point:
        """The point in physical variables."""
        x_s, x_m = self.bands(x)
        total = x_s + x_m if self.free else x[..., 0]
        alpha = x[..., -1]
        if self.problem.common:
            alpha = self._power_share(x_s, x_m, x[..., -1])
        out = {"bandwidth_share": total, "sign_power_share": alpha}
        if self.free:
            used = np.where(total > 0, total, 1.0)
            out["sign_band_share"] = np.where(total > 0, x_s / used, 1.0)
        return out

    def _power_share(self, x_s: Array, x_m: Array, t: Array) -> Array:
        """alpha = phi_s/(phi_s + t phi_m); 1 where no modulus packet is sent."""
        phi_s, phi_m = self.problem.thresholds(x_s, x_m)
        with np.errstate(invalid="ignore", over="ignore"):
            share = 1.0 / (1.0 + t * (phi_m / np.where(phi_s > 0, phi_s, 1.0)))
        share = np.where(np.isfinite(share) & (t > 0), share, 1.0)
        return np.where(np.isinf(phi_s) | (phi_s == 0), np.where(phi_s == 0, 0.5, 1.0), share)

    def coordinates(self, x: Point) -> Array:
        """The coordinates ``(S, K, n)`` of a point; under common fading t is cut at 1."""
        band, alpha = np.asarray(x["bandwidth_share"]), np.asarray(x["sign_power_share"])
        x_s, x_m = self.problem.packet_bands(x)
        t = alpha
        if self.problem.common:
            s, m = self.problem.exponents(x)
            with np.errstate(invalid="ignore", divide="ignore"):
                t = np.where(np.isinf(m), 0.0, np.where(m > 0, np.minimum(s / m, 1.0), 1.0))
        columns = (x_s, x_m, t) if self.free else (band, t)
        return np.stack(np.broadcast_arrays(*columns), axis=-1)

    # -- derivatives ----------------------------------------------------------------------------

    def local(self, x: Array) -> tuple[Array, Array, Array]:
        """J ``(S, K)``, gradient ``(S, K, n)``, Hessian blocks ``(S, K, n, n)``."""
        x_s, x_m = self.bands(x)
        t, problem = x[..., -1], self.problem
        with np.errstate(all="ignore"):
            sign = fade_threshold_slopes(x_s, problem.snr, problem.sign_rate)
            modulus = fade_threshold_slopes(x_m, problem.snr, problem.modulus_rate)
            chain = _common(sign, modulus, t) if problem.common else _independent(sign, modulus, t)
            s, m, by_s, by_m, by_ss, by_mm = chain
            J = problem.law.slopes(s, m, problem)
            gradient = [_first(J, a, b) for a, b in zip(by_s, by_m)]
            block = {
                (i, j): _second(J, by_s, by_m, by_ss.get((i, j)), by_mm.get((i, j)), i, j)
                for i, j in PAIRS
            }
        return J.value, *self._stacked(gradient, block)

    def _stacked(self, g: list[Array], h: dict[tuple[int, int], Array]) -> tuple[Array, Array]:
        """Three coordinates as they are, or contracted to b: x_s = theta_s b, x_m = theta_m b."""
        if not self.free:
            a, c = self.problem.theta_s, self.problem.theta_m
            g = [a * g[0] + c * g[1], g[2]]
            across = a * h[0, 2] + c * h[1, 2]
            along = a * a * h[0, 0] + 2 * a * c * h[0, 1] + c * c * h[1, 1]
            h = {(0, 0): along, (0, 1): across, (1, 1): h[2, 2]}
        size = self.size
        gradient, hessian = np.empty((*g[0].shape, size)), np.empty((*g[0].shape, size, size))
        for i in range(size):
            gradient[..., i] = g[i]
            for j in range(i, size):
                hessian[..., i, j] = hessian[..., j, i] = h[i, j]
        return gradient, hessian


class OnePacket(Pieces):
    """The restrictions of ``packets``: x = (b, t), t = 1 one packet with all, t = 0 signs only.

    Either is one packet of rate r_s + t r_m in the band b with all the power; t stays where it is.
    """

    def __init__(self, problem: SPFL) -> None:
        super().__init__(problem)
        self.free, self.size = False, 2

    def bands(self, x: Array) -> tuple[Array, Array]:
        """All of it, or the proportional split."""
        share = np.where(x[..., 1] > 0.5, self.problem.proportional, 1.0)
        return share * x[..., 0], (1.0 - share) * x[..., 0]

    def point(self, x: Array) -> Point:
        """alpha = theta_s: equal power density, or everything on the signs."""
        share = np.where(x[..., 1] > 0.5, self.problem.proportional, 1.0)
        return {
            "bandwidth_share": x[..., 0],
            "sign_power_share": share,
            "sign_band_share": share.copy(),
        }

    def coordinates(self, x: Point) -> Array:
        """The nearest of the two kinds."""
        band, alpha = np.asarray(x["bandwidth_share"]), np.asarray(x["sign_power_share"])
        whole = (alpha < 0.5 * (1.0 + self.problem.proportional)).astype(float)
        if self.problem.packets != "choice":
            whole = np.full(band.shape, float(self.problem.packets == "single"))
        return np.stack(np.broadcast_arrays(band, whole), axis=-1)

    def local(self, x: Array) -> tuple[Array, Array, Array]:
        """J along the band; t is held by zero derivatives."""
        problem, whole = self.problem, x[..., 1] > 0.5
        rate = problem.sign_rate + np.where(whole, problem.modulus_rate, 0.0)
        with np.errstate(all="ignore"):
            phi, slope, bend = fade_threshold_slopes(x[..., 0], problem.snr, rate)
            J = problem.law.slopes(phi, np.where(whole, phi, np.inf), problem)
            first = J.s + np.where(whole, J.m, 0.0)
            second = J.ss + np.where(whole, 2 * J.sm + J.mm, 0.0)
            by = _clean(first * slope)
            curve = _clean(second * slope * slope + first * bend)
        zero = np.zeros_like(by)
        gradient = np.stack([by, zero], axis=-1)
        rows = [np.stack([curve, zero], axis=-1), np.stack([zero, zero], axis=-1)]
        return J.value, gradient, np.stack(rows, axis=-2)


def pieces_of(problem: SPFL) -> Pieces:
    """The coordinates that suit the instance."""
    return Pieces(problem) if problem.packets == "sign-modulus" else OnePacket(problem)


def physical_gradient(problem: SPFL, x: Point) -> dict[str, Array]:
    """dJ by bandwidth_share, by sign_power_share and, with a free split, by sign_band_share."""
    x_s, x_m = problem.packet_bands(x)
    band, alpha = x["bandwidth_share"], x["sign_power_share"]
    with np.errstate(all="ignore"):
        sign = fade_threshold_slopes(x_s, problem.snr, problem.sign_rate)
        modulus = fade_threshold_slopes(x_m, problem.snr, problem.modulus_rate)
        s, m, by_s, by_m, _, _ = _independent(sign, modulus, alpha)
        J = problem.law.slopes(s, m, problem)
        g = [_first(J, a, b) for a, b in zip(by_s, by_m)]
    theta = x["sign_band_share"] if problem.free_split else problem.theta_s
    rest = 1.0 - theta if problem.free_split else problem.theta_m
    out = {"bandwidth_share": theta * g[0] + rest * g[1], "sign_power_share": g[2]}
    if problem.free_split:
        out["sign_band_share"] = band * (g[0] - g[1])
    return {n: np.broadcast_to(v, band.shape).copy() for n, v in out.items()}


def _clean(values: Array) -> Array:
    """0 where a lost packet turned 0 times infinity into NaN; infinities are kept."""
    return np.where(np.isnan(values), 0.0, values)


Maybe = Array | None
"""A derivative, None where it is zero for every device."""
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def _first(J: Slopes, by_s: Maybe, by_m: Maybe) -> Array:
    """J_s s_i + J_m m_i."""
    return _clean(_sum((J.s, by_s), (J.m, by_m)))


def _second(
    J: Slopes, by_s: list[Maybe], by_m: list[Maybe], s_ij: Maybe, m_ij: Maybe, i: int, j: int
) -> Array:
    """One entry of the chain rule's second derivative."""
    outer = (J.ss, by_s[i], by_s[j]), (J.mm, by_m[i], by_m[j])
    cross = (J.sm, by_s[i], by_m[j]), (J.sm, by_s[j], by_m[i])
    return _clean(_sum(*outer, *cross, (J.s, s_ij), (J.m, m_ij)))


def _sum(*products: tuple[Maybe, ...]) -> Array:
    """The sum of the products that have no zero factor."""
    total: Array | float = 0.0
    for first, *rest in products:
        if first is not None and all(factor is not None for factor in rest):
            for factor in rest:
                first = first * factor
            total = first if isinstance(total, float) else total + first
    return np.asarray(total)


Triple = tuple[Array, Array, Array]
Bends = dict[tuple[int, int], Array]
Chain = tuple[Array, Array, list[Maybe], list[Maybe], Bends, Bends]
"""s, m, their first derivatives, and the second ones that are not zero."""


def _finite(triple: Triple) -> tuple[Triple, Array]:
    """phi and its slopes with zeros where the packet cannot be decoded, and the mask of those."""
    lost = ~(triple[0] < np.inf)
    held = tuple(np.where(lost, 0.0, v) for v in triple)
    return (held[0], held[1], held[2]), lost


def _independent(sign: Triple, modulus: Triple, alpha: Array) -> Chain:
    """s = phi_s/alpha, m = phi_m/(1 - alpha) and their derivatives in (x_s, x_m, alpha)."""
    (f, f1, f2), no_sign = _finite(sign)
    (g, g1, g2), no_modulus = _finite(modulus)
    rest = 1.0 - alpha
    no_sign, no_modulus = no_sign | (alpha <= 0), no_modulus | (rest <= 0)
    a, r = np.where(no_sign, 1.0, alpha), np.where(no_modulus, 1.0, rest)
    s, m = np.where(no_sign, np.inf, f / a), np.where(no_modulus, np.inf, g / r)
    lost = no_modulus | (m > CAP)
    f, f1, f2 = (np.where(no_sign, 0.0, v) for v in (f, f1, f2))
    g, g1, g2 = (np.where(lost, 0.0, v) for v in (g, g1, g2))
    by_s: list[Maybe] = [f1 / a, None, -f / a**2]
    by_m: list[Maybe] = [None, g1 / r, g / r**2]
    by_ss = {(0, 0): f2 / a, (0, 2): -f1 / a**2, (2, 2): 2 * f / a**3}
    by_mm = {(1, 1): g2 / r, (1, 2): g1 / r**2, (2, 2): 2 * g / r**3}
    return s, m, by_s, by_m, by_ss, by_mm


def _common(sign: Triple, modulus: Triple, t: Array) -> Chain:
    """s = phi_s + t phi_m, m = phi_s/t + phi_m and their derivatives in (x_s, x_m, t)."""
    (f, f1, f2), no_sign = _finite(sign)
    (g, g1, g2), no_modulus = _finite(modulus)
    without = no_modulus | (t <= 0)
    u = np.where(without, 1.0, t)
    s = np.where(no_sign, np.inf, f + np.where(no_modulus, 0.0, t * g))
    m = np.where(without | no_sign, np.inf, f / u + g)
    lost = without | (m > CAP)
    by_t = np.where(no_modulus, np.where(no_sign, 0.0, 1.0), g)
    by_s: list[Maybe] = [f1, t * g1, by_t]
    by_ss = {(0, 0): f2, (1, 1): t * g2, (1, 2): g1}
    slopes = [f1 / u, g1, -f / u**2]
    by_mm = {(0, 0): f2 / u, (1, 1): g2, (0, 2): -f1 / u**2, (2, 2): 2 * f / u**3}
    by_m: list[Maybe] = [np.where(lost, 0.0, v) for v in slopes]
    by_mm = {key: np.where(lost, 0.0, v) for key, v in by_mm.items()}
    return s, m, by_s, by_m, by_ss, by_mm
