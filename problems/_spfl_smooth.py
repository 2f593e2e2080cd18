"""SPFL for other people's solvers: coordinates in logarithms, in which nothing overflows.

Per device (z, y), with a free split (z_s, z_m, y); z = ln(band) of the device or of a packet:

* independent fading: y = logit(alpha), s = phi_s (1 + e^-y), m = phi_m (1 + e^y)
* common fading: y = ln(s/m) <= 0, s = phi_s + e^y phi_m, m = s e^-y. The kink at m = s is the
  face y = 0, the single packet. Points with m < s have y > 0, outside the bounds.
* restricted packets have z alone: ``single`` s = m, ``one-bit`` m = inf.

What a starved device would overflow is held back smoothly, ln phi at LOST and s, m near FAR:

    k = cap - ln(1 + e^(n (cap - l)))/n,    held(l) = e^k + TAIL (l - k)

which is e^l to 1e-13 up to s = 50, increases for ever, and tells a solver even at s = 1e17 which
way is better. The objective is compressed for the same reason: asinh(J/sum w G) is
linear for what is of interest and logarithmic where an allocation is hopeless (1e13 and more).
Source: spec spfl.md §3.4, §5 (logarithms and clipped exponents); y and the caps derived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Smooth
from rralloc.numerics.logexp import LN2, log_expm1_over_x
from rralloc.numerics.rates import min_bandwidth
from rralloc.problems.spfl_objectives import CAP
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

LEAST = 1e-12
"""Least band of a packet: as good as none."""
LOST, LOST_SHARP = 40.0, 4.0
FAR, FAR_SHARP, TAIL = {True: 600.0, False: 250.0}, 16.0, 0.5
"""FAR for common and independent fading, which has exponents s + m."""
LEVEL = 40.0
"""Independent fading: the largest |logit(alpha)|; 1 - alpha is then 0 to rounding."""
RATIO = 70.0
"""Common fading: the largest ln(m/s), so that e^-RATIO times the largest phi_m is nothing."""


class Packet(NamedTuple):
    """ln phi = size + ln((e^u - 1)/u) with u = rate e^-z, each ``(K,)``."""

    rate: Array
    size: Array

    def threshold(self, z: Array) -> tuple[Array, Array]:
        """ln phi, held back at LOST, and its slope in z."""
        u = self.rate * np.exp(-z)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            exact = u / -np.expm1(-u) - 1.0
        slope = -np.where(u < 1e-4, u * (0.5 + u / 12), exact)
        value, keep = soft_cap(self.size + log_expm1_over_x(u), LOST, LOST_SHARP)
        return value, np.where(keep > 0, slope * keep, 0.0)

    def least(self) -> Array:
        """The band at which phi = CAP."""
        return min_bandwidth(self.rate / LN2, self.rate * CAP * np.exp(-self.size))


def packet(problem: SPFL, rate: Array, share: Array | float) -> Packet:
    """The packet's two numbers; no share of the band is a packet that is always lost."""
    size = (problem.sizes["K"],)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scale = np.log(rate * LN2) - np.log(problem.snr)
    argument = rate * LN2 / np.maximum(share, 1e-30)
    pair = argument, np.clip(np.where(np.isnan(scale), 60.0, scale), -30.0, 60.0)
    return Packet(*(np.broadcast_to(v, size) for v in pair))


def packets(problem: SPFL) -> tuple[Packet, Packet]:
    """Signs and moduli; for ``single`` both are the one packet."""
    if problem.packets == "single":
        both = packet(problem, problem.sign_rate + problem.modulus_rate, 1.0)
        return both, both
    free = problem.free_split
    return (
        packet(problem, problem.sign_rate, 1.0 if free else problem.theta_s),
        packet(problem, problem.modulus_rate, 1.0 if free else problem.theta_m),
    )


def unit_of(problem: SPFL) -> float:
    """sum w G, what no device heard costs at most; 1 where every gradient is zero."""
    return float(np.sum(problem.weight * problem.gradient_energy)) or 1.0


