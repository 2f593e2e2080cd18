"""One round of MADS, device by device: the closed form, its variants, and what proves them.

    max  W k - Q (p + P_c) t [k > 0]
    s.t. k b + b0 <= t B log2(1 + p g)  if k > 0,  k <= s,  p <= p_max,  t <= tau,  (p + P_c) t <= E

Everything is written in the spectral efficiency y = log2(1 + p g). Four values of y decide:

    y_eng  where one more bit costs as much energy as it is worth     2^y = W B g/(b Q ln 2)
    y_cap  all of p_max, and no more than E in the whole contact
    y_den  the whole model in exactly the contact                     y = (s b + b0)/(tau B)
    y_low  least energy for a bit, circuits included; slower is waste (0 without circuits)

Arrays broadcast; nothing loops over devices. Source: spec mads.md §2.7 with its corrections; E
together with P_c, and the bounds, are derived.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rralloc.numerics.logexp import LN2
from rralloc.typing import Array

ROUNDING = 1e-12
"""A whole number of coordinates that misses a limit by less, relatively, fits."""
EPS = 8 * float(np.finfo(float).eps)
"""Rounding of a bound, relative to the largest of its terms."""
BRANCH = np.array([0.0, 1.0, -1 / 3, 11 / 72, -43 / 540, 769 / 17280, -221 / 8505])
"""1 + W0(z) in powers of sqrt(2(1 + e z)): the Lambert function near its branch point."""


class Packet(NamedTuple):
    """An upload of k > 0 coordinates has ``header + k * bits`` bits."""

    bits: Array
    header: Array | None

    def size(self, kept: Array) -> Array:
        """Bits for k > 0 coordinates."""
        size = kept * self.bits
        return size if self.header is None else size + self.header


class Plan(NamedTuple):
    """What a device does, and which limits its relaxed optimum has reached."""

    kept: Array
    power_w: Array
    airtime_s: Array
    capped: Array
    dense: Array

    def where(self, mask: Array, other: Plan | None = None) -> Plan:
        """This plan where the mask says so, else the other, or silence."""
        rest: Any = (0.0, 0.0, 0.0, False, False) if other is None else other
        return Plan(*[np.where(mask, mine, its) for mine, its in zip(self, rest)])


@dataclass(frozen=True, eq=False, repr=False)
class Devices:
    """W, Q, tau, g, s, B, p_max; P_c and E where they are used, else None; arrays broadcast."""

    value: Array
    price: Array
    contact_s: Array
    snr: Array
    size: Array
    band: Array
    power_max: Array
    circuit: Array | None = None
    budget: Array | None = None

    def per_entry(self) -> Devices:
        """The same devices with one more axis, for every k at once."""
        return Devices(*[_deeper(getattr(self, f.name)) for f in fields(self)])

    def power(self, y: Array) -> Array:
        """p = (2^y - 1)/g, and never above p_max by rounding."""
        return np.minimum(np.expm1(y * LN2) / self.snr, self.power_max)

    def drawn(self, power: Array) -> Array:
        """p + P_c, W."""
        return power if self.circuit is None else power + self.circuit

    def paid(self, plan: Plan) -> Array:
        """Q (p + P_c) t; 0 where nothing is used, also at an infinite price."""
        energy = self.drawn(plan.power_w) * plan.airtime_s
        return np.where(energy > 0, self.price * energy, 0.0)

    @cached_property
    def y_max(self) -> Array:
        """log2(1 + p_max g)."""
        return np.log1p(self.power_max * self.snr) / LN2

    @cached_property
    def y_cap(self) -> Array:
        """log2(1 + p g) at p = min(p_max, E/tau - P_c)  (V5)."""
        if self.budget is None:
            return self.y_max
        rest = self.budget / self.contact_s
        rest = rest if self.circuit is None else np.maximum(rest - self.circuit, 0.0)
        return np.minimum(self.y_max, np.log1p(rest * self.snr) / LN2)

    @cached_property
    def y_low(self) -> Array | float:
        """min(y_ee, y_max), y_ee = (1 + W0((P_c g - 1)/e))/ln 2: least energy for a bit  (V2)."""
        if self.circuit is None:
            return 0.0
        return np.minimum(_one_plus_lambert(self.circuit * self.snr) / LN2, self.y_max)

    def y_eng(self, packet: Packet) -> Array:
        """log2(W B g/(b Q ln 2)); NaN, which no comparison finds positive, where W <= 0."""
        return np.log2((self.value / self.price) * (self.snr * self.band / packet.bits) / LN2)

    def y_for(self, bits: Array) -> Array:
        """The efficiency that carries so many bits in the whole contact."""
        return bits / self.band / self.contact_s


def _deeper(values: Any) -> Any:
    return values if values is None else values[..., None]


def _one_plus_lambert(c: Array) -> Array:
    """1 + W0((c - 1)/e) for c >= 0, without losing a small c."""
    from scipy.special import lambertw

    near = np.polynomial.polynomial.polyval(np.sqrt(2 * np.minimum(c, 1.0)), BRANCH)
    return np.where(c < 1e-4, near, 1 + lambertw((c - 1) / np.e).real)


# -- the closed form ------------------------------------------------------------------------------


@np.errstate(all="ignore")
def relaxed(d: Devices, packet: Packet) -> Plan:
    """The best k in [0, s] with its p and t: the theorem of §2.7, with V2 and V5."""
    plan = sending(d, packet)
    if d.circuit is None and packet.header is None:
        return plan
    return plan.where(net(d, Gain(d.value), plan) > 0)


@np.errstate(all="ignore")
def sending(d: Devices, packet: Packet) -> Plan:
    """The best plan of a device that must pay for header and circuits, whether it pays or not."""
    y_den = d.y_for(packet.size(d.size))
    able = (d.y_max > 0) & (d.contact_s > 0)
    y_eng = d.y_eng(packet)
    y = np.minimum(np.minimum(y_eng, d.y_cap), y_den)
    if d.circuit is not None or packet.header is not None:
        y = np.fmax(y, d.y_low)
        return _in_time(d, packet, y, y_den).where(able)
    dense = y_den <= y
    kept = np.where(dense, d.size, d.contact_s * d.band / packet.bits * y)
    plan = Plan(kept, d.power(y), d.contact_s, d.y_cap <= y, dense)
    return plan.where(able & (y_eng > 0) & (kept > 0))


def _in_time(d: Devices, packet: Packet, y: Array, y_den: Array) -> Plan:
    """At efficiency y until the model is out (race to sleep), E is spent, or the contact ends."""
    power = d.power(y)
    finished = np.where(y_den < y, packet.size(d.size) / d.band / y, d.contact_s)
    spent = np.inf if d.budget is None else d.budget / d.drawn(power)
    time = np.minimum(np.minimum(d.contact_s, finished), spent)
    dense = (y_den <= y) & (finished <= spent * (1 + EPS))
    room = time * d.band * y - (0.0 if packet.header is None else packet.header)
    kept = np.where(packet.bits > 0, np.clip(room / packet.bits, 0.0, d.size), 0.0)
    return Plan(np.where(dense, d.size, kept), power, time, d.y_cap <= y, dense)


@np.errstate(all="ignore")
def most(d: Devices, packet: Packet, y: Array | float = np.inf) -> Array:
    """The largest k that fits, at efficiency y if that is less than what the limits allow."""
    y_den = d.y_for(packet.size(d.size))
    y = np.minimum(y, np.maximum(d.y_cap, d.y_low))
    plan = _in_time(d, packet, np.minimum(y, np.maximum(y_den, d.y_low)), y_den)
    return np.where((d.y_max > 0) & (d.contact_s > 0), plan.kept, 0.0)


# -- given k --------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def least_energy(d: Devices, packet: Packet, kept: Array) -> tuple[Plan, Array]:
    """p and t of least energy for k coordinates, and whether they fit; silence for k = 0."""
    y, power, time = _carry(d, packet.size(kept))
    fits = (y <= d.y_max * (1 + ROUNDING)) & (kept <= d.size)
    if d.budget is not None:
        fits &= d.drawn(power) * time <= d.budget * (1 + ROUNDING)
    plan = Plan(kept, power, time, d.y_cap <= y, kept >= d.size)
    return plan.where(kept > 0), fits | (kept <= 0)


def _carry(d: Devices, bits: Array) -> tuple[Array, Array, Array]:
    """y, p, t of least energy: the whole contact, but no slower than y_low."""
    needed = d.y_for(bits)
    y = np.maximum(needed, d.y_low)
    return y, d.power(y), np.where(needed < y, bits / d.band / y, d.contact_s)


class Gain(NamedTuple):
    """Value of k coordinates: W k, or the sum of the k largest entries of a curve ``(..., s)``."""

    each: Array
    curve: Array | None = None

    @np.errstate(invalid="ignore")
    def of(self, kept: Array) -> Array:
        """Linear between whole k; 0 for k = 0, also at infinite value."""
        if self.curve is None:
            return np.where(kept != 0, self.each * kept, 0.0)
        shape = np.broadcast_shapes(kept.shape, self.curve.shape[:-1])
        size = self.curve.shape[-1]
        known = np.where(np.isnan(kept), 0.0, kept)  # NaN has no place, and stays in ``rest``
        below = np.clip(np.floor(known), 0, size - 1).astype(int)
        place = np.broadcast_to(below, shape)[..., None]
        total = np.insert(self.curve.cumsum(-1), 0, 0.0, axis=-1)
        total = np.take_along_axis(np.broadcast_to(total, (*shape, size + 1)), place, -1)[..., 0]
        slope = np.take_along_axis(np.broadcast_to(self.curve, (*shape, size)), place, -1)[..., 0]
        rest = kept - below
        return total + np.where(rest != 0, rest * slope, 0.0)


@np.errstate(all="ignore")
def net(d: Devices, gain: Gain, plan: Plan) -> Array:
    """What a plan is worth; -inf where it pays an infinite price, whatever the value."""
    paid = d.paid(plan)
    return np.where(np.isposinf(paid), -np.inf, gain.of(plan.kept) - paid)


# -- whole numbers --------------------------------------------------------------------------------


@np.errstate(all="ignore")
def best_whole(d: Devices, packet: Packet, gain: Gain) -> tuple[Plan, Array]:
    """The best plan with a whole k, silence where none pays; and the best k >= 1 (V1, V4)."""
    kept = _neighbour(d, packet, gain) if gain.curve is None else _prefix(d, packet, gain)
    kept = np.maximum(kept, 1.0)
    plan, fits = least_energy(d, packet, kept)
    return plan.where(fits & (net(d, gain, plan) > 0)), kept


def _neighbour(d: Devices, packet: Packet, gain: Gain) -> Array:
    """V1: the value is concave in k, so floor or ceil of the relaxed optimum is best."""
    kept = sending(d, packet).kept
    low, high = np.maximum(np.floor(kept), 1.0), np.ceil(kept)
    down, _ = least_energy(d, packet, low)
    up, fits = least_energy(d, packet, high)
    better = (net(d, gain, up) > net(d, gain, down)) | np.isposinf(d.value)
    return np.where(fits & better, high, low)


def _prefix(d: Devices, packet: Packet, gain: Gain) -> Array:
    """V4: the largest k whose last entry is worth its energy; entries fall, energy is convex."""
    assert gain.curve is not None
    many = d.per_entry()
    packet = Packet(_deeper(packet.bits), _deeper(packet.header))
    plan, fits = least_energy(many, packet, np.arange(1.0, gain.curve.shape[-1] + 1))
    energy = many.drawn(plan.power_w) * plan.airtime_s
    before = np.zeros(1)
    if packet.header is not None:
        _, power, time = _carry(many, packet.header)
        before = many.drawn(power) * time
    before = np.broadcast_to(before, (*energy.shape[:-1], 1))
    rise = np.diff(energy, axis=-1, prepend=before)
    pays = fits & (gain.curve > 0) & (gain.curve >= many.price * rise) & np.isfinite(many.price)
    return np.logical_and.accumulate(pays, axis=-1).sum(-1).astype(float)


@np.errstate(all="ignore")
def whole_bound(d: Devices, packet: Packet, gain: Gain, kept: Array) -> Array:
    """What no whole k exceeds, seen from k >= 1: a concave function lies below its secants."""
    here, fits = least_energy(d, packet, kept)
    up, upper = least_energy(d, packet, kept + 1)
    down, _ = least_energy(d, packet, np.maximum(kept - 1, 1.0))
    value = net(d, gain, here)
    rise = np.where(upper, np.fmax(net(d, gain, up) - value, 0.0), 0.0) * (d.size - kept)
    fall = np.fmax(net(d, gain, down) - value, 0.0) * (kept - 1)
    return np.where(fits, np.fmax(value + rise + fall, 0.0), 0.0)


# -- duality --------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def prices(d: Devices, packet: Packet) -> tuple[Array, Array]:
    """Multipliers at the optimum: mu of the rate [1/bit], nu of the energy budget [1/J]."""
    plan, worth = sending(d, packet), np.maximum(d.value, 0.0) / packet.bits
    pull = (1 + plan.power_w * d.snr) * LN2 / d.snr  # dp/dy
    if d.circuit is not None:  # at y_low < y_ee, held by p_max, energy per bit is what counts
        y = np.log1p(plan.power_w * d.snr) / LN2
        pull = np.fmax(pull, d.drawn(plan.power_w) / y)
    # Where airtime is left over a second is worth nothing: a hair less, or rounding times tau is.
    hair = np.where(plan.airtime_s < d.contact_s, 16 * EPS, 0.0)
    price = np.where(plan.dense, np.fmin(worth, d.price * pull / d.band * (1 - hair)), worth)
    extra = np.zeros(np.shape(price))
    if d.budget is not None:
        used = d.drawn(plan.power_w) * plan.airtime_s
        binds = ~plan.dense & (used >= d.budget * (1 - ROUNDING))
        dear = worth * d.band / pull * (1 + hair)  # Q + nu
        extra = np.where(binds, np.fmax(dear - d.price, 0.0), 0.0)
    # Infinite where nothing fits or the value is infinite: there `dual` needs no price.
    return np.where(np.isfinite(price), price, 0.0), np.where(np.isfinite(extra), extra, 0.0)


@np.errstate(all="ignore")
def dual(d: Devices, packet: Packet, price: Array, extra: Array) -> Array:
    """What no plan exceeds, for any mu, nu >= 0: silence, or

    s [W - mu b]^+ - mu b0 + nu E + tau [max_p mu B log2(1 + p g) - (Q + nu)(p + P_c)]^+.
    """
    # A price that is no number proves nothing; 0 is a price like any other.
    price, extra = (np.where(np.isfinite(v), np.maximum(v, 0.0), 0.0) for v in (price, extra))
    if d.budget is None:  # no constraint, no price of it
        extra = np.zeros_like(extra)
    total = d.price + extra
    y = np.log2(price / total * d.band * d.snr / LN2)
    y = np.clip(np.where(np.isnan(y), 0.0, y), 0.0, d.y_max)
    paid = np.where(y > 0, total * d.power(y), 0.0)
    if d.circuit is not None:
        paid = paid + np.where(d.circuit > 0, total * d.circuit, 0.0)
    surplus = price * d.band * y * (1 + EPS) - paid * (1 - EPS)
    surplus = np.where(np.isnan(surplus), np.inf, surplus)  # inf - inf: too large to be known
    excess = d.value - price * packet.bits
    excess = np.where(excess > EPS * np.abs(d.value), excess, 0.0)  # mu = W/b has no excess
    value = d.size * excess + np.where(surplus > 0, d.contact_s * surplus, 0.0)
    if packet.header is not None:
        value = value - price * packet.header * (1 - EPS)
    if d.budget is not None:
        value = value + np.where(extra > 0, extra * d.budget * (1 + EPS), 0.0)
    value = np.where(np.isposinf(d.value) | np.isnan(value), np.inf, np.maximum(value, 0.0))
    return np.where(np.isfinite(d.price) & (most(d, packet) > 0), value, 0.0)
