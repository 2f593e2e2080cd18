"""Decibels and watts: x_dB = 10 log10(x), P_dBm = 10 log10(P / 1 mW).

====================  ==============================================  =======
symbol                meaning                                         unit
====================  ==============================================  =======
x                     ratio of two powers                             linear
x_dB                  the same ratio in decibels                      dB
P                     power                                           W
P_dBm                 power relative to one milliwatt                 dBm
N0 = k_B T            power spectral density of thermal noise         W/Hz
====================  ==============================================  =======

All ratios here are of *powers*; a ratio of amplitudes has 20 in place of 10. Thermal noise at
T = 290 K is k_B T = 4.00e-21 W/Hz = -173.98 dBm/Hz, rounded by custom to -174 dBm/Hz.

Source: ITU-R V.574-5, "Use of the decibel and the neper in telecommunications".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rralloc.channel._check import FloatArray, require

NOISE_PSD_W_PER_HZ: float = 10.0**-20.4
"""Thermal noise of -174 dBm/Hz in W/Hz, without the noise figure of a receiver."""

# 10**(x/10) is finite below 3082 dB; a round figure leaves room for the factor of a later product.
_RANGE_DB = "[-inf, 3000]"


def db_to_linear(db: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ratio x = 10^(x_dB / 10), a ratio of powers.

    Choose this when a data sheet gives a gain or a loss in dB and a formula needs the ratio.

    Parameters
    ----------
    db
        Ratio in dB, shape ``(..., K)``, within [-inf, 3000]; -inf is the ratio 0.

    Returns
    -------
    ndarray
        Linear ratio, shape ``(..., K)``, within [0, 1e300]. Zero below about -3240 dB.

    Raises
    ------
    ValueError
        If an entry is NaN or above 3000 dB.

    Examples
    --------
    >>> float(db_to_linear(20.0))
    100.0

    """
    return _power_of_ten(require("db", db, _RANGE_DB, unit="dB", fix="give decibels"))


def linear_to_db(linear: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """x_dB = 10 log10(x) of a ratio of powers.

    Choose this when a ratio is to be read by people: on an axis, in a table.

    Parameters
    ----------
    linear
        Ratio of powers, shape ``(..., K)``, within [0, inf).

    Returns
    -------
    ndarray
        Ratio in dB, shape ``(..., K)``; a ratio of 0 gives -inf.

    Raises
    ------
    ValueError
        If an entry is negative, infinite or NaN.

    Examples
    --------
    >>> float(linear_to_db(1000.0))
    30.0

    """
    fix = "give a ratio of powers; if it is in dB already, leave out the conversion"
    return _ten_log_ten(require("linear", linear, "[0, inf)", unit="(linear)", fix=fix))


def dbm_to_watt(dbm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P = 10^((P_dBm - 30) / 10) in W.

    Choose this when a transmit power or a noise level comes in dBm; rralloc computes in watts.

    Parameters
    ----------
    dbm
        Power in dBm, shape ``(..., K)``, within [-inf, 3000]; -inf is no power.

    Returns
    -------
    ndarray
        Power in W, shape ``(..., K)``, within [0, 1e297].

    Raises
    ------
    ValueError
        If an entry is NaN or above 3000 dBm.

    Examples
    --------
    >>> float(dbm_to_watt(30.0))
    1.0

    """
    return _power_of_ten(require("dbm", dbm, _RANGE_DB, unit="dBm", fix="give dBm") - 30.0)


def watt_to_dbm(watt: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P_dBm = 10 log10(P) + 30 with P in W.

    Choose this when a power is to be read by people or compared with a standard.

    Parameters
    ----------
    watt
        Power in W, shape ``(..., K)``, within [0, inf).

    Returns
    -------
    ndarray
        Power in dBm, shape ``(..., K)``; no power gives -inf.

    Raises
    ------
    ValueError
        If an entry is negative, infinite or NaN.

    Examples
    --------
    >>> float(watt_to_dbm(0.001))
    0.0

    """
    fix = "give watts; if it is in dBm already, leave out the conversion"
    return _ten_log_ten(require("watt", watt, "[0, inf)", unit="W", fix=fix)) + 30.0


def _power_of_ten(db: FloatArray) -> FloatArray:
    return np.asarray(np.power(10.0, db / 10.0))[()]


def _ten_log_ten(linear: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):  # log10(0) = -inf is the value wanted here
        return 10.0 * np.log10(linear)
