"""Fading: the random factor on the received power from one packet to the next, with mean one.

The channel coefficient h is a complex number with E|h|² = 1; the fade is the power |h|².

===========  ======================================================  =====================
law          coefficient or fade                                     variance of the fade
===========  ======================================================  =====================
Rayleigh     h ~ CN(0, 1), so |h|² ~ Exponential(1)                  1
Rician       h = sqrt(κ/(κ+1)) + sqrt(1/(κ+1)) CN(0, 1)              (2κ+1) / (κ+1)²
Nakagami     |h|² ~ Gamma(shape m, scale 1/m)                        1 / m
===========  ======================================================  =====================

Symbols, all without unit: κ (``k_factor``) line-of-sight power over scattered power, linear;
m the Nakagami shape; CN(0, 1) complex Gaussian, real and imaginary part of variance 1/2 each.
κ = 0 and m = 1 are Rayleigh fading in law (not draw by draw).

The received SNR is the mean SNR times the fade. :mod:`rralloc.channel.outage` has the
distribution function of each law.

Sources: M. K. Simon and M.-S. Alouini, "Digital Communication over Fading Channels", 2nd ed.,
Wiley, 2005, section 2.2; A. Goldsmith, "Wireless Communications", Cambridge, 2005, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import (
    FloatArray,
    Shape,
    fit,
    require_generator,
    require_k_factor,
    require_m,
    require_shape,
)


def rayleigh(shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """|h|² ~ Exponential(1): many scattered paths and no direct one.

    Choose this when there is no line of sight. It is the law with the closed forms.

    Parameters
    ----------
    shape
        Shape ``(..., K)`` of the draw, a tuple or one whole number.
    rng
        NumPy ``Generator``.

    Returns
    -------
    ndarray
        Independent fades, no unit, shape ``(..., K)``, within [0, inf), mean 1.

    Raises
    ------
    ValueError
        If ``shape`` is not made of whole numbers >= 0.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.1.

    Examples
    --------
    >>> rayleigh((5, 3), np.random.default_rng(0)).shape
    (5, 3)

    """
    return require_generator(rng).standard_exponential(require_shape(shape))


def rician(
    shape: Shape, rng: np.random.Generator, *, k_factor: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """|h|², h = sqrt(κ/(κ+1)) + sqrt(1/(κ+1)) CN(0, 1): one direct path among scattered ones.

    Choose this when the device sees the base station.

    Parameters
    ----------
    shape
        Shape ``(..., K)`` of the draw, a tuple or one whole number.
    rng
        NumPy ``Generator``.
    k_factor
        κ, a linear ratio (not dB) within [0, 1e8], one number or one for each device. 0 is
        Rayleigh fading, a large value is in effect none.

    Returns
    -------
    ndarray
        Independent fades, no unit, shape ``(..., K)``, within [0, inf), mean 1.

    Raises
    ------
    ValueError
        If ``k_factor`` is outside its range or does not stretch to ``shape``.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.3.

    """
    return _power(rician_coefficients(shape, rng, k_factor=k_factor))


def nakagami(
    shape: Shape, rng: np.random.Generator, *, m: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """|h|² ~ Gamma(m, 1/m): a family from worse than Rayleigh (m < 1) to steady (m large).

    Choose this when fading has been measured and its variance, 1/m, is what is known; a whole m
    is also the law of m Rayleigh branches combined.

    Parameters
    ----------
    shape
        Shape ``(..., K)`` of the draw, a tuple or one whole number.
    rng
        NumPy ``Generator``.
    m
        Nakagami shape, no unit, within [0.5, 1e8], one number or one for each device. 1 is
        Rayleigh fading.

    Returns
    -------
    ndarray
        Independent fades, no unit, shape ``(..., K)``, within [0, inf), mean 1.

    Raises
    ------
    ValueError
        If ``m`` is outside its range or does not stretch to ``shape``.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    Source: Simon and Alouini, section 2.2.1.4.

    """
    sides = require_shape(shape)
    order = fit("m", require_m(m), sides)
    return require_generator(rng).standard_gamma(order, sides) / order


def rayleigh_coefficients(shape: Shape, rng: np.random.Generator) -> npt.NDArray[np.complex128]:
    """Coefficients h ~ CN(0, 1): real and imaginary part independent Normal(0, 1/2).

    Choose this when phases matter: several antennas, beamforming, analog aggregation.

    Parameters
    ----------
    shape
        Shape ``(..., K)`` of the draw, a tuple or one whole number; antennas are one more axis.
    rng
        NumPy ``Generator``.

    Returns
    -------
    ndarray
        Independent complex coefficients, no unit, shape ``(..., K)``, with E|h|² = 1.

    Raises
    ------
    ValueError
        If ``shape`` is not made of whole numbers >= 0.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    Source: Goldsmith, section 3.2.2.

    """
    parts = require_generator(rng).standard_normal((2, *require_shape(shape)))
    return np.asarray((parts[0] + 1j * parts[1]) * math.sqrt(0.5))


def rician_coefficients(
    shape: Shape, rng: np.random.Generator, *, k_factor: npt.ArrayLike
) -> npt.NDArray[np.complex128]:
    """Coefficients h = sqrt(κ/(κ+1)) + sqrt(1/(κ+1)) CN(0, 1), direct path of phase zero.

    Choose this when phases matter and the device sees the base station.

    Parameters
    ----------
    shape
        Shape ``(..., K)`` of the draw, a tuple or one whole number; antennas are one more axis.
    rng
        NumPy ``Generator``.
    k_factor
        κ, a linear ratio (not dB) within [0, 1e8], one number or one for each device.

    Returns
    -------
    ndarray
        Independent complex coefficients, no unit, shape ``(..., K)``, with E|h|² = 1.

    Raises
    ------
    ValueError
        If ``k_factor`` is outside its range or does not stretch to ``shape``.
    TypeError
        If ``rng`` is not a NumPy ``Generator``.

    Notes
    -----
    The direct paths of all entries are in phase. For an array of antennas multiply by its steering
    vector. Source: Goldsmith, section 3.2.2.

    """
    sides = require_shape(shape)
    kappa = fit("k_factor", require_k_factor(k_factor), sides)
    scattered = rayleigh_coefficients(sides, rng)
    return np.sqrt(kappa / (kappa + 1.0)) + scattered / np.sqrt(kappa + 1.0)


def _power(h: npt.NDArray[np.complex128]) -> FloatArray:
    # Not abs(h)**2: that takes a square root only to square it again.
    return h.real**2 + h.imag**2
