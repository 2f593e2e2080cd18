"""What no SP-FL allocation can beat: the Lagrangian dual at a price, bounded rigorously.

    L(price) = sum_k min over (b, alpha, split) of [ J_k + price b ]  -  price   <=   optimum

for every price >= 0. For ``unbiased``, where convex, each minimum is bounded by the tangent plane
of J_k at the point, minimised over the box. Elsewhere it is bounded on cells of the exponents
(:mod:`_spfl_cells`). A good price (the solver's) gives a tight bound, any price a valid one.
Source: spec spfl.md §4 and corrections 3 and "Certified bound".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rralloc.channel.packets import fade_threshold_slopes
from rralloc.errors import NotOffered
from rralloc.numerics.arrow import arrow_direction, held
from rralloc.problems.spfl_objectives import Unbiased
from rralloc.typing import Array, Point, Witness

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL


def dual_bound(problem: SPFL, x: Point | None, witness: Witness | None) -> Array:
    """L(price) ``(...)`` from below; NaN for an objective that is no sum of exponentials."""
    from rralloc.problems._spfl_cells import cell_minima

    point = dict(problem.initial() if x is None else x)
    shape = problem.shape_of(type(problem).bandwidth_share)
    point = {n: np.broadcast_to(v, shape) for n, v in point.items()}
    price = np.asarray((witness or {}).get("price", np.nan), dtype=float)
    price = np.broadcast_to(price, problem.batch_shape)
    unknown = ~(np.isfinite(price) & (price >= 0))
    if unknown.any():
        price = np.where(unknown, suggested_price(problem, point), price)
    if problem.is_convex and isinstance(problem.law, Unbiased):
        return tangent_bound(problem, point, price)
    try:
        w, G, _, _, _ = problem.statistics
        worth = np.broadcast_to((w * G).sum(-1), problem.batch_shape)
        size = np.minimum(np.abs(problem.objective(point)), worth).reshape(-1)
        size = np.maximum(np.nan_to_num(size), 1e-6 * worth.reshape(-1))
        least = cell_minima(problem.flat(), price.reshape(-1), size).reshape(shape)
    except NotOffered:
        return np.full(problem.batch_shape, np.nan)
    return least.sum(-1) - price


def suggested_price(problem: SPFL, x: Point) -> Array:
    """The price that balances the devices' Newton steps at x; 0 where that means nothing."""
    from rralloc.forms import Separable

    flat = problem.flat()
    form = flat.view(Separable)
    at = form.coordinates({n: v.reshape(flat.size, -1) for n, v in x.items()})
    with np.errstate(all="ignore"):
        _, gradient, hessian = form.local(at)
        fixed = held(at, gradient, form.lower, form.upper) | ~np.isfinite(gradient)
        _, price = arrow_direction(
            np.nan_to_num(gradient), np.nan_to_num(hessian), form.row, np.zeros(flat.size), fixed
        )
    price = np.where(np.isfinite(price) & (price > 0), price, 0.0)
    return price.reshape(problem.batch_shape)


def tangent_bound(problem: SPFL, x: Point, price: Array) -> Array:
    """Tangent planes of the convex J_k + price b at x, least over the unit box.

    In the coordinates (x_s, x_m, alpha), or (b, alpha) for a fixed split. Under common fading
    J = A' e^s + B' e^max(s, m): where s = m any mix of the two slopes is a subgradient, and the one
    that flattens the direction of alpha is taken.
    """
    w, G, E, D, _ = problem.statistics
    A = problem.variance_weight * w * w
    x_s, x_m = problem.packet_bands(x)
    alpha = np.asarray(x["sign_power_share"])
    with np.errstate(all="ignore"):
        _, by_s, _ = fade_threshold_slopes(x_s, problem.snr, problem.sign_rate)
        _, by_m, _ = fade_threshold_slopes(x_m, problem.snr, problem.modulus_rate)
        s, m = problem.exponents(x)
        sign, both = A * (G - E) * np.exp(s), A * (E + D) * np.exp(np.maximum(s, m))
        if not problem.common:
            sign, both = sign + A * (E + D) * np.exp(s + m), A * (E + D) * np.exp(s + m)
        down, up = s / alpha, m / (1.0 - alpha)
        if problem.common:
            tie = np.abs(s - m) <= 1e-7 * np.maximum(s, m)
            mix = np.clip((sign + both) * down / (both * (down + up)), 0.0, 1.0)
            mix = np.where(tie, mix, np.where(m > s, 1.0, 0.0))
            sign, both = sign + (1.0 - mix) * both, mix * both
        slope_s, slope_m = sign * by_s / alpha, both * by_m / (1.0 - alpha)
        slope_a = both * up - sign * down
        value = problem.losses(x)
        if problem.free_split:
            parts = [(slope_s + price[..., None], x_s), (slope_m + price[..., None], x_m)]
        else:
            along = problem.theta_s * slope_s + problem.theta_m * slope_m
            parts = [(along + price[..., None], x["bandwidth_share"])]
        parts.append((slope_a, alpha))
        cost = value + price[..., None] * np.asarray(x["bandwidth_share"])
        for slope, at in parts:  # the least of slope * (y - at) over y in [0, 1]
            cost = cost - np.where(slope > 0, slope * at, -slope * (1.0 - at))
    total = np.where(np.isfinite(cost), cost, -np.inf).sum(-1) - price
    silent = (w * G + 0 * x_s == 0).all(-1)
    return np.where(silent, 0.0, np.where(np.isnan(total), -np.inf, total))
