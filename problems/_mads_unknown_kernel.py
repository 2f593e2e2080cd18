"""MADS with contacts of unknown length, device by device and without units.

    max over 0 <= z <= z_max, 0 <= a <= 1 with a z <= d of
    f(z, a) = z a e^-a - (e^z - 1)(1 - e^-a)/u

Plan: one root, or a second one where the whole model fits. Bound: in D = 1 - e^-a the function
A(D) = a e^-a is concave; a tangent of A - mu a on a cell of D makes the Lagrangian linear in D, so
one of the ends is best. Source: V6 of mads.md §2.7; roots and bound are derived.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.numerics.logexp import expm1_over_x, log_expm1_over_x
from rralloc.numerics.roots import bracketed_root
from rralloc.typing import Array

EPS = 16 * float(np.finfo(float).eps)
"""Rounding of a bound, relative to its largest term."""
NEAR = np.geomspace(3e-5, 0.5, 12)[:, None]
FAR = np.linspace(0.0, 1.0, 13)[1:, None]
LEAN = 0.1
"""Cells of the bound: relative distances of the near ones from the planned a; places of the far
ones up to the end, on a log scale; where a tangent touches, from the side of the planned a."""


class Lanes(NamedTuple):
    """Devices without units, broadcast: u (inf where energy is free, 0 for silence), d, z_max."""

    u: Array
    cap: Array
    z_max: Array

    def net(self, a: Array, z: Array) -> Array:
        """f(z, a)."""
        return z * a * np.exp(-a) + np.expm1(z) * np.expm1(-a) / self.u


# -- the plan -------------------------------------------------------------------------------------


def _tail(x: Array) -> tuple[Array, Array]:
    """q(x) = 1 - (1 - e^-x)/x and its slope for x >= 0, without losing a small x."""
    x = np.maximum(x, 1e-300)
    growth = log_expm1_over_x(x)
    return -np.expm1(growth - x), np.exp(-x) * np.expm1(growth) / x


def _balance(a: Array, log_u: Array) -> tuple[Array, Array]:
    """q(z) - e^a q(a) at the best z, and its slope: falls from positive to negative."""
    late, late_slope = _tail(a)
    z = log_u - log_expm1_over_x(a)
    left, left_slope = _tail(np.maximum(z, 0.0))
    turn = -late / -np.expm1(-np.maximum(a, 1e-300))  # dz/da
    rise = np.exp(a) * (late + late_slope)
    return left - np.exp(a) * late, np.where(z > 0, left_slope * turn, 0.0) - rise


def _balance_dense(y: Array, cap: Array, log_u: Array) -> tuple[Array, Array]:
    """At a = e^y, z = d/a: ln of what a little more a saves, over what it costs; and its slope."""
    a = np.exp(y)
    z, growth, (late, _) = cap / a, log_expm1_over_x(a), _tail(a)
    left, left_slope = _tail(z)
    saved = np.expm1(growth) + left
    slope = (np.exp(a) * late - z * left_slope) / saved - z - 1
    return z + np.log(saved) - y - log_u, slope


@np.errstate(all="ignore")
def plan(lanes: Lanes) -> tuple[Array, Array]:
    """The best a and z of each device; both 0 where it is silent."""
    shape, (u, cap, z_max) = lanes.u.shape, (v.ravel() for v in lanes)
    able, log_u = u > 0, np.log(u)
    # 1. All of p_max, if even then one more nat pays.
    z, a = z_max.copy(), 1 - expm1_over_x(z_max) / u
    pays = (a > 0) & (log_u - log_expm1_over_x(np.maximum(a, 0.0)) >= z_max)
    # 2. Else where z and a are each best for the other; a < 2 ln u, as z > 0 there.
    at = able & ~pays
    top = log_u[at]
    a[at] = bracketed_root(_balance, np.zeros(top.size), np.minimum(1.0, 2 * top), top)
    z[at] = np.minimum(top - log_expm1_over_x(a[at]), z_max[at])
    # 3. If that is more than the model: on a z = d, at all of p_max unless slower is better.
    dense = able & (a * z > cap)
    a, z = np.where(dense, cap / z_max, a), np.where(dense, z_max, z)
    low = np.log(a)
    at = dense & (_balance_dense(low, cap, log_u)[0] > 0)
    low = low[at]
    a[at] = np.exp(bracketed_root(_balance_dense, low, np.zeros(low.size), cap[at], log_u[at]))
    z[at] = np.minimum(cap[at] / a[at], z_max[at])
    return np.where(able, a, 0.0).reshape(shape), np.where(able, z, 0.0).reshape(shape)


# -- the bound ------------------------------------------------------------------------------------


def ceiling(lanes: Lanes, centre: Array) -> Array:
    """What no (z, a) of each device exceeds, from the cells around ``centre``; at least 0."""
    u, cap, _ = lanes
    log_u = np.log(u)
    last = np.minimum(1.0, 2 * log_u)  # z <= ln u - a/2: nothing is sent beyond
    centre = np.clip(np.nan_to_num(centre), 1e-3 * np.minimum(cap, last), last)
    edges = _edges(lanes, centre, last)
    left, right = edges[:-1], edges[1:]
    # Tangents touch near the end towards the centre; beyond `last` at it, as u A <= D there.
    at = left + np.where(left >= centre, LEAN, 1 - LEAN) * (right - left)
    best = np.maximum.reduce(_cells(lanes, np.where(left >= last, left, at), left, right))
    # Without delay and at the Shannon minimum: z a <= d costs at least z D/u >= z A/u.
    sure = -cap * np.expm1(-log_u) * (1 + EPS) + EPS * cap
    return np.where(u > 0, np.fmin(np.maximum(best, 0.0), sure), 0.0)


def _edges(lanes: Lanes, centre: Array, last: Array) -> Array:
    """Ends of the cells of a, ``(cells + 1, devices)``, from 0 to 1, finest at the centre."""
    u, cap, z_max = lanes
    z_top = np.minimum(np.log(u), z_max)
    z = np.minimum(np.minimum(z_top, cap / centre), np.log(u) - log_expm1_over_x(centre))
    # Below `first`, f <= a z_top is less than half of what the centre is worth.
    first = np.fmax(lanes.net(centre, np.maximum(z, 0.0)), 1e-9 * centre * z_top) / (2 * z_top)
    down, up = centre * (1 - NEAR[-1]), centre * (1 + NEAR[-1])
    edges = [
        *(np.zeros_like(centre), last, np.ones_like(centre)),
        *(down * (np.minimum(first, down) / down) ** FAR),
        *(up * (np.maximum(last, up) / up) ** FAR),
        *(centre * (1 - NEAR), centre, centre * (1 + NEAR)),
        cap / z_top,  # here the model's end takes over from z_top: f has a kink
    ]
    return np.sort(np.clip(np.nan_to_num(np.vstack(edges)), 0.0, 1.0), axis=0)


def _cells(lanes: Lanes, at: Array, left: Array, right: Array) -> Array:
    """max over z of z T(D) - (e^z - 1) D/u + mu d at the better end of each cell of D = 1 - e^-a.

    T is the tangent of A - mu a at ``at``, concave in D for mu >= 0; any mu is valid, and the
    multiplier of a z <= d at ``at`` is tight. Besides z <= z_max, ln u and d/a at the left end.
    """
    u, cap, z_max = lanes
    z_top = np.minimum(z_max, np.log(u))
    # 1. What a nat at the dense cap is worth there.
    lost, z = -np.expm1(-at), cap / at
    price = np.where(z < z_top, np.exp(-at) - np.exp(z) * lost / u / at, 0.0)
    price = np.where(price > 0, price, 0.0)
    # 2. The tangent.
    level = (np.exp(-at) - price) * at
    tilt = 1 - at - price * np.exp(at)
    # 3. The ends.
    most = np.minimum(z_top, cap / left)

    def at_end(end: Array) -> Array:
        ended = -np.expm1(-end)
        gain = level + tilt * (ended - lost)
        z = np.where(gain > 0, np.clip(np.log(u * gain / ended), 0.0, most), 0.0)
        size = z * np.abs(gain) + price * cap
        return z * gain - np.expm1(z) * ended / u + price * cap + EPS * size

    return np.maximum(at_end(left), at_end(right))
