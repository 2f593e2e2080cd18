"""The price of energy of every device over a known horizon, and what is done at that price.

    max_x sum_r w_r k_r   s.t.  sum_r t_r (p_r + P_c [k_r > 0]) <= E,   every round as in MADS

At a price lambda every round is one of MADS with Q = lambda. Without circuits, header and whole
numbers p_r = clip(c_r/lambda - 1/g_r, 0, cap_r), c = w B/(b ln 2): piecewise linear in 1/lambda, so
that the price is a water level, found by Newton as a depth over the best round's ground (the level
itself loses small powers to rounding). Otherwise the energy jumps and the price is bisected; its
dear side is feasible, and rounds that break even at the price are added while the energy lasts.

Devices are lanes, in blocks that fit the cache. Source: spec mads.md §4; the depth and the filling
are derived.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rralloc.numerics.logexp import LN2
from rralloc.numerics.roots import bracketed_root
from rralloc.problems import _mads_kernel as kernel
from rralloc.problems._mads_kernel import EPS, Devices, Gain, Packet, Plan
from rralloc.typing import Array

BLOCK = 1 << 17
"""Rounds times devices that are handled at once."""
PASSES = 16
"""Rounds that may be given what the price leaves over."""
FOLDS = 80.0
"""The cheapest price that is tried lies so many e-folds under the dearest."""


class Price(NamedTuple):
    """lambda ``(..., N)``, 1/J, and 1/lambda - 1/lambda_0 with lambda_0 the price of silence."""

    price: Array
    depth: Array


class Ramps(NamedTuple):
    """p = clip(slope (depth - ground), 0, cap) of each round, and the level of the ground."""

    slope: Array
    ground: Array
    cap: Array
    floor: Array

    def power(self, depth: Array) -> Array:
        """At a depth ``(..., N)``; all that is allowed where it is infinite (a free round)."""
        lift = np.where(self.cap > 0, self.slope * (depth[..., None, :] - self.ground), 0.0)
        return np.clip(lift, 0.0, self.cap)


def blocks(rounds: int, devices: int) -> Iterator[slice]:
    """The devices, some at a time."""
    step = max(1, BLOCK // rounds)
    return (slice(k, k + step) for k in range(0, devices, step))


def part(d: Devices, packet: Packet, some: slice, shape: tuple[int, ...]) -> tuple[Devices, Packet]:
    """Some of the devices; the values in their full shape ``(..., R, N)``."""

    def cut(array: Array) -> Array:
        return array if array.shape[-1] == 1 else array[..., some]

    few = replace(
        d,
        value=np.broadcast_to(d.value, shape)[..., some],
        contact_s=cut(d.contact_s),
        snr=cut(d.snr),
        size=cut(d.size),
        band=cut(d.band),
        power_max=cut(d.power_max),
        circuit=None if d.circuit is None else cut(d.circuit),
    )
    header = None if packet.header is None else cut(packet.header)
    return few, Packet(cut(packet.bits), header)


# -- nothing but coordinates: a water level -------------------------------------------------------


@np.errstate(all="ignore")
def ramps(d: Devices, packet: Packet) -> Ramps:
    """The rounds of each device, ``(..., R, N)``."""
    slope = np.maximum(d.value, 0.0) * (d.band / packet.bits / LN2)
    dense = np.expm1(d.y_for(packet.size(d.size)) * LN2) / d.snr
    open_ = (slope > 0) & (d.contact_s > 0) & (d.snr > 0)
    cap = np.where(open_, np.fmin(dense, d.power_max), 0.0)
    level = np.where(cap > 0, 1 / (d.snr * slope), np.inf)
    floor = level.min(-2)
    safe = np.where(np.isfinite(floor), floor, 0.0)
    return Ramps(slope, np.where(cap > 0, level - safe[..., None, :], 0.0), cap, floor)


@np.errstate(all="ignore")
def water_price(d: Devices, packet: Packet, budget: Array) -> Price:
    """The price at which each device spends its budget; 0 where the budget does not bind."""
    hill = ramps(d, packet)
    tau = d.contact_s
    rise, top = np.where(hill.cap > 0, tau * hill.slope, 0.0), tau * hill.cap
    binds = top.sum(-2) > budget
    depth = np.where(binds, 0.0, np.inf)
    seek = binds & (budget > 0)
    if seek.any():
        rise, ground, top = (np.moveaxis(v, -1, -2)[seek] for v in (rise, hill.ground, top))
        limit = budget[seek]
        low = limit / rise.sum(-1)
        high = np.where(top > 0, ground + top / rise, 0.0).max(-1)
        depth[seek] = bracketed_root(
            _unspent, low, np.maximum(high, low), rise, ground, top, limit, spacing="log"
        )
    price = np.where(binds, 1 / (depth + hill.floor), 0.0)
    return Price(price, depth)


def _unspent(
    depth: Array, rise: Array, ground: Array, top: Array, limit: Array
) -> tuple[Array, Array]:
    """Budget minus energy, and its derivative."""
    lift = rise * (depth[:, None] - ground)
    spent = np.clip(lift, 0.0, top)
    slope = np.where(lift == spent, rise, 0.0).sum(-1)
    return limit - spent.sum(-1), -slope


@np.errstate(all="ignore")
def water_plan(d: Devices, packet: Packet, at: Price) -> Plan:
    """Power by the level, and the coordinates that it carries."""
    hill = ramps(d, packet)
    power = hill.power(at.depth)
    rate = np.log1p(power * d.snr) / LN2
    kept = np.minimum(d.contact_s * d.band / packet.bits * rate, d.size)
    kept = np.where(power > 0, kept, 0.0)
    capped = power >= hill.cap
    dense = capped & (hill.cap < d.power_max)
    return Plan(kept, power, d.contact_s, capped, dense).where(kept > 0)


@np.errstate(all="ignore")
def water_dual(d: Devices, packet: Packet, price: Array) -> Array:
    """sum_r max_k w k - lambda e(k), ``(..., N)``, rounded up."""
    floor = ramps(d, packet).floor
    depth = np.where(price > 0, np.maximum(1 / price - floor, 0.0), np.inf)
    return surplus(
        d, water_plan(d, packet, Price(price, np.where(floor < np.inf, depth, 0))), price
    )


@np.errstate(all="ignore")
def surplus(d: Devices, plan: Plan, price: Array) -> Array:
    """sum_r w k - lambda e of plans that are the best at the price, rounded up."""
    paid = price[..., None, :] * plan.power_w * plan.airtime_s
    worth = np.where(plan.kept > 0, d.value * plan.kept, 0.0)
    return np.maximum(worth * (1 + EPS) - paid * (1 - EPS), 0.0).sum(-2)


# -- circuits, header, whole numbers: the energy jumps ---------------------------------------------


def at_price(d: Devices, packet: Packet, price: Array, whole: bool) -> Plan:
    """Every round's best plan at a price ``(..., N)``."""
    priced = replace(d, price=price[..., None, :])
    if whole:
        return kernel.best_whole(priced, packet, Gain(d.value))[0]
    return kernel.relaxed(priced, packet)


