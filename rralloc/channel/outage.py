"""Outage: the probability that a fade is too deep for the packet.

A packet sent at ``r`` bit/s over ``b`` Hz is lost when the channel carries less than that,

    b log2(1 + γ X) < r    if and only if    X < t,    t = (2^(r/b) - 1) / γ,

with X the fade of mean one. So each fading law needs only its distribution function at t:

===========  ====================================================
law          P(X < t)
===========  ====================================================
Rayleigh     1 - exp(-t)
Rician       1 - Q1(sqrt(2κ), sqrt(2 (κ+1) t))
Nakagami     P(m, m t), the regularised incomplete gamma function
===========  ====================================================

======  ==================================================  =========
symbol  meaning                                             unit
======  ==================================================  =========
r, b    rate of the packet, bandwidth                       bit/s, Hz
γ       mean SNR over that bandwidth                        linear
X, t    fade (mean 1), smallest fade that carries r         no unit
κ, m    Rice factor, Nakagami shape                         no unit
Q1      Marcum Q function of order one                      no unit
======  ==================================================  =========

γ depends on b: power p over noise density N0 gives γ = p g / (N0 b), so a wider band has a
*smaller* γ. Pass the γ of the band in use.

Sources: A. Goldsmith, "Wireless Communications", Cambridge, 2005, section 4.2.3 (capacity with
outage); M. K. Simon and M.-S. Alouini, "Digital Communication over Fading Channels", 2nd ed.,
Wiley, 2005, section 2.2 (the laws).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import (
    FloatArray,
    broadcast,
    require,
    require_k_factor,
    require_m,
)


def outage_threshold(
    rate_bps: npt.ArrayLike, bandwidth_hz: npt.ArrayLike, mean_snr: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Threshold t = (2^(r/b) - 1) / γ, the smallest fade at which b log2(1 + γ t) >= r.

    Choose this when the packet has a fixed rate and the sender does not know the fade.

    Parameters
    ----------
    rate_bps
        Rate r in bit/s, shape ``(..., K)``, within [0, inf).
    bandwidth_hz
        Bandwidth b in Hz, shape ``(..., K)``, within [0, inf).
    mean_snr
        Mean SNR γ over that bandwidth, linear, shape ``(..., K)``, within [0, inf]; infinity is
        allowed since p g / (N0 b) is infinite at b = 0.

    Returns
    -------
    ndarray
        Threshold t, no unit, at the common shape ``(..., K)``, within [0, inf]. Infinity (never
        delivered) when r > 0 and b = 0 or γ = 0; zero (always delivered) when r = 0.

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.

    Notes
    -----
    Accurate relative to t also for r much smaller than b, where 2^(r/b) - 1 cancels. Source:
    Goldsmith, section 4.2.3.

    Examples
    --------
    >>> float(outage_threshold(2e6, 1e6, 3.0))
    1.0

    """
    rate, band, snr = broadcast(
        rate_bps=require("rate_bps", rate_bps, "[0, inf)", unit="bit/s", fix="give bit/s"),
        bandwidth_hz=require("bandwidth_hz", bandwidth_hz, "[0, inf)", unit="Hz", fix="give hertz"),
        mean_snr=require(
            "mean_snr", mean_snr, "[0, inf]", unit="(linear)", fix="give a linear ratio, not dB"
        ),
    )
    with np.errstate(all="ignore"):  # both branches are taken everywhere, the limits come below
        nats = rate / band * math.log(2.0)
        usual = np.expm1(nats) / snr
        # exp overflows at 709 although the quotient may be finite; here the -1 is below rounding.
        large = np.exp(nats - np.log(snr))
    t = np.where(nats > 700.0, large, usual)
    t = np.where(np.isinf(nats) | (snr == 0.0), np.inf, t)  # nats is infinite where b = 0
    return np.where(rate == 0.0, 0.0, t)[()]


