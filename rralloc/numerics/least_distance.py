"""Least distance: the shortest vector that meets linear inequalities, and beams made of it.

    min |x|^2   s.t.  A x >= b

is one non-negative least squares problem: with E = [A'; b'] and f = (0, ..., 0, 1), u = nnls(E, f)
and r = E u - f give x = -r[:-1]/r[-1] and multipliers u/(-r[-1]); r = 0 where nothing meets the
inequalities. With phases frozen, "every device hears the beam" is such a problem.

Source: Lawson and Hanson, Solving Least Squares Problems, chapter 23; spec ota.md §3 (d1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array

EMPTY = 1e-12
"""A residual below this means that no x meets the inequalities (b of size 1, x of size 1)."""
SCREEN = 3
"""How many inequalities are tried first, for each real coordinate, where there are many."""


class Nearest(NamedTuple):
    """The shortest x ``(n,)`` and the multipliers ``(m,)`` of the inequalities."""

    x: Array
    multipliers: Array


class Beam(NamedTuple):
    """A unit vector, the least gain ``|g_k^H m|^2`` it gives, and what each column weighs on it."""

    m: Array
    gain: float
    pressure: Array


def least_distance(A: Array, b: Array) -> Nearest | None:
    """min |x|^2 s.t. A x >= b; None where nothing meets the inequalities.

    Scale the rows so that b and the answer are of size 1. Needs scipy.
    """
    from scipy.optimize import nnls

    E = np.vstack([A.T, b])
    f = np.zeros(len(E))
    f[-1] = 1.0
    try:
        u, _ = nnls(E, f)
    except RuntimeError:  # nnls gave up
        return None
    r = E @ u - f
    if r[-1] >= 0 or float(r @ r) < EMPTY**2:
        return None
    return Nearest(-r[:-1] / r[-1], u / -r[-1])


def shortest(rows: Array, first: Array | None = None) -> Nearest | None:
    """min |x|^2 s.t. Re(rows x) >= 1 for complex rows ``(m, n)``; x is complex.

    first: rows that are tried before the others, where there are many.
    """
    A, ones = np.hstack([rows.real, -rows.imag]), np.ones(len(rows))
    found = least_distance(A, ones) if first is None else _screened(A, ones, first)
    if found is None:
        return None
    size = rows.shape[1]
    return Nearest(found.x[:size] + 1j * found.x[size:], found.multipliers)


def _screened(A: Array, b: Array, first: Array) -> Nearest | None:
    """The same from a few rows, to which the violated ones are added until there are none."""
    work = first
    while True:
        found = least_distance(A[work], b[work])
        if found is None:
            return None
        short = A @ found.x < b - 1e-10
        short[work] = False
        if not short.any():
            multipliers = np.zeros(len(b))
            multipliers[work] = found.multipliers
            return Nearest(found.x, multipliers)
        work = np.concatenate([work, np.flatnonzero(short)])


def max_min(
    columns: Array, m: Array, *, steps: int = 20, tol: float = 1e-4, target: float = np.inf
) -> Beam:
    """A unit vector with locally largest ``min_k |g_k^H m|^2``, columns ``(N, K)``, from ``m``.

    Each step freezes the phases of g_k^H m and solves min |x|^2 s.t. Re(e^{-j theta_k} g_k^H x) >=
    1, so the least gain never falls. It stops when the gain rises by less than ``tol``, when it
    reaches ``target``, or when three more steps like the last would still miss the target.
    """
    size = len(m)
    length = float(np.linalg.norm(m))
    m = m / length if length > 0 else m
    rows, heard = _heard(columns, m)
    low, rise, pressure = float(heard.min()), 0.0, np.zeros(columns.shape[1])
    for step in range(steps):
        if low <= 0.0 or low >= target:
            break
        # 1. Turn every row so that it is real at m, and scale so that m has least gain 1.
        turned = rows * (np.exp(-1j * np.angle(rows @ m)) / np.sqrt(low))[:, None]
        # 2. The shortest vector in the half-planes; of very many, those least heard first.
        many = len(rows) > 2 * SCREEN * size
        first = np.argpartition(heard, SCREEN * size)[: SCREEN * size] if many else None
        found = shortest(turned, first)
        if found is None:
            break
        new = found.x / np.linalg.norm(found.x)
        _, now = _heard(columns, new)
        gain = float(now.min())
        if gain < low:  # rounding: m was as good as it gets
            break
        # 3. Stop at little progress, or where the target is out of reach.
        rise, pressure = 1 / low - 1 / gain, found.multipliers
        done = gain - low <= tol * gain
        m, low, heard = new, gain, now
        hopeless = np.isfinite(target) and step >= 1 and 1 / gain - 3 * rise > 1 / target
        if done or hopeless:
            break
    return Beam(m, low, pressure)


def _heard(columns: Array, m: Array) -> tuple[Array, Array]:
    """The rows g_k^H and the gains |g_k^H m|^2."""
    rows = columns.conj().T
    y = rows @ m
    return rows, y.real**2 + y.imag**2
