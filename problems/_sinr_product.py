"""The product of SINRs in logarithms: its fixed point and its dual.

With y = p/P, received R_ij = G_ij P_j (zero diagonal) and I_i = s_i + sum_j R_ij y_j, maximising
the product is minimising the convex f(z) = sum_i [ln I_i(e^z) - z_i] over z = ln y <= 0. Stationary
means y_k = min(1, 1/sum_i R_ik/I_i(y)): a standard interference function, whose logarithm is a
contraction in the maximum norm, so the optimum is unique. Source: Yates 1995; derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.problems._interference import times
from rralloc.typing import Array

STEPS = 300
"""Far more than ever needed (5 to 20); the contraction alone converges, if slowly."""


def interference_share(received: Array, noise: Array, share: Array) -> Array:
    """W_ij = R_ij y_j/I_i ``(..., K, K)``: the share of link j in what receiver i hears."""
    share = np.clip(share, 0.0, 1.0)
    heard = noise + times(received, share)
    return received * share[..., None, :] / heard[..., None]


class _Lanes(NamedTuple):
    """The instances that still move: data ``(S, K, K)``, ``(S, K)``, z, its value, its residual."""

    received: Array
    noise: Array
    z: Array
    value: Array
    off: Array


def balanced(received: Array, noise: Array) -> Array:
    """z = ln y ``(..., K)`` of the optimum, all lanes at once, to rounding."""
    shape = np.broadcast_shapes(received.shape[:-1], noise.shape)
    size = shape[-1]
    received = np.broadcast_to(received, (*shape, size)).reshape(-1, size, size)
    noise = np.broadcast_to(noise, shape).reshape(-1, size)
    answer, moving = np.empty(noise.shape), np.arange(len(noise))
    lanes = _Lanes(received, noise, *_seen(received, noise, np.zeros(noise.shape)))
    for _ in range(STEPS):
        following = _step(lanes)
        answer[moving] = following.z
        # Rounding is all that is left where nothing gets better.
        going = (following.value < lanes.value) | (following.off < lanes.off)
        moving, lanes = moving[going], _Lanes(*(part[going] for part in following))
        if not moving.size:
            break
    return answer.reshape(shape)


def _step(lanes: _Lanes) -> _Lanes:
    received, noise, z, value, off = lanes
    # 1. Where the contraction leads: y_k/load_k, at most 1.
    share = interference_share(received, noise, np.exp(z))
    load = share.sum(-2)
    image = _image(z, load)
    # 2. Newton for the links below their caps; the others go to the cap.
    free, caps = image < 0, np.eye(z.shape[-1])
    bend = caps * load[..., None] - np.swapaxes(share, -1, -2) @ share
    move = _solved(np.where(free[..., None], bend, caps), np.where(free, 1 - load, -z))
    with np.errstate(all="ignore"):
        reach = np.where(move > 0, -z / move, 1.0).min(-1, keepdims=True)
        trials = image, np.minimum(z + move, 0.0), z + np.minimum(reach, 1.0) * move
    # 3. Keep the best; at equal values what is closer to its own image.
    for trial in trials:
        at, there, left = _seen(received, noise, np.where(np.isfinite(trial), trial, image))
        same = np.abs(there - value) <= 1e-14 * z.shape[-1] * (1 + np.abs(value))
        better = np.where(same, left < off, there < value)
        z = np.where(better[..., None], at, z)
        value, off = np.where(better, there, value), np.where(better, left, off)
    return _Lanes(received, noise, z, value, off)


def _seen(received: Array, noise: Array, z: Array) -> tuple[Array, Array, Array]:
    """z raised until a link is at its cap (better for all), its value f and its residual."""
    z = np.minimum(z - z.max(-1, keepdims=True), 0.0)
    heard = noise + times(received, np.exp(z))
    load = (received * np.exp(z)[..., None, :] / heard[..., None]).sum(-2)
    return z, (np.log(heard) - z).sum(-1), np.abs(_image(z, load) - z).max(-1)


def _image(z: Array, load: Array) -> Array:
    """ln min(1, y/load)."""
    with np.errstate(divide="ignore"):
        return np.minimum(z - np.log(load), 0.0)


def _solved(matrix: Array, right: Array) -> Array:
    try:
        return np.linalg.solve(matrix, right[..., None])[..., 0]
    except np.linalg.LinAlgError:  # some lane is singular to rounding: no Newton step this time
        return np.full(right.shape, np.nan)


def dual_log_product(received: Array, noise: Array, share: Array) -> Array:
    """A value ``(...)`` that sum_i ln I_i - z_i never falls below, from any W ``(..., K, K)``.

    ln I_i >= w_i0 ln(s_i/w_i0) + sum_j W_ij (ln R_ij/W_ij + z_j) for w in the simplex (Gibbs), and
    with column sums of W at most 1 what multiplies z_j <= 0 is at most 0.
    """
    # 1. Make W admissible: rows, then columns, at most 1; noise takes what is left of a row.
    share = np.where(np.isfinite(share), np.maximum(share, 0.0), 0.0)
    share = share / np.maximum(share.sum(-1, keepdims=True), 1.0)
    share = share / np.maximum(share.sum(-2, keepdims=True), 1.0)
    rest = np.maximum(1 - share.sum(-1), 0.0)
    # 2. Gibbs; 0 ln(./0) = 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        heard = np.where(share > 0, share * np.log(received / share), 0.0).sum((-1, -2))
        return heard + np.where(rest > 0, rest * np.log(noise / rest), 0.0).sum(-1)