def energy(d: Devices, plan: Plan) -> Array:
    """t (p + P_c) of each round."""
    return d.drawn(plan.power_w) * plan.airtime_s


@np.errstate(all="ignore")
def stepped_price(d: Devices, packet: Packet, budget: Array, whole: bool) -> tuple[Price, Array]:
    """The least price found whose plans are within the budget, and the greatest whose are not."""
    dearest = np.maximum(d.value, 0.0) * (d.band * d.snr / packet.bits) / LN2
    high = np.where(d.contact_s > 0, dearest, 0.0).max(-2) * (1 + 1e-9)
    free = energy(d, at_price(d, packet, np.zeros(high.shape), whole)).sum(-2) <= budget
    free |= high <= 0
    low = high * np.exp(-FOLDS)
    while True:
        middle = np.sqrt(low) * np.sqrt(high)
        moving = (middle > low) & (middle < high) & ~free & (high - low > 4e-16 * high)
        if not moving.any():
            break
        fits = energy(d, at_price(d, packet, middle, whole)).sum(-2) <= budget
        high, low = np.where(moving & fits, middle, high), np.where(moving & ~fits, middle, low)
    return Price(np.where(free, 0.0, high), np.where(free, np.inf, 0.0)), np.where(free, 0.0, low)


@np.errstate(all="ignore")
def stepped_plan(
    d: Devices, packet: Packet, at: Price, cheaper: Array, budget: Array, whole: bool
) -> Plan:
    """The plans on the dear side, and those that only just do not pay while the energy lasts.

    Without a header, a fraction of the last one's time has its fraction of the value.
    """
    plan = at_price(d, packet, at.price, whole)
    more = at_price(d, packet, cheaper, whole)
    used, rise = energy(d, plan), np.maximum(energy(d, more) - energy(d, plan), 0.0)
    left = budget[..., None, :] - used.sum(-2, keepdims=True)
    share = np.where(rise > 0, (left - (rise.cumsum(-2) - rise)) / rise, 0.0)
    share = np.where((at.price > 0)[..., None, :], np.clip(share, 0.0, 1.0), 0.0)
    divisible = (plan.kept == 0) & (packet.header is None) & (not whole)
    share = np.where(divisible, share, np.floor(share))
    part_ = more._replace(kept=more.kept * share, airtime_s=more.airtime_s * share)
    return _topped_up(d, packet, part_.where(share > 0, plan), budget, whole)


def _topped_up(d: Devices, packet: Packet, plan: Plan, budget: Array, whole: bool) -> Plan:
    """What is left goes to the round that gains most from it, again and again."""
    free = np.zeros((1, 1))
    for _ in range(PASSES):
        used = energy(d, plan)
        left = np.maximum(budget[..., None, :] - used.sum(-2, keepdims=True), 0.0)
        rich = replace(d, price=free, budget=left + used)
        if whole:
            more = kernel.best_whole(rich, packet, Gain(d.value))[0]
        else:
            more = kernel.relaxed(rich, packet)
        rise = np.where(more.kept > plan.kept, d.value * (more.kept - plan.kept), 0.0)
        best = rise.argmax(-2)[..., None, :]
        chosen = np.zeros(rise.shape, dtype=bool)
        enough = np.take_along_axis(rise, best, -2) > 1e-12 * np.abs(d.value).max()
        np.put_along_axis(chosen, best, enough, -2)
        if not chosen.any():
            break
        plan = more.where(chosen, plan)
    return plan


@np.errstate(all="ignore")
def stepped_dual(d: Devices, packet: Packet, price: Array, whole: bool) -> Array:
    """sum_r of what no plan of a round exceeds at the price, ``(..., N)``."""
    priced = replace(d, price=price[..., None, :])
    if whole:
        gain = Gain(d.value)
        best = kernel.best_whole(priced, packet, gain)[1]
        return kernel.whole_bound(priced, packet, gain, best).sum(-2) * (1 + EPS)
    return kernel.dual(priced, packet, *kernel.prices(priced, packet)).sum(-2) * (1 + EPS)
