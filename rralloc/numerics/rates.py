"""Bandwidth, power and rate on one link: r(b) = b log2(1 + a/b), a = P g/N0 in Hz.

r is increasing and concave in b with ceiling a/ln2 as b -> inf. Source: spec rrm.md §5 and its
correction 2.
"""

from __future__ import annotations

import numpy as np

from rralloc.numerics.logexp import LN2, log1p_excess, log_expm1_over_x, xlog2_1p
from rralloc.numerics.roots import bracketed_root
from rralloc.typing import Array


def rate(bandwidth_hz: Array, snr_bandwidth_hz: Array) -> Array:
    """r(b) in bit/s; 0 at b = 0."""
    return xlog2_1p(bandwidth_hz, snr_bandwidth_hz)


def efficiency(snr: Array) -> Array:
    """log2(1 + snr), bit/s/Hz; 0 where snr <= -1, outside the domain."""
    inside = np.real(snr) > -1
    return np.asarray(np.log1p(np.where(inside, snr, 0.0)) / LN2)


def rate_slope(bandwidth_hz: Array, snr_bandwidth_hz: Array) -> Array:
    """r'(b) = log2(1+s) - s/((1+s) ln2), s = a/b; inf at b = 0, without cancellation at small s."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        s = np.where(snr_bandwidth_hz > 0, snr_bandwidth_hz / bandwidth_hz, 0.0)
    return log1p_excess(np.log1p(s)) / LN2


def min_bandwidth(rate_bps: Array, snr_bandwidth_hz: Array) -> Array:
    """The least bandwidth (Hz) that carries ``rate_bps``; inf at and above the ceiling a/ln2.

    With G = R ln2/a and u = ln(1+s), solve u/expm1(u) = G by Newton on
    F(u) = ln(expm1(u)/u) + ln G, F' in (1/2, 1); then b = a/expm1(u). Relative error about
    eps/(1-G): close to the ceiling the answer itself is ill-conditioned in R.
    """
    rate_bps, a = np.broadcast_arrays(rate_bps, snr_bandwidth_hz)
    with np.errstate(divide="ignore", invalid="ignore"):
        load = np.where(rate_bps > 0, rate_bps * LN2 / a, 0.0)
    inside = (load > 0) & (load < 1)
    out = np.where(load > 0, np.inf, 0.0)
    if inside.any():
        u = _snr_exponent(load[inside])
        out[inside] = a[inside] / np.expm1(u)
    return out


def min_bandwidth_slope(bandwidth_hz: Array, snr_bandwidth_hz: Array) -> Array:
    """d(min_bandwidth)/dR = 1/r'(b), s/bit; 0 where no bandwidth is needed."""
    with np.errstate(divide="ignore"):
        slope = 1.0 / rate_slope(bandwidth_hz, snr_bandwidth_hz)
    return np.where(bandwidth_hz > 0, slope, 0.0)


def _snr_exponent(load: Array) -> Array:
    """u > 0 with ln(expm1(u)/u) = -ln G, for 0 < G < 1."""
    target = -np.log(load)

    def fall(u: Array, goal: Array) -> tuple[Array, Array]:
        value = log_expm1_over_x(u)
        with np.errstate(over="ignore"):
            return goal - value, 1 / u - 1 - 1 / np.expm1(u)

    # x/2 <= ln(expm1(x)/x) <= x bounds the root from both sides.
    return bracketed_root(fall, target, 2 * target, target)