def rayleigh_outage(threshold: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(X < t) = 1 - exp(-t) for X ~ Exponential(1).

    Choose this when there is no line of sight.

    Parameters
    ----------
    threshold
        t of :func:`outage_threshold`, no unit, shape ``(..., K)``, within [0, inf].

    Returns
    -------
    ndarray
        Probability of loss, shape ``(..., K)``, within [0, 1], to full relative accuracy.

    Raises
    ------
    ValueError
        If a threshold is negative or NaN.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.1.

    Examples
    --------
    >>> float(rayleigh_outage(1e-300))
    1e-300

    """
    return -np.expm1(-_threshold(threshold))


def rayleigh_log_success(threshold: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Log of the success probability: ln P(X >= t) = -t for X ~ Exponential(1).

    Choose this when successes are multiplied or optimised: the log is exact and concave where
    the probability itself underflows to zero.

    Parameters
    ----------
    threshold
        t of :func:`outage_threshold`, no unit, shape ``(..., K)``, within [0, inf].

    Returns
    -------
    ndarray
        Natural logarithm of the probability of delivery, shape ``(..., K)``, within [-inf, 0].

    Raises
    ------
    ValueError
        If a threshold is negative or NaN.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.1.

    """
    return 0.0 - _threshold(threshold)  # a difference, so that t = 0 gives 0 and not -0


def rician_outage(threshold: npt.ArrayLike, *, k_factor: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(X < t) = 1 - Q1(sqrt(2κ), sqrt(2 (κ+1) t)) for the Rician fade of mean one.

    Choose this when the device sees the base station.

    Parameters
    ----------
    threshold
        t of :func:`outage_threshold`, no unit, shape ``(..., K)``, within [0, inf].
    k_factor
        κ, a linear ratio (not dB) within [0, 1e8], one number or ``(..., K)``.

    Returns
    -------
    ndarray
        Probability of loss, at the common shape ``(..., K)``, within [0, 1].

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.

    Notes
    -----
    2 (κ+1) X is non-central chi-square with 2 degrees of freedom and non-centrality 2κ, whose
    distribution function is evaluated. Probabilities below about 1e-40 may come out as zero when
    κ exceeds 50. Source: Simon and Alouini, section 2.2.1.3.

    """
    from scipy.special import chndtr

    t, kappa = broadcast(threshold=_threshold(threshold), k_factor=require_k_factor(k_factor))
    with np.errstate(over="ignore"):  # an infinite argument has the right value, 1
        below = chndtr(2.0 * (kappa + 1.0) * t, 2.0, 2.0 * kappa)
    return _probability(below)


def nakagami_outage(threshold: npt.ArrayLike, *, m: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(X < t) = P(m, m t), the regularised lower incomplete gamma function.

    Choose this when the fade is Gamma(m, 1/m): measured fading, or m Rayleigh branches combined.

    Parameters
    ----------
    threshold
        t of :func:`outage_threshold`, no unit, shape ``(..., K)``, within [0, inf].
    m
        Nakagami shape, no unit, within [0.5, 1e8], one number or ``(..., K)``.

    Returns
    -------
    ndarray
        Probability of loss, at the common shape ``(..., K)``, within [0, 1].

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.4.

    """
    from scipy.special import gammainc

    t, order = broadcast(threshold=_threshold(threshold), m=require_m(m))
    with np.errstate(over="ignore"):  # an infinite argument has the right value, 1
        below = gammainc(order, order * t)
    return _probability(below)


def _threshold(threshold: npt.ArrayLike) -> FloatArray:
    fix = "give the smallest fade that carries the packet, as outage_threshold returns"
    return require("threshold", threshold, "[0, inf]", unit="(no unit)", fix=fix)


def _probability(value: npt.ArrayLike) -> FloatArray:
    # A series that sums to one may pass it by a rounding error.
    return np.clip(np.asarray(value, dtype=np.float64), 0.0, 1.0)[()]
