"""Complex vectors along the last axis: unit length, Gaussian draws."""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Independent CN(0, 1)."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def unit(m: Array) -> Array:
    """m/|m| along the last axis, whatever its size; 0 for 0."""
    big = np.abs(m).max(-1, keepdims=True)
    m = m / np.where(big > 0, big, 1.0)
    length = np.linalg.norm(m, axis=-1, keepdims=True)
    return np.asarray(m / np.where(length > 0, length, 1.0))


def generic(columns: Array) -> Array:
    """A unit vector ``(..., N)`` in general position to ``columns (..., N, K)``.

    No device is deaf to it. Fixed Gaussian weights of the unit columns, the same at every call.
    """
    norm = np.linalg.norm(columns, axis=-2, keepdims=True)
    weights = normal(np.random.default_rng(0), columns.shape[-1:])
    return unit(columns / np.where(norm > 0, norm, 1.0) @ weights)
