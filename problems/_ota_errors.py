"""What imperfect knowledge and imperfect timing add to the error of a sum over the air.

Device k should arrive as phi_k s_k. With zero forcing on an estimate hhat = h - e of its channel,
a phase off by theta and a clock off by delta symbols it arrives as

    phi_k (1 + m^H e_k/m^H hhat_k) e^{j theta} sum_n sinc(n - delta) s_k[n],

and as the errors are independent, e has mean 0 and the sinc pulses keep the energy of a symbol,

    E |arrived - phi_k s_k|^2 = phi_k^2 (v_k/|m^H hhat_k|^2 + 2 (1 - kappa_k sinc delta_k)),

with v the variance of e (one antenna) and kappa = E cos theta. Devices add up, and so does the
noise. Arrays broadcast; ``(..., K)`` is per device.

Source: ota.md section 7, derived; the product kappa sinc delta, where both errors are there, is
derived here (the page has each alone; their sum is (1 - kappa)(1 - sinc delta) too much).
"""

from __future__ import annotations

import numpy as np

from rralloc.typing import Array

FAR = 30.0
"""Deviations beyond which a chance is 0 or 1."""
LINE = 1e4
"""Mean over deviation from which a modulus is taken as Gaussian."""
BLOCK = 1 << 20
"""Sums over prefixes (instances x devices x devices) that are held at once."""


def inversion_error(gain: Array, variance: Array) -> Array:
    """E |phi_k m^H e_k/m^H hhat_k|^2 = v_k/gain_k ``(..., K)``.

    ``gain``: |m^H hhat_k|^2/phi_k^2 of the unit beam. ``variance``: v_k >= 0, of the error
    e ~ CN(0, v I), unit of |h|^2. Infinite where an erroneous channel is not heard at all.

    Source: ota.md section 7, derived.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(variance > 0, variance / gain, 0.0)


def phase_bias(delta: Array) -> Array:
    """kappa = sin(Delta)/Delta, the mean of e^{j theta} for theta uniform in +-Delta (rad).

    A device arrives as kappa_k phi_k s_k on average: dividing by kappa_k removes the bias. The
    error is then phi^2 (1/kappa^2 - 1), more than the biased one.

    Source: ota.md section 7, derived.
    """
    return np.sinc(np.asarray(delta) / np.pi)


def phase_error(phi: Array, delta: Array) -> Array:
    """E |phi e^{j theta} - phi|^2 = 2 phi^2 (1 - sin(Delta)/Delta), theta uniform in +-Delta (rad).

    Source: ota.md section 7, derived.
    """
    return 2 * np.square(phi) * _missing(delta)


def timing_error(phi: Array, offset: Array) -> Array:
    """Lost own symbol and interference of the others, sinc pulse: 2 phi^2 (1 - sinc delta).

    ``offset``: delta, in symbol periods. (sinc delta - 1)^2 of the own symbol and
    1 - sinc(delta)^2 of all others.

    Source: ota.md section 7, derived.
    """
    return 2 * np.square(phi) * _missing(np.pi * np.asarray(offset))


def alignment_error(phi: Array | float, delta: Array, offset: Array) -> Array:
    """Both at once: 2 phi^2 (1 - kappa sinc delta); each of the two alone where the other is 0.

    Source: derived.
    """
    phase, timing = _missing(delta), _missing(np.pi * np.asarray(offset))
    return 2 * np.square(phi) * (phase + timing - phase * timing)


def _missing(x: Array) -> Array:
    """1 - sin(x)/x, by its series where the difference would cancel."""
    x = np.asarray(x, dtype=float)
    s = x * x
    series = s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72)))
    return np.where(s < 0.05, series, 1 - np.sinc(x / np.pi))


# -- what the errors leave of a set ---------------------------------------------------------------


def longest(level: Array, cost: Array, budget: float) -> Array:
    """Mask ``(..., K)`` of the largest set with max_S level + sum_S cost <= budget.

    Of equally large sets the one with the least left-hand side. O(K^2) after one sort.
    """
    lead, K = np.broadcast_shapes(level.shape, cost.shape)[:-1], level.shape[-1]
    rows, costs = (np.broadcast_to(v, (*lead, K)).reshape(-1, K) for v in (level, cost))
    size = max(1, BLOCK // K**2)
    parts = [
        _longest(rows[low : low + size], costs[low : low + size], budget)
        for low in range(0, len(rows), size)
    ]
    return np.concatenate(parts).reshape(*lead, K)


def _longest(level: Array, cost: Array, budget: float) -> Array:
    # 1. Cheapest first; row l admits those whose level is at most that of device l.
    order = cost.argsort(-1, kind="stable")
    level, cost = (np.take_along_axis(v, order, -1) for v in (level, cost))
    admitted = (level[..., None, :] <= level[..., :, None]) & np.isfinite(cost)[..., None, :]
    # 2. The longest prefix of every row that fits.
    total = level[..., :, None] + np.where(admitted, cost[..., None, :], 0.0).cumsum(-1)
    fits = admitted & (total <= budget)
    size = fits.sum(-1)
    error = np.where(fits, total, -np.inf).max(-1)
    # 3. The row with most devices, of these the one with the least error.
    most = size.max(-1, keepdims=True)
    row = np.where(size == most, error, np.inf).argmin(-1)[..., None, None]
    chosen = np.take_along_axis(fits, row, -2)[..., 0, :]
    mask = np.zeros(chosen.shape, dtype=bool)
    np.put_along_axis(mask, order, chosen, -1)
    return mask


# -- the chance that an error costs a device its threshold ----------------------------------------


def chance_below(heard: Array, least: Array, spread: Array) -> Array:
    """P(|z| < least) for z ~ CN(a, spread^2) with |a| = ``heard``.

    2 |z|^2/spread^2 is a non-central chi-square with two degrees of freedom; for large |a| the
    modulus is Gaussian. Beyond ``FAR`` deviations the answer is 0 or 1 in all digits.

    Source: derived.
    """
    from scipy.special import ndtr
    from scipy.stats import ncx2

    heard, least, spread = np.broadcast_arrays(heard, least, spread)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        far = (heard - least) / spread
        near = np.abs(far) < FAR
        a, t = (np.where(near, v / spread, 1.0) for v in (heard, least))
        near_line = ndtr(np.sqrt(2) * (t - a - 0.25 / a))
    few = np.minimum(a, LINE), np.minimum(t, LINE + FAR)
    chance = np.where(a < LINE, ncx2.cdf(2 * few[1] ** 2, 2, 2 * few[0] ** 2), near_line)
    return np.where(near, chance, far < 0)


def safest(risks: Array, value: Array, probability: float) -> tuple[Array, Array]:
    """Devices ``(..., K)``, the least risky first, while P(one is lost) ``(...)`` allows."""
    order = np.where(value > 0, risks, 1.0).argsort(-1, kind="stable")
    ranked = np.take_along_axis(np.where(value > 0, risks, 1.0), order, -1)
    with np.errstate(divide="ignore"):
        lost = -np.expm1(np.log1p(-ranked).cumsum(-1))
    chosen = lost <= probability
    mask = np.zeros(chosen.shape, dtype=bool)
    np.put_along_axis(mask, order, chosen, -1)
    return mask, np.where(chosen, lost, 0.0).max(-1)


def lost(risks: Array) -> Array:
    """1 - prod (1 - risk) ``(...)``, also where risks are tiny."""
    with np.errstate(divide="ignore"):
        return -np.expm1(np.log1p(-risks).sum(-1))
