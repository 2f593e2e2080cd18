"""What no beam can beat: certificates on the value of the served devices.

With columns g_k normalised to threshold 1, a unit m and any y >= 0,

    sum_{k served} w_k  <=  lambda_max(sum_k y_k g_k g_k^H) + sum_k (w_k - y_k)^+

as served devices have |g_k^H m|^2 >= 1. y = 0 leaves the devices that are strong enough by
themselves, y = w the strongest direction of all.

Source: spec ota.md §2.6 (UB0, UB1, UB2), with values w; derived.
"""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array

LOOSE = 1 - 2e-9
"""Threshold of the bounds: below the one at which a device counts as served."""


def hopeful(columns: Array) -> Array:
    """Mask ``(..., K)`` of the devices that some beam serves."""
    return (columns.real**2 + columns.imag**2).sum(-2) >= LOOSE


def relaxed(columns: Array, value: Array, y: Array) -> Array:
    """The certificate at y ``(..., K)``; negative entries count as 0, another shape as nothing."""
    able = hopeful(columns)
    y = y if y.shape == value.shape else np.zeros(value.shape)
    w = np.where(able, value, 0.0)
    y = np.where(able & (y > 0) & np.isfinite(y), y, 0.0)
    scaled = columns * np.sqrt(y)[..., None, :]
    norms = (scaled.real**2 + scaled.imag**2).sum((-2, -1))
    safe = np.where(norms > 0, norms, 1.0)  # so that the matrix has trace 1
    scaled = scaled / np.sqrt(safe)[..., None, None]
    top = np.linalg.eigvalsh(scaled @ scaled.conj().swapaxes(-1, -2))[..., -1] * safe
    return top / LOOSE + np.maximum(w - y, 0.0).sum(-1)


def whole(bound: Array, value: Array) -> Array:
    """The bound rounded down where all values are whole numbers."""
    counts = (value == np.rint(value)).all(-1)
    return np.where(counts, np.floor(bound + 1e-9), bound)
