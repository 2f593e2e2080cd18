"""Logarithms and exponentials that keep their digits near zero and their range near infinity."""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array

LN2 = float(np.log(2.0))


def expm1_over_x(x: Array) -> Array:
    """(e^x - 1)/x for x >= 0, 1 at x = 0, inf where e^x overflows."""
    x = np.asarray(x, dtype=float)
    safe = np.where(x == 0.0, 1.0, x)
    with np.errstate(over="ignore"):
        return np.where(x == 0.0, 1.0, np.expm1(safe) / safe)


def log_expm1_over_x(x: Array) -> Array:
    """ln((e^x - 1)/x) for x >= 0: series x/2 + x^2/24 below 1e-4, x - ln x where e^x overflows.

    Source: spec rrm.md, correction 2 of section 5 (the kernel of the minimum-bandwidth root).
    """
    x = np.asarray(x, dtype=float)
    small = x < 1e-4
    safe = np.where(small, 1.0, x)
    return np.where(small, x * (0.5 + x / 24.0), safe + np.log(-np.expm1(-safe) / safe))


def xlog2_1p(b: Array, q: Array) -> Array:
    """b log2(1 + q/b), the rate of bandwidth b at received power q (Hz); 0 at b = 0.

    Accepts complex b for complex-step derivatives (the real part decides the branch).
    """
    zero = np.real(b) <= 0.0
    safe = np.where(zero, 1.0, b)
    return np.where(zero, 0.0, safe * np.log1p(q / safe) / LN2)
