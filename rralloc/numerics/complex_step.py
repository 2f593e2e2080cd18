"""Derivatives by complex step: f'(x) = Im f(x + ih) / h, exact to rounding for h = 1e-30.

All directions are evaluated in one call: the point gets a new leading axis of n perturbed copies,
and batch-first functions broadcast over it. The function must be complex-analytic (no ``abs``,
``maximum`` or conjugate on the path of the variables).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rralloc.typing import Array, Point

STEP = 1e-30


def perturb(x: Point, batch: int) -> dict[str, Array]:
    """Copies of x, one for each scalar coordinate, that coordinate raised by ``i * STEP``.

    ``batch`` leading axes of each array are batch axes and are not perturbed one by one; the
    result has shape ``(n, ..., axes)`` with n the number of coordinates of one instance.
    """
    counts = {name: int(np.prod(v.shape[batch:], dtype=int)) for name, v in x.items()}
    total, first = sum(counts.values()), 0
    out = {}
    for name, value in x.items():
        count = counts[name]
        copies = np.repeat(value[None].astype(complex), total, axis=0)
        flat = copies.reshape((total, *value.shape[:batch], count))
        rows = np.arange(count)
        flat[first + rows, ..., rows] += 1j * STEP
        out[name] = flat.reshape(copies.shape)
        first += count
    return out


def gradient(fun: Callable[[Point], Array], x: Point) -> dict[str, Array]:
    """Gradient of ``fun(x) (...)`` for each variable, in the variable's own shape."""
    batch = np.ndim(fun(x))
    values = np.imag(fun(perturb(x, batch))) / STEP
    out, first = {}, 0
    for name, value in x.items():
        count = int(np.prod(value.shape[batch:], dtype=int))
        piece = np.moveaxis(values[first : first + count], 0, -1)
        out[name] = piece.reshape(value.shape)
        first += count
    return out
