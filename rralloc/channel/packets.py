"""When a coded packet gets through Rayleigh fading, as a function of its share of the band.

A packet of ``rate`` r bit/s/Hz (its bits over the *whole* band times the uplink time) is sent in a
share x of the band by a device that would have the mean SNR gamma if it put all its power on the
whole band. With the share a of that power it is decoded iff the unit-mean power fade |h|^2 is at
least phi(x)/a,

    phi(x) = (x/gamma) (2^(r/x) - 1),        P(decoded) = exp(-phi(x)/a).

phi is decreasing, convex and log-convex in x. With u = r ln2/x,

    phi = (r ln2/gamma) (e^u - 1)/u,  phi' = (e^u - 1 - u e^u)/gamma,  phi'' = u^2 e^u/(gamma x).

Its inverse, the least band for a threshold y, is ``min_bandwidth(r, gamma y)``. Splitting the time
instead of the band with the same average power gives the same formulas. Source: spec spfl.md §2.3,
§2.7, §3.4, derived.
"""

from __future__ import annotations

import numpy as np

from rralloc.numerics.logexp import LN2, expm1_over_x, log_expm1_over_x
from rralloc.typing import Array

FULL = 700.0
"""Arguments of exp are capped here: beyond, a packet is as good as never decoded."""


def fade_threshold(band_share: Array, snr: Array, rate: Array) -> Array:
    """phi(x) ``(...)``: the least unit-power fade that decodes the packet at full power.

    band_share: x >= 0 (complex for complex-step derivatives). snr: gamma >= 0, linear. rate: r >= 0
    in bit/s/Hz. 0 for an empty packet (r = 0); inf where x = 0 or gamma = 0 or it overflows.
    """
    u = _argument(band_share, rate)
    real = np.real(u)
    full = real >= FULL
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        phi = rate * LN2 / snr * expm1_over_x(np.where(full, 1.0, u))
    return np.where(rate == 0, 0.0, np.where(full | (snr == 0), np.inf, phi))


def log_fade_threshold(band_share: Array, snr: Array, rate: Array) -> Array:
    """ln phi(x) ``(...)``, which stays finite where phi overflows; -inf for an empty packet."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_phi = np.log(rate * LN2 / snr) + log_expm1_over_x(_argument(band_share, rate))
    return np.where(rate == 0, -np.inf, np.where(snr == 0, np.inf, log_phi))


def fade_threshold_slopes(band_share: Array, snr: Array, rate: Array) -> tuple[Array, Array, Array]:
    """phi, phi' < 0 and phi'' > 0 with respect to the share; +-inf where phi is."""
    u = _argument(band_share, rate)
    full = u >= FULL
    x = np.where(full, 1.0, u)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        grown = np.exp(x)
        inverse = np.where(full | (snr == 0), np.inf, 1.0 / snr)
        phi = np.where(rate == 0, 0.0, rate * LN2 * inverse * expm1_over_x(x))
        # e^u - 1 - u e^u cancels near 0; there it is -u^2 (1/2 + u/3 + u^2/8 + ...).
        tiny = -x * x * (0.5 + x * (1 / 3 + x * (1 / 8 + x / 30)))
        slope = np.where(x < 1e-3, tiny, np.expm1(x) - x * grown) * inverse
        bend = x * x * grown * inverse / band_share
    empty = rate == 0
    return phi, np.where(empty, 0.0, slope), np.where(empty, 0.0, bend)


_U = np.geomspace(1e-9, 1e3, 4000)
_LOG_Y = log_expm1_over_x(_U)


def roughly_least_band(rate: Array | float, threshold: Array) -> Array:
    """phi^-1(y) for gamma = 1, to 6 digits: u with ln((e^u - 1)/u) = ln(y/(r ln2)), x = r ln2/u.

    By interpolation, 50 times as fast as the exact ``min_bandwidth(r, y)``; for starting points.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log_y = np.log(threshold / (rate * LN2))
    band = rate * LN2 / np.interp(log_y, _LOG_Y, _U)
    return np.where(rate == 0, 0.0, np.where(log_y > _LOG_Y[0], band, np.inf))


def _argument(band_share: Array, rate: Array) -> Array:
    """u = r ln2/x, inf at x = 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = rate * LN2 / np.where(band_share == 0, 1.0, band_share)
    return np.where(band_share == 0, np.inf, u)
