"""Uplink-downlink duality: powers of the virtual uplink, and what any of them prove.

With unit columns h_k and virtual uplink powers q_k, the share of device k in its own receiver is

    lev_k(q) = q_k h_k^H S^-1 h_k,     S = I + sum_j q_j h_j h_j^H,

and its SINR after the best receiver is lev_k/(1 - lev_k). Targets gamma_k are met with equality
where lev_k = c_k = gamma_k/(1 + gamma_k), which is the classic fixed point q_k = q_k c_k/lev_k. In
u = ln q this is the stationary point of the convex function log det S - c.u, so Newton finds it.

Source: uplink-downlink duality, spec rrm.md §15 item 9; Newton in u and its damping are derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.numerics.roots import bracketed_root
from rralloc.typing import Array

STEPS = 300
"""More than any instance needs whose targets can be met."""
LOUD = 36.0
"""ln of a virtual uplink power at which the noise is lost in rounding: targets out of reach."""
NOTHING = 1e-13
"""A singular value below this share of the largest one is rounding."""
ROUNDING = 1e-13
"""What the sum of a device's shares may lose to rounding."""


class Spectrum(NamedTuple):
    """sqrt(q) h = U diag(s) V^H: U ``(S, N, r)``, s^2 ``(S, r)``, V^H ``(S, r, K)``, |V|^2."""

    basis: Array
    square: Array
    rows: Array
    share: Array


def spectrum(h: Array, power: Array) -> Spectrum:
    """Of h ``(S, N, K)`` with columns weighed by the root of ``power (S, K)``."""
    basis, s, rows = np.linalg.svd(h * np.sqrt(power)[:, None, :], full_matrices=False)
    return Spectrum(basis, s**2, rows, np.abs(rows.swapaxes(-1, -2)) ** 2)


def receivers(h: Array, power: Array) -> Array:
    """S^-1 h_k ``(S, N, K)`` up to length, the uplink's best receivers: U s/(1 + s^2) V^H."""
    basis, square, rows, _ = spectrum(h, power)
    return np.asarray((basis * (np.sqrt(square) / (1 + square))[:, None, :]) @ rows)


def uplink_log_powers(h: Array, target: Array) -> Array:
    """u = ln q ``(S, K)`` for unit columns h ``(S, N, K)`` and SINR targets ``(S, K)``.

    Where no power meets the targets the largest u passes ``LOUD``.
    """
    wanted = target / (1 + target)
    u = np.log(target)  # what each device needs alone: less than it needs in company
    live = np.ones(len(u), dtype=bool)
    for _ in range(STEPS):
        # 1. Shares lev_k and the Hessian diag(lev) - |P|^2 with P = V s/(1+s) V^H.
        _, square, rows, share = spectrum(h[live], np.exp(u[live]))
        part = square / (1 + square)
        own = (share * part[:, None, :]).sum(-1)
        mixed = np.abs((rows.conj().swapaxes(-1, -2) * part[:, None, :]) @ rows) ** 2
        # 2. diag(lev) - |P|^2 row by row is (P - P^2)_kk plus a Laplacian: no cancellation.
        loss = (share * (part / (1 + square))[:, None, :]).sum(-1)
        np.einsum("skk->sk", mixed)[:] = 0.0
        hessian = -mixed
        np.einsum("skk->sk", hessian)[:] = loss + mixed.sum(-1) + 1e-300
        # 3. Newton; ln(1+r)/r of a step of length r never increases the convex function.
        step = np.linalg.solve(hessian, (wanted[live] - own)[..., None])[..., 0]
        length = np.abs(step).sum(-1, keepdims=True)
        u[live] += step * np.log1p(length) / np.where(length > 0, length, 1.0)
        going = (length[:, 0] > 1e-13 * u.shape[-1]) & (u[live].max(-1) < LOUD)
        live[live] = going
        if not live.any():
            break
    return u


def largest_multiple(h: Array, target: Array, power: Array) -> Array:
    """The largest t ``(S,)`` with lev_k(t q) <= c_k for all k; inf if every t will do.

    lev_k(t q) = sum_i |V_ki|^2 t s_i/(1 + t s_i) rises with t, so this is one root.
    """
    used = power > 0
    wanted = np.where(used, target / (1 + target), np.inf)
    _, square, _, share = spectrum(h, power)
    share = share / wanted[..., None]
    real = square > NOTHING**2 * square.max(-1, keepdims=True)
    most = (share * real[:, None, :]).sum(-1)  # lev_k/c_k at t = inf
    bounded = (most > 1 + ROUNDING).any(-1)
    answer = np.full(len(power), np.inf)
    if bounded.any():
        square, share, most = square[bounded], share[bounded], most[bounded]
        with np.errstate(divide="ignore", invalid="ignore"):
            low = (wanted[bounded] / power[bounded]).min(-1)
            least = np.where(real[bounded], square, np.inf).min(-1, keepdims=True)
            high = np.where(most > 1, 1 / (least * (most - 1)), np.inf).min(-1)

        def excess(t: Array, square: Array, share: Array) -> tuple[Array, Array]:
            loud = 1 + t[:, None] * square
            level = (share * (t[:, None] * square / loud)[:, None, :]).sum(-1)
            worst = level.argmax(-1)[:, None]
            rise = (share * (square / loud**2)[:, None, :]).sum(-1)
            return (
                1 - np.take_along_axis(level, worst, -1)[:, 0],
                -np.take_along_axis(rise, worst, -1)[:, 0],
            )

        answer[bounded] = bracketed_root(
            excess, low, np.maximum(high, low), square, share, spacing="log"
        )
    return answer


def downlink_powers(h: Array, beams: Array, target: Array, noise: Array) -> Array:
    """Least powers ``(S, K)`` of unit beams ``(S, N, K)`` that meet the targets; NaN where none do.

    p_k |h_k^H v_k|^2/gamma_k - sum_{j != k} p_j |h_k^H v_j|^2 = noise_k: a matrix with this sign
    pattern has a positive answer exactly if the targets can be met in these directions.
    """
    heard = np.abs(h.conj().swapaxes(-1, -2) @ beams) ** 2
    own = np.einsum("skk->sk", heard).copy()
    np.einsum("skk->sk", heard)[:] = 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Row k over its diagonal: p - F p = alone, with alone_k the power without interference.
        gain = np.where(own > 0, target / own, 0.0)
        spread = gain[..., None] * heard
        alone = gain * noise
        power = np.full(alone.shape, np.nan)
        fit = (own > 0).all(-1) & np.isfinite(spread).all((-1, -2)) & np.isfinite(alone).all(-1)
        power[fit] = _solved(np.eye(h.shape[-1]) - spread[fit], alone[fit])
        served = (power > 0).all(-1, keepdims=True)
        # One step of the classic power update leaves every row right to rounding.
        power = alone + (spread @ power[..., None])[..., 0]
    return np.where(served, power, np.nan)


def _solved(matrix: Array, right: Array) -> Array:
    """The solution lane by lane; NaN for a singular matrix."""
    try:
        return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])
    except np.linalg.LinAlgError:
        singular = np.abs(np.linalg.det(matrix)) == 0
        safe = np.where(singular[:, None, None], np.eye(matrix.shape[-1]), matrix)
        found = np.linalg.solve(safe, right[..., None])[..., 0]
        return np.where(singular[:, None], np.nan, found)
