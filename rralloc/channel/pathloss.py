"""Path gain: the share of the transmitted power that distance leaves, before fading.

Each law is a loss in dB that is affine in log10 of the distance; the functions return the gain

    g = 10^(-L / 10),    L(d) = L0 + 10 n log10(d / d0).

======  ==============================================  ==========
symbol  meaning                                         unit
======  ==============================================  ==========
d       distance between transmitter and receiver       m
g       path gain, received over transmitted power      linear
L       path loss                                       dB
L0, d0  loss at the reference distance, that distance   dB, m
n       path-loss exponent (2 is free space)            no unit
f, c    carrier frequency, speed of light               Hz, m/s
σ       standard deviation of the shadowing             dB
======  ==============================================  ==========

The laws hold in the far field. None of them stops at a gain of one: nearer than the range for
which a law was measured it goes on growing, and below a metre or so it is a formula, not physics.
Keep devices at a minimum distance (``Cell.min_distance_m``).

Sources: 3GPP TR 36.942, section 4.5.2, and 3GPP TR 36.814, annex A.2.1.1 (macro); H. T. Friis,
"A note on a simple transmission formula", Proc. IRE 34(5), 1946 (free space); T. S. Rappaport,
"Wireless Communications", 2nd ed., 2002, section 4.9 (log-distance and shadowing).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, broadcast, require, require_generator
from rralloc.channel.units import db_to_linear

SPEED_OF_LIGHT_M_PER_S: float = 299_792_458.0
"""Speed of light in vacuum, exact in the SI."""


def macro_3gpp(distance_m: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gain g = 10^(-L / 10), L = 128.1 + 37.6 log10(d / 1 km) dB: 3GPP macro cell at 2 GHz.

    Choose this when the scenario is a cellular macro cell; it is the usual path loss in papers on
    wireless federated learning.

    Parameters
    ----------
    distance_m
        Distance in m, shape ``(..., K)``, within (0, inf). The standard places devices at 35 m or
        more; the law is not cut off there.

    Returns
    -------
    ndarray
        Linear power gain, shape ``(..., K)``, >= 0.

    Raises
    ------
    ValueError
        If a distance is not positive and finite.

    Notes
    -----
    Urban and suburban, base antenna 15 m above the roofs, 2 GHz. Shadowing is separate:
    :func:`with_shadowing`, 8 to 10 dB in the same reports. Source: 3GPP TR 36.942, section 4.5.2;
    3GPP TR 36.814, annex A.2.1.1.

    Examples
    --------
    >>> round(float(-10 * np.log10(macro_3gpp(1000.0))), 9)
    128.1

    """
    return _gain(128.1 + 37.6 * np.log10(_distance(distance_m) / 1000.0))


def log_distance(
    distance_m: npt.ArrayLike,
    *,
    exponent: npt.ArrayLike,
    reference_loss_db: npt.ArrayLike,
    reference_m: npt.ArrayLike = 1.0,
) -> npt.NDArray[np.float64]:
    """Gain g = 10^(-L / 10), L = L0 + 10 n log10(d / d0).

    Choose this when a measurement or a paper gives an exponent and the loss at one distance.

    Parameters
    ----------
    distance_m
        Distance d in m, shape ``(..., K)``, within (0, inf).
    exponent
        n, no unit, within [0, inf): 2 in free space, 1.6 to 1.8 along corridors, 2.7 to 5 in
        cities.
    reference_loss_db
        L0 in dB at the distance d0, finite.
    reference_m
        d0 in m, within (0, inf). Each of the three may be one number or ``(..., K)``.

    Returns
    -------
    ndarray
        Linear power gain, at the common shape ``(..., K)``, >= 0.

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.

    Notes
    -----
    Source: T. S. Rappaport, "Wireless Communications", 2nd ed., section 4.9.1.

    Examples
    --------
    >>> gain = log_distance([1.0, 10.0], exponent=3.0, reference_loss_db=40.0)
    >>> np.round(-10 * np.log10(gain), 9).tolist()
    [40.0, 70.0]

    """
    fix_n = "give the path-loss exponent, 2 for free space"
    fix_l = "give the loss at reference_m in dB, positive for a loss"
    fix_d = "give the reference distance in metres, often 1"
    d, n, loss, d0 = broadcast(
        distance_m=_distance(distance_m),
        exponent=require("exponent", exponent, "[0, inf)", unit="(no unit)", fix=fix_n),
        reference_loss_db=require(
            "reference_loss_db", reference_loss_db, "(-inf, inf)", unit="dB", fix=fix_l
        ),
        reference_m=require("reference_m", reference_m, "(0, inf)", unit="m", fix=fix_d),
    )
    # A difference of logarithms, since d / d0 may overflow where the loss does not.
    return _gain(loss + 10.0 * n * (np.log10(d) - np.log10(d0)))


