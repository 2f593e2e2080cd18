"""Newton steps for sums over devices with one coupling row: blocks of at most 3 x 3, no loops.

    min  sum_k J_k(x_k)   s.t.  sum_k a . x_k = budget,   lower <= x <= upper

The Hessian is block diagonal, bordered by the row (an arrow), so with M_k the inverse blocks

    price = -(slack + sum_k a.M_k g_k) / sum_k a.M_k a,     d_k = -M_k (g_k + price a)

at O(K) cost. Coordinates at a bound whose gradient points outward are held; blocks that are not
positive definite are replaced by their absolute value (in coordinates scaled by their diagonal).
Source: spec spfl.md §3.3(a), with the freeze of §3.3(i).
"""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array

TINY = 1e-300
LEAST = 1e-8
"""Eigenvalues of a scaled block are kept at least this large."""


def held(x: Array, slope: Array, lower: Array, upper: Array) -> Array:
    """Mask of coordinates at a bound whose ``slope`` points outward (or is zero there)."""
    return ((x <= lower) & (slope >= 0)) | ((x >= upper) & (slope <= 0))


def inverse_blocks(hessian: Array, fixed: Array) -> Array:
    """Inverses ``(..., n, n)`` of the positive definite parts; zero rows where ``fixed``."""
    size = hessian.shape[-1]
    diagonal = np.einsum("...ii->...i", hessian)
    scale = np.where(fixed, 1.0, 1.0 / np.sqrt(np.maximum(np.abs(diagonal), TINY)))
    free = ~fixed
    rows = [[_entry(hessian, scale, free, i, j) for j in range(size)] for i in range(size)]
    inverse, good = _adjugate(rows)
    out = np.empty_like(hessian)
    for i in range(size):
        for j in range(size):
            out[..., i, j] = inverse[i][j]
    if not good.all():
        bad = ~good
        scaled = np.stack([np.stack([v[bad] for v in row], -1) for row in rows], -2)
        root, vectors = np.linalg.eigh(np.nan_to_num(scaled, posinf=0.0, neginf=0.0))
        size_of = np.maximum(np.abs(root), LEAST)
        out[bad] = (vectors / size_of[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    weight = np.where(fixed, 0.0, scale)
    out *= weight[..., :, None]
    out *= weight[..., None, :]
    return out


def _entry(hessian: Array, scale: Array, free: Array, i: int, j: int) -> Array:
    if i == j:
        return np.where(free[..., i], hessian[..., i, i] * scale[..., i] ** 2, 1.0)
    both = free[..., i] & free[..., j]
    return np.where(both, hessian[..., i, j] * scale[..., i] * scale[..., j], 0.0)


def _adjugate(a: list[list[Array]]) -> tuple[list[list[Array]], Array]:
    """Inverse of symmetric blocks with unit diagonal by cofactors, and where that is safe."""
    size = len(a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if size == 1:
            return [[1.0 / a[0][0]]], a[0][0] > LEAST
        minor = a[0][0] * a[1][1] - a[0][1] ** 2
        if size == 2:
            good = (a[0][0] > 0) & (minor > LEAST)
            return [[a[1][1] / minor, -a[0][1] / minor], [-a[0][1] / minor, a[0][0] / minor]], good
        c00 = a[1][1] * a[2][2] - a[1][2] ** 2
        c01 = a[0][2] * a[1][2] - a[0][1] * a[2][2]
        c02 = a[0][1] * a[1][2] - a[0][2] * a[1][1]
        c11 = a[0][0] * a[2][2] - a[0][2] ** 2
        c12 = a[0][1] * a[0][2] - a[0][0] * a[1][2]
        det = a[0][0] * c00 + a[0][1] * c01 + a[0][2] * c02
        good = (a[0][0] > 0) & (minor > LEAST) & (det > LEAST * minor)
        rows = [[c00, c01, c02], [c01, c11, c12], [c02, c12, minor]]
        return [[c / det for c in row] for row in rows], good


def times(blocks: Array, vectors: Array) -> Array:
    """Blocks ``(..., n, n)`` times vectors ``(..., n)``; cheaper than matmul for n <= 3."""
    size = vectors.shape[-1]
    out: Array = blocks[..., 0] * vectors[..., :1]
    for j in range(1, size):
        out = out + blocks[..., j] * vectors[..., j : j + 1]
    return out


def arrow_direction(
    gradient: Array, hessian: Array, row: Array, slack: Array, fixed: Array
) -> tuple[Array, Array]:
    """Direction ``(S, K, n)`` that uses up ``slack (S,)``, and the price of the budget ``(S,)``."""
    inverse = inverse_blocks(hessian, fixed)
    along = times(inverse, gradient)
    across = inverse @ row
    use = (across @ row).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        price = np.where(use > 0, -(slack + (along @ row).sum(-1)) / use, 0.0)
    return -(along + price[:, None, None] * across), price
