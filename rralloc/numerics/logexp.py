"""Logarithms and exponentials that keep their digits near zero and their range near infinity."""

from __future__ import annotations

import numpy as np

from rralloc.numerics.roots import bracketed_root
from rralloc.typing import Array

LN2 = float(np.log(2.0))
_EXCESS = np.array([1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320])


def expm1_over_x(x: Array) -> Array:
    """(e^x - 1)/x for x >= 0 (or complex), 1 at x = 0, inf where e^x overflows."""
    x = np.asarray(x)
    safe = np.where(x == 0.0, 1.0, x)
    with np.errstate(over="ignore"):
        return np.where(x == 0.0, 1.0, np.expm1(safe) / safe)


def log_expm1_over_x(x: Array) -> Array:
    """ln((e^x - 1)/x) for x >= 0: x/2 + x^2/24 - x^4/2880 + ... below 0.02, no overflow above.

    Source: spec rrm.md, correction 2 of section 5 (there with two terms below 1e-4).
    """
    x = np.asarray(x, dtype=float)
    small = x < 0.02
    tiny, safe = np.where(small, x, 0.0), np.where(small, 1.0, x)
    series = tiny * (0.5 + tiny * (1 / 24 - tiny**2 * (1 / 2880 - tiny**2 / 181440)))
    return np.where(small, series, safe + np.log(-np.expm1(-safe) / safe))


def log1p_excess(u: Array) -> Array:
    """h(u) = u - 1 + e^-u for u >= 0: with u = ln(1+s), ln(1+s) - s/(1+s); u^2/2 near 0."""
    u = np.asarray(u)
    small = np.real(u) < 0.02
    tiny, safe = np.where(small, u, 0.0), np.where(small, 1.0, u)
    series = tiny * tiny * np.polynomial.polynomial.polyval(-tiny, _EXCESS)
    return np.where(small, series, safe + np.expm1(-safe))


def inverse_log1p_excess(y: Array) -> Array:
    """u >= 0 with u - 1 + e^-u = y, for y >= 0 (inf to inf)."""
    y = np.asarray(y, dtype=float)
    flat = np.where(np.isfinite(y), y, 0.0).ravel()
    # h(u) <= min(u^2/2, u) gives the lower end, h(u) >= u - 1 and h(u) >= u^2/(2 + u) the upper.
    low = np.maximum(flat, np.sqrt(2.0) * np.sqrt(flat))
    high = np.minimum(flat + 1, 0.5 * (flat + np.sqrt(flat) * np.sqrt(flat + 8))) * (1 + 1e-15)

    def fall(u: Array, target: Array) -> tuple[Array, Array]:
        return target - log1p_excess(u), np.expm1(-u)

    u = bracketed_root(fall, low, high, flat).reshape(y.shape)
    return np.where(np.isfinite(y), u, np.inf)


def xlog2_1p(b: Array, q: Array) -> Array:
    """b log2(1 + q/b), the rate of bandwidth b at received power q (Hz); 0 at b = 0.

    Accepts complex b for complex-step derivatives (the real part decides the branch). Also 0
    where q/b would overflow: infinity there would be an infinite rate for no bandwidth.
    """
    zero = np.real(b) <= np.maximum(1e-300 * np.real(q), 0.0)
    safe = np.where(zero, 1.0, b)
    return np.where(zero, 0.0, safe * np.log1p(q / safe) / LN2)