def free_space(distance_m: npt.ArrayLike, *, carrier_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Gain g = (c / (4π d f))^2: the transmission formula of Friis for isotropic antennas.

    Choose this when nothing stands between or near the antennas, or as the optimistic baseline.

    Parameters
    ----------
    distance_m
        Distance d in m, shape ``(..., K)``, within (0, inf).
    carrier_hz
        Carrier frequency f in Hz, one number or ``(..., K)``, within (0, inf).

    Returns
    -------
    ndarray
        Linear power gain, at the common shape ``(..., K)``, >= 0.

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.

    Notes
    -----
    Holds in the far field, d much larger than the wavelength c / f. Source: H. T. Friis, "A note
    on a simple transmission formula", Proc. IRE 34(5), 1946.

    Examples
    --------
    >>> round(float(-10 * np.log10(free_space(100.0, carrier_hz=2.4e9))), 2)
    80.05

    """
    fix = "give the carrier frequency in hertz, 2.4e9 for 2.4 GHz"
    d, f = broadcast(
        distance_m=_distance(distance_m),
        carrier_hz=require("carrier_hz", carrier_hz, "(0, inf)", unit="Hz", fix=fix),
    )
    # A sum of logarithms, since d * f may overflow where the loss does not.
    constant = math.log10(4.0 * math.pi / SPEED_OF_LIGHT_M_PER_S)
    return _gain(20.0 * (np.log10(d) + np.log10(f) + constant))


def with_shadowing(
    gain: npt.ArrayLike, sigma_db: npt.ArrayLike, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Gain g 10^(X / 10), X ~ Normal(0, σ²) in dB for each entry: log-normal shadowing.

    Choose this when buildings and hills make devices at one distance differ for a whole run.
    Fading (:mod:`rralloc.channel.fading`) is the change from packet to packet.

    Parameters
    ----------
    gain
        Linear power gain, shape ``(..., K)``, within [0, inf).
    sigma_db
        σ in dB, one number or ``(..., K)``, within [0, 100]; 8 is usual, 0 changes nothing.
    rng
        NumPy ``Generator``.

    Returns
    -------
    ndarray
        Linear power gain, at the common shape ``(..., K)``, >= 0.

    Raises
    ------
    ValueError
        If an argument is outside its range, or the shapes do not fit together.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    The *median* over the shadowing is ``gain``; the mean is larger, by exp(s² / 2) with
    s = σ ln(10) / 10. Source: T. S. Rappaport, "Wireless Communications", 2nd ed., section 4.9.2.

    """
    fix_g = "give the linear gain that a path-loss law returns, not dB"
    fix_s = "give the standard deviation in dB, 8 is usual"
    g, sigma = broadcast(
        gain=require("gain", gain, "[0, inf)", unit="(linear)", fix=fix_g),
        sigma_db=require("sigma_db", sigma_db, "[0, 100]", unit="dB", fix=fix_s),
    )
    return g * db_to_linear(sigma * require_generator(rng).standard_normal(g.shape))


def _distance(distance_m: npt.ArrayLike) -> FloatArray:
    fix = "give a positive, finite distance in metres"
    return require("distance_m", distance_m, "(0, inf)", unit="m", fix=fix)


def _gain(loss_db: FloatArray) -> FloatArray:
    # A gain of 10^300 has no finite product with a power; only a slip of units leads there.
    fix = "no path loses so little, so check that distances are in metres and losses in dB"
    return db_to_linear(-require("path loss", loss_db, "[-3000, inf]", unit="dB", fix=fix))