def soft_cap(value: Array, cap: float, sharp: float) -> tuple[Array, Array]:
    """min(value, cap) with the corner rounded off, and its slope."""
    above = sharp * (cap - value)
    return cap - np.logaddexp(0.0, above) / sharp, share(above)


def held(log_value: Array, far: float) -> tuple[Array, Array]:
    """e^l, held back near ``far``, and its slope in l."""
    k, keep = soft_cap(log_value, np.log(far), FAR_SHARP)
    value = np.exp(k)
    return value + TAIL * (log_value - k), value * keep + TAIL * (1.0 - keep)


def share(logit: Array) -> Array:
    """1/(1 + e^-logit)."""
    return 0.5 * (1.0 + np.tanh(0.5 * logit))


class Logs:
    """Coordinates ``(n, K)`` of one instance: the rows are z, or z_s and z_m, then y."""

    def __init__(self, problem: SPFL) -> None:
        if problem.packets == "choice":
            raise NotOffered(
                "packets='choice' is discrete: each device sends signs or one packet. 'dual' "
                "chooses; packets='single' and 'one-bit' have smooth forms"
            )
        self.problem, self.size = problem, problem.sizes["K"]
        self.whole = problem.packets == "sign-modulus"
        self.bands = 2 if self.whole and problem.free_split else 1
        self.rows = self.bands + self.whole
        self.sign, self.modulus = packets(problem)
        self.unit = unit_of(problem)

    # -- points ---------------------------------------------------------------------------------

    def bounds(self) -> tuple[Array, Array]:
        """From off to the whole band, and from signs only to all power or one packet.

        Off is left out for devices that must be heard.
        """
        low, high = np.full((self.rows, self.size), np.log(LEAST)), np.zeros((self.rows, self.size))
        for row, band in zip(low[: self.bands], self._least_bands()):
            row[:] = np.log(np.clip(band, LEAST, 1.0))
        if self.whole:
            common = self.problem.common
            low[-1], high[-1] = (-RATIO, 0.0) if common else (-LEVEL, LEVEL)
        return low, high

    def _least_bands(self) -> list[Array]:
        """Bands below which a packet that must be heard has an exponent above CAP; else 0."""
        problem, lost = self.problem, np.full(self.size, np.inf)
        with np.errstate(all="ignore"):
            no_signs = np.real(problem.law.value(lost, lost, problem))
            no_moduli = np.real(problem.law.value(np.ones(self.size), lost, problem))
        need = [
            np.where(np.isinf(value), part.least(), 0.0)
            for value, part in ((no_signs, self.sign), (no_moduli, self.modulus))
        ]
        return need if self.bands == 2 else [np.maximum(*need)]

    def coordinates(self, x: Point) -> Array:
        """The rows of a point; y may exceed its bound under common fading, where m < s."""
        band = np.broadcast_to(x["bandwidth_share"], self.size)
        parts = self.problem.packet_bands(x) if self.bands == 2 else (band,)
        rows = [np.log(np.maximum(part, LEAST)) for part in parts]
        if self.whole:
            alpha = np.broadcast_to(x["sign_power_share"], self.size)
            with np.errstate(divide="ignore"):
                level = np.log(alpha) - np.log1p(-alpha)
            if self.problem.common:
                (phi_s, _), (phi_m, _) = self._thresholds(rows)
                level = phi_s - phi_m - level
            rows.append(np.clip(level, self.bounds()[0][-1], LEVEL + LOST))
        return np.stack(rows)

    def point(self, rows: Array) -> dict[str, Array]:
        """The physical variables."""
        problem, bands = self.problem, np.exp(rows[: self.bands])
        x = {"bandwidth_share": bands.sum(0)}
        if not self.whole:
            kind = 1.0 if problem.packets == "one-bit" else problem.proportional
            full = np.broadcast_to(kind, self.size)
            return x | {"sign_power_share": full.copy(), "sign_band_share": full.copy()}
        level = rows[-1]
        if problem.common:
            (phi_s, _), (phi_m, _) = self._thresholds(list(rows[: self.bands]))
            level = phi_s - phi_m - level
        x["sign_power_share"] = share(level)
        if self.bands == 2:
            x["sign_band_share"] = bands[0] / x["bandwidth_share"]
        return x

    def _thresholds(self, bands: list[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        return self.sign.threshold(bands[0]), self.modulus.threshold(bands[-1])

    # -- derivatives ----------------------------------------------------------------------------

    def objective(self, rows: Array) -> tuple[float, Array]:
        """asinh(sum J/sum w G) and its gradient ``(n, K)``."""
        with np.errstate(all="ignore"):
            s, m, by_s, by_m = self.exponents(rows)
            J = self.problem.law.slopes(s, m, self.problem)
            slopes = np.stack([_product(J.s, a) + _product(J.m, b) for a, b in zip(by_s, by_m)])
            total = float(np.sum(J.value)) / self.unit
            return float(np.arcsinh(total)), slopes / (self.unit * np.hypot(1.0, total))

    def exponents(self, rows: Array) -> tuple[Array, Array, list[Array], list[Array]]:
        """s, m and their derivatives by the rows."""
        (f, f1), (g, g1) = self._thresholds(list(rows[: self.bands]))
        none, far = np.zeros(self.size), FAR[self.problem.common]
        if not self.whole:
            s, grown = held(f, far)
            if self.problem.packets == "one-bit":
                return s, np.full(self.size, 1.15 * far), [grown * f1], [none]
            return s, s, [grown * f1], [grown * f1]
        y = rows[-1]
        if self.problem.common:
            log_s = np.logaddexp(f, y + g)
            log_m, alpha = log_s - y, share(f - y - g)
            by_s, by_m = (alpha, 1 - alpha, 1 - alpha), (alpha, 1 - alpha, -alpha)
        else:
            log_s, log_m = f + np.logaddexp(0.0, -y), g + np.logaddexp(0.0, y)
            by_s, by_m = (none + 1, none, -share(-y)), (none, none + 1, share(y))
        (s, s1), (m, m1) = held(log_s, far), held(log_m, far)
        return s, m, self._chained(s1, by_s, f1, g1), self._chained(m1, by_m, f1, g1)

    def _chained(
        self, outer: Array, by: tuple[Array, Array, Array], f1: Array, g1: Array
    ) -> list[Array]:
        """From d/d(ln phi_s), d/d(ln phi_m), d/dy to the rows."""
        of_s, of_m = by[0] * f1, by[1] * g1
        bands = [of_s, of_m] if self.bands == 2 else [of_s + of_m]
        return [outer * v for v in (*bands, by[2])]

    def slack(self, rows: Array) -> tuple[Array, Array]:
        """1 - sum of the bands, and its gradient."""
        bands = np.exp(rows[: self.bands])
        slopes = np.zeros_like(rows)
        slopes[: self.bands] = -bands
        return np.array([1.0 - bands.sum()]), slopes


def smooth(problem: SPFL) -> Smooth:
    """The form of one instance; of the first where the problem is a batch."""
    logs = Logs(problem if problem.batch_shape == () else problem.flat()[0])
    shape = (logs.rows, logs.size)

    def value_grad(z: Array) -> tuple[float, Array]:
        value, slopes = logs.objective(z.reshape(shape))
        return value, slopes.ravel()

    def constraints_jac(z: Array) -> tuple[Array, Array]:
        slack, slopes = logs.slack(z.reshape(shape))
        return slack, slopes.reshape(1, -1)

    low, high = logs.bounds()
    return Smooth(
        flatten=lambda x: logs.coordinates(x).ravel(),
        unflatten=lambda z: logs.point(z.reshape(shape)),
        bounds=(low.ravel(), high.ravel()),
        value_grad=value_grad,
        constraints_jac=constraints_jac,
        equality=np.zeros(1, dtype=bool),
    )


def _product(slope: Array, inner: Array) -> Array:
    """Their product; 0 where the inner is, whatever the slope (a lost packet's may be inf)."""
    return np.where(inner == 0, 0.0, slope * inner)
