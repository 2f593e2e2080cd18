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
