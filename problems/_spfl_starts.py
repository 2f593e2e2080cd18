"""Starting shares of the band for SP-FL: by spectral efficiency, and by equal outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.channel.packets import roughly_least_band
from rralloc.typing import Array, Point

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL


def rate_based(problem: SPFL) -> Array:
    """b ~ 1/log2(1 + gamma K/2), normalised: weak channels get more. Source: spec §3.2."""
    shape = problem.shape_of(type(problem).bandwidth_share)
    with np.errstate(divide="ignore"):
        need = 1.0 / np.log2(1.0 + problem.snr * shape[-1] / 2)
    need = np.broadcast_to(np.where(np.isfinite(need), need, 0.0), shape)
    total = need.sum(-1, keepdims=True)
    return np.where(total > 0, need / np.where(total > 0, total, 1.0), 1.0 / shape[-1])


def equal_outage(problem: SPFL) -> Point:
    """One fade threshold for everybody, as low as the band allows; then the best simple alpha.

    The band for a threshold y is phi^-1(y); y by 14 bisections of its logarithm.
    Devices with gamma = 0 get none.
    """
    shape = problem.shape_of(type(problem).bandwidth_share)
    heard = np.broadcast_to(problem.snr > 0, shape)
    as_one = problem.free_split or np.array_equal(problem.theta_s, problem.proportional)
    as_one = as_one and problem.modulus_band_share is None

    def need(log_y: Array) -> Array:
        y = np.exp(log_y)[..., None] * problem.snr
        if as_one:
            band = roughly_least_band(problem.sign_rate + problem.modulus_rate, y)
        else:
            parts = (
                (problem.sign_rate, problem.theta_s),
                (problem.modulus_rate, problem.theta_m),
            )
            each = [roughly_least_band(r, y * t) / np.where(t > 0, t, np.inf) for r, t in parts]
            band = np.fmax(*each)
        return np.where(heard, band, 0.0)

    low, high = np.full(shape[:-1], -12.0), np.full(shape[:-1], 200.0)
    for _ in range(14):
        middle = 0.5 * (low + high)
        too_much = need(middle).sum(-1) > 1.0
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    band = np.broadcast_to(need(high), shape)
    total = band.sum(-1, keepdims=True)
    fits = np.isfinite(total) & (total > 0)
    band = np.where(fits, band / np.where(fits, total, 1.0), 1.0 / shape[-1])
    x = problem.with_equal_density(band)
    if not problem.common and problem.packets == "sign-modulus":
        with np.errstate(all="ignore"):
            ratio = np.sqrt(np.divide(*problem.thresholds(*problem.packet_bands(x))))
            share = ratio / (1.0 + ratio)
        x["sign_power_share"] = np.where(np.isfinite(share), share, x["sign_power_share"])
    return x
