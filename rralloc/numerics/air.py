"""Sums over the air: the transmit scaling of least error.

Source: ota.md §2.2, derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.typing import Array


class LeastError(NamedTuple):
    """1/sqrt(eta) and the error it leaves, both ``(...)``."""

    scale: Array
    mse: Array


def least_error(strength: Array, phi: Array, noise: Array | float) -> LeastError:
    """The scaling z = 1/sqrt(eta) of least mean square error of the sum sum_k phi_k s_k.

        min_z  sum_k max(0, phi_k - z c_k)^2 + noise z^2,    c_k = sqrt(P_k) |m^H h_k|

    for independent symbols of unit power: strong devices invert their channel, weak ones send with
    full power. For A the weak ones, z = sum_A phi c/(sum_A c^2 + noise), and A is a prefix in
    falling phi_k/c_k: each of the K prefixes is tried. strength: c ``(..., K)`` >= 0. phi
    ``(..., K)`` >= 0. noise ``(...)`` >= 0: sigma^2 |m|^2, half of it if real parts are sent. All
    zero: z = 0, the sum is given up.
    """
    strength, phi = np.broadcast_arrays(strength, phi)
    noise = np.asarray(noise, dtype=float)[..., None]
    big = strength.max(-1, keepdims=True)
    big = np.where(big > 0, big, 1.0)
    with np.errstate(over="ignore"):
        c, noise = strength / big, noise / big / big
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(phi > 0, phi / c, 0.0)
    order = (-ratio).argsort(-1, kind="stable")
    c, wanted = np.take_along_axis(c, order, -1), np.take_along_axis(phi, order, -1)
    below = (c * c).cumsum(-1) + noise
    z = (c * wanted).cumsum(-1) / np.where(below > 0, below, 1.0)
    missed = np.maximum(wanted[..., None, :] - z[..., :, None] * c[..., None, :], 0.0)
    with np.errstate(invalid="ignore"):
        loud = np.where(z > 0, noise * z * z, 0.0)
    mse = (missed**2).sum(-1) + loud
    pick = mse.argmin(-1)[..., None]
    best = [np.take_along_axis(v, pick, -1)[..., 0] for v in (z, mse)]
    return LeastError(best[0] / big[..., 0], best[1])
