"""Signs in one bit each, moduli by unbiased rounding onto a uniform grid.

With the modulus m = |u| of a vector, its range [lo, hi] and b bits,

    step = (hi - lo)/(2^b - 1),   z = (m - lo)/step,   v = lo + step floor(z + U),   U ~ U[0, 1)

so that E v = m, and with the fractional part f of z the error is, exactly,

    E ||v - m||^2 = step^2 sum_j f_j (1 - f_j)  <=  d step^2/4.

lo and hi travel in the packet's header (two floats); their own rounding is neglected. A vector of
equal moduli has step 0, no error and no division. sign(0) is +1, which costs nothing where the
modulus is known to be 0. Source: spec spfl.md §2.2 (range, exact error: derived).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array


class Grid(NamedTuple):
    """The grids of K moduli, as the packet headers say them: ``lo``, ``step`` ``(K,)``, the top."""

    lo: Array
    step: Array
    top: float
    """2^b - 1, the highest level."""


def grid(modulus: Array, bits: int) -> Grid:
    """The min-max grid of each row of ``modulus (K, d)``, entries >= 0."""
    top = 2.0**bits - 1.0
    lo, hi = modulus.min(axis=1), modulus.max(axis=1)
    return Grid(lo, (hi - lo) / top, top)


def quantise(modulus: Array, on: Grid, uniform: Array) -> Array:
    """v ``(K, d)``: each entry on one of its two grid neighbours, right on average.

    uniform: ``(K, d)`` draws from U[0, 1).
    """
    level = _position(modulus, on)
    level += uniform
    np.floor(level, out=level)
    np.minimum(level, on.top, out=level)  # rounding may put the largest entry a hair above the top
    level *= on.step[:, None]
    level += on.lo[:, None]
    return level


def error_energy(modulus: Array, on: Grid) -> Array:
    """E ||v - m||^2 of each row ``(K,)``, exact: step^2 sum_j f_j (1 - f_j)."""
    part = _position(modulus, on)
    part -= np.floor(part)
    spread = part.sum(axis=1) - np.einsum("kd,kd->k", part, part)
    return on.step**2 * np.maximum(spread, 0.0)


def negative(vector: Array) -> Array:
    """The sign bits, shape of ``vector``: True for -1, False for +1 and for 0."""
    return vector < 0


def signed(modulus: Array, minus: Array) -> Array:
    """The vector with these moduli and sign bits."""
    return np.where(minus, -modulus, modulus)


def _position(modulus: Array, on: Grid) -> Array:
    """z = (m - lo)/step, 0 where step = 0."""
    z = modulus - on.lo[:, None]
    z /= np.where(on.step > 0, on.step, np.inf)[:, None]
    return z
