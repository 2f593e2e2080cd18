"""The normal form of over-the-air sums: columns by which a device is served from 1 on.

Source: spec ota.md §2.1, derived.
"""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array

STRONGEST = 1e100
"""Columns are cut to this norm: without noise every device that is heard at all is served."""


def normalised(h: Array, power: Array, target: Array, noise: Array, phi: Array) -> Array:
    """g/sqrt(tau) = h/phi sqrt(P target/noise) ``(..., N, K)``, by which the threshold is 1.

    power, target, noise ``(...)``; phi ``(..., K)``. A silent device keeps a zero column.
    """
    big = np.abs(h).max(-2)
    with np.errstate(all="ignore"):  # no noise: infinitely strong
        level = np.sqrt(power) * np.sqrt(target)
        reach = (level / np.sqrt(noise))[..., None] / phi
        size = np.where(big > 0, np.minimum(big * reach, STRONGEST), 0.0)
    return np.asarray(h / np.where(big > 0, big, 1.0)[..., None, :] * size[..., None, :])
