"""Least J + price * band of each SP-FL device, from below, by cells of the logarithmic exponents.

With z = ln s and e = ln(m/s) the least band c(s, m) is convex in (z, e), for a fixed and for a free
split (log phi is convex, so ln s = ln phi_s - ln alpha is). On a cell:

* c is at least its tangent plane at a point near the middle;
* J is at least a concave function: with T the tangent of the convex s (or m) at the middle and
  x0 = u s0 + v m0, a term c e^(u s + v m) is bounded for c > 0 by c e^x0 (1 + x - x0) with T for s
  where u > 0, and for c < 0 by c e^x with T where u <= 0;
  optimal scaling: wG - w X^2/d by a convex bound of X from above and a concave one of d from below;

so the least of their sum over the cell is at one of its four corners. The error falls with the
square of the cell's size; cells that cannot hold the minimum are dropped, the others cut in four.
Outside the grid: sign-only (m >= M) on intervals of z, and s >= S by bounds of each factor.
Source: spec spfl.md, corrections, "Certified bound", there in (b, alpha); the coordinates in which
a free split is covered as well are derived here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rralloc.channel.packets import fade_threshold, fade_threshold_slopes, roughly_least_band
from rralloc.errors import NotOffered
from rralloc.problems.spfl_objectives import OptimalScaling, Term
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.problems.spfl import SPFL

LAST_S, LAST_M = 36.0, 72.0
"""Beyond: e^-36 and p <= e^-36 are nothing."""
GRID = 6
LEVELS = 26
TOLERANCE = 1e-5
"""Cells are refined to this share of the instance's objective, divided by K."""
MOST = 4000
"""Cells a device on average; with more the bound is left as it is: valid, not tight."""
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))


Pair = tuple[Array, Array]
"""Exponents s and m."""


class Devices(NamedTuple):
    """One row a device ``(R,)``: channel, split, price, and the terms of its law."""

    snr: Array
    sign_rate: Array
    modulus_rate: Array
    theta_s: Array
    theta_m: Array
    price: Array

    def take(self, rows: Array) -> Devices:
        """The devices of some rows."""
        return Devices(*(v[rows] for v in self))


class Law:
    """Concave minorants of J on cells; ``take`` gathers the coefficients of some devices."""

    def __init__(self, problem: SPFL, shape: tuple[int, ...]) -> None:
        self.common, law = problem.common, problem.law
        w, G, E, _, H = problem.statistics

        def rows(values: Array) -> Array:
            return np.broadcast_to(values, shape).reshape(-1)

        self.scaling = isinstance(law, OptimalScaling)
        self.extra: tuple[Array, ...] = ()
        if isinstance(law, OptimalScaling):  # the terms are those of its denominator d
            constant, terms = law.denominator(problem)
            Y = 0.5 * (G + H - E)
            self.extra = tuple(rows(v) for v in (w, G, Y, problem.variance_weight))
        else:
            constant, terms = law.terms(problem)
            if any(term.j not in (0, 1, 2) for term in terms):
                raise NotOffered("cells bound terms with p^0, p^1 and p^2 only")
        self.constant = rows(constant)
        self.terms = [Term(rows(c), i, j) for c, i, j in terms]

    def take(self, rows: Array) -> Law:
        """The law of some devices."""
        new = object.__new__(Law)
        new.common, new.scaling = self.common, self.scaling
        new.constant = self.constant[rows]
        new.terms = [Term(c[rows], i, j) for c, i, j in self.terms]
        new.extra = tuple(v[rows] for v in self.extra)
        return new

    def value(self, s: Array, m: Array) -> Array:
        """J itself."""
        total: Array = self.constant
        for term in self.terms:
            u, v = term.exponents(self.common)
            exponent: Array = u * s + v * m if v else u * s
            total = total + term.c * np.exp(np.minimum(exponent, 600.0))
        if not self.scaling:
            return total
        w, G, Y, _ = self.extra
        X = Y + (G - Y) * np.exp((s if self.common else 0.0) - m)
        return w * G - w * np.where(total > 0, X * X / np.where(total > 0, total, 1.0), 0.0)

    def minorant(self, middle: Pair, at: Pair) -> Array:
        """At corners ``at`` the concave function below J that touches it at ``middle``."""
        flat = _tangents(middle, at)
        below = self.constant + sum(self._below(t, middle, at, flat) for t in self.terms)
        if not self.scaling:
            return below
        w, G, Y, _ = self.extra
        one = Term(np.ones(G.shape), 0, 1)
        rise, least = self._above(one, at, flat), self._below(one, middle, at, flat)
        X = Y + np.where(G >= Y, (G - Y) * rise, (G - Y) * least)
        low = np.where(below > 0, w * (G - X * X / np.where(below > 0, below, 1.0)), -np.inf)
        return np.where(X == 0, w * G, low)

    def _below(self, term: Term, middle: Pair, at: Pair, flat: Pair) -> Array:
        """c e^x from below, concave; ``flat`` are the tangents of s and m."""
        positive = self._linear(term, middle, at, flat)
        negative = self._above(term, at, flat)
        return term.c * np.where(term.c > 0, positive, negative)

    def _linear(self, term: Term, middle: Pair, at: Pair, flat: Pair) -> Array:
        """e^x >= e^x0 (1 + x - x0), tangents where the coefficient is positive."""
        u, v = term.exponents(self.common)
        start = u * middle[0] + v * middle[1]
        (s, m), (flat_s, flat_m) = at, flat
        x = u * (flat_s if u > 0 else s) + v * (flat_m if v > 0 else m)
        return np.exp(np.minimum(start, 600.0)) * (1.0 + x - start)

    def _above(self, term: Term, at: Pair, flat: Pair) -> Array:
        """e^x from above, convex: tangents where the coefficient is negative."""
        u, v = term.exponents(self.common)
        (s, m), (flat_s, flat_m) = at, flat
        x = u * (s if u > 0 else flat_s) + v * (m if v > 0 else flat_m)
        return np.exp(np.minimum(x, 600.0))

    def sign_only(self, s: Array) -> Array:
        """J without a modulus packet."""
        total = self.constant
        for term in self.terms:
            if term.j == 0:
                total = total + term.c * np.exp(np.minimum(term.i * s, 600.0))
        if not self.scaling:
            return total
        w, G, Y, _ = self.extra
        return w * (G - np.where(total > 0, Y * Y / np.where(total > 0, total, 1.0), 0.0))

    def sign_only_minorant(self, middle: Array, at: Array) -> Array:
        """The same from below for p in [0, e^-36], concave in ln s."""
        pair, corner = (middle, middle), (at, at)
        flat = _tangents(pair, corner)
        total, small = self.constant, np.exp(LAST_S - LAST_M)
        for c, i, j in self.terms:
            if j == 0:
                total = total + self._below(Term(c, i, 0), pair, corner, flat)
            else:
                total = total - np.abs(c) * small**j * np.exp(max(i, 0) * at)
        if not self.scaling:
            return total
        w, G, Y, _ = self.extra
        X = Y + small * np.maximum(G - Y, 0.0)
        low = np.where(total > 0, w * (G - X * X / np.where(total > 0, total, 1.0)), -np.inf)
        return np.where(X == 0, w * G, low)

    def beyond(self) -> Array:
        """J for s >= LAST_S from below, whatever the modulus: each factor by its interval."""
        q = np.exp(-LAST_S)
        if self.scaling:  # X^2 <= G T, so the gain is at most G q/lam
            w, G, _, lam = self.extra
            return w * G - np.minimum(w * G, G * q / np.maximum(lam, 1e-300))
        cut = np.exp(-20.0)
        halves = [self._factors(q, low, high) for low, high in ((0.0, cut), (cut, 1.0))]
        return np.minimum(*halves)

    def _factors(self, q: float, low: float, high: float) -> Array:
        """sum over i of the least over p in [low, high] of (sum_j c_ij p^j), times q^-i."""
        total = self.constant
        for i in sorted({t.i for t in self.terms}):
            parts = [t for t in self.terms if t.i == i]
            least = sum(np.minimum(t.c * low**t.j, t.c * high**t.j) for t in parts if t.j < 2)
            bent = [t for t in parts if t.j == 2]
            line = [t for t in parts if t.j == 1]
            if bent:  # the exact least of c1 p + c2 p^2 on the interval
                c1 = line[0].c if line else 0.0
                c2 = bent[0].c
                top = np.clip(-c1 / np.where(c2 > 0, 2 * c2, 1.0), low, high)
                ends = [c1 * p + c2 * p * p for p in (low, high)]
                inner = np.where(c2 > 0, c1 * top + c2 * top * top, np.inf)
                least = np.minimum(np.minimum(*ends), inner)
                least = least + sum(t.c for t in parts if t.j == 0)
            if i > 0:  # q may be anything below e^-36
                total = total + np.where(least >= 0, least / q**i, -np.inf)
            else:
                total = total + (least if i == 0 else np.minimum(0.0, least * q**-i))
        return total


def _tangents(middle: Pair, at: Pair) -> Pair:
    """s0 (1 + ln(s/s0)) and the same for m: tangents of exp at the middle."""
    (s0, m0), (s, m) = middle, at
    return s0 * (1.0 + np.log(s / s0)), m0 * (1.0 + np.log(m / m0))


# -- the search -----------------------------------------------------------------------------------


def cell_minima(problem: SPFL, price: Array, size: Array) -> Array:
    """A number ``(S, K)`` that no J_k + price b_k is below; flat problem.

    price: ``(S,)``. size: ``(S,)``, what an error counts as small against: the objective's size.
    """
    shape = (problem.size, problem.sizes["K"])
    law = Law(problem, shape)  # refused first where the law has no terms
    nan = np.full((), np.nan)
    split = (nan, nan) if problem.free_split else (problem.theta_s, problem.theta_m)
    each = (problem.snr, problem.sign_rate, problem.modulus_rate, *split, price[:, None])
    devices = Devices(*(np.broadcast_to(v, shape).reshape(-1) for v in each))
    rows = devices.snr.size
    tail = law.beyond()
    least = np.minimum(tail, _silent(problem, shape))
    goal = np.broadcast_to(TOLERANCE * size[:, None] / shape[1], shape).reshape(-1)
    kinds = problem.packets
    with np.errstate(all="ignore"):
        need = whole_band(devices)
        heard = np.flatnonzero(need[0] < LAST_S)
        best = least.copy()
        if kinds != "single":
            strip = _Strip(devices, law, need)
            best = np.minimum(best, strip.search(heard, rows, goal, least))
        if kinds in ("sign-modulus", "single", "choice"):
            grid = _Grid(devices, law, need, problem.common, kinds != "sign-modulus")
            best = np.minimum(best, grid.search(heard, rows, goal, best))
    return best.reshape(shape)


def _silent(problem: SPFL, shape: tuple[int, ...]) -> Array:
    """J of a device that is off."""
    off = np.full(shape, np.inf)
    with np.errstate(all="ignore"):
        return np.broadcast_to(problem.law.value(off, off, problem), shape).reshape(-1)


class _Cells:
    """Refinement that both kinds of cells share: bound, drop, cut."""

    def __init__(self, devices: Devices, law: Law, need: Pair) -> None:
        self.devices, self.law, self.need = devices, law, need
        self.first = np.log(np.clip(need[0], 1e-12, LAST_S))

    def search(self, heard: Array, rows: int, goal: Array, known: Array) -> Array:
        """Least bound ``(rows,)``; inf for devices without cells."""
        owner, cells = self.begin(heard)
        found = np.full(rows, np.inf)
        attained = known.copy()
        for level in range(LEVELS):
            if owner.size == 0:
                break
            bound, value = self.bounds(owner, cells)
            np.minimum.at(attained, owner, value)
            kept = bound < attained[owner] - goal[owner]
            # Dropped cells hold nothing below attained - goal, or below their own bound.
            np.minimum.at(found, owner[~kept], bound[~kept])
            if level == LEVELS - 1 or kept.sum() > MOST * heard.size:
                np.minimum.at(found, owner[kept], bound[kept])
                break
            owner, cells = self.cut(owner[kept], cells[kept])
        return found

    def begin(self, heard: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def bounds(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        raise NotImplementedError

    def cut(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class _Strip(_Cells):
    """Sign-only: intervals ``(M, 2)`` of ln s."""

    def begin(self, heard: Array) -> tuple[Array, Array]:
        """GRID^2 intervals a device."""
        count = GRID * GRID
        ends = np.linspace(self.first[heard], np.log(LAST_S), count + 1)
        cells = np.stack([ends[:-1], ends[1:]], -1)
        return np.tile(heard, count), cells.reshape(-1, 2)

    def bounds(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        """Tangent of the band plus the concave minorant, at both ends."""
        device, law = self.devices.take(owner), self.law.take(owner)
        middle = np.exp(cells.mean(-1))
        share = np.where(np.isnan(device.theta_s), 1.0, device.theta_s)
        x = np.clip(roughly_least_band(device.sign_rate, device.snr * middle), 1e-9, 4.0)
        phi, slope, _ = fade_threshold_slopes(x, device.snr, device.sign_rate)
        bounds = []
        for end in (0, 1):
            z = cells[:, end]
            band = (x + phi / slope * (z - np.log(phi))) / share
            J = law.sign_only_minorant(middle, np.exp(z))
            bounds.append(J + device.price * band)
        value = law.sign_only(phi) + device.price * x / share
        return np.minimum(*bounds), np.where(x <= share, value, np.inf)

    def cut(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        """In two."""
        middle = cells.mean(-1)
        left = np.stack([cells[:, 0], middle], -1)
        right = np.stack([middle, cells[:, 1]], -1)
        return np.tile(owner, 2), np.concatenate([left, right])


class _Grid(_Cells):
    """Both packets: rectangles ``(M, 4)`` of (ln s, ln m/s); the line e = 0 is the single."""

    def __init__(self, devices: Devices, law: Law, need: Pair, common: bool, single: bool) -> None:
        super().__init__(devices, law, need)
        self.common, self.single = common, single
        self.m_first = np.log(np.clip(need[1], 1e-12, LAST_M))

    def begin(self, heard: Array) -> tuple[Array, Array]:
        """GRID x GRID rectangles a device."""
        first, last = self.first[heard], np.log(LAST_S)
        high = np.log(LAST_M) - first
        low = np.zeros_like(high) if self.common else self.m_first[heard] - last
        if self.single:
            high = np.zeros_like(high)
        z = np.linspace(first, np.full_like(first, last), GRID + 1)
        e = np.linspace(low, np.maximum(high, low), GRID + 1)
        parts = [
            np.stack([z[i], z[i + 1], e[j], e[j + 1]], -1)
            for i in range(GRID)
            for j in range(1 if self.single else GRID)
        ]
        return np.tile(heard, len(parts)), np.concatenate(parts)

    def bounds(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        """Tangent plane of the band plus the concave minorant of J, at the four corners."""
        device, law = self.devices.take(owner), self.law.take(owner)
        z, e = cells[:, :2].mean(-1), cells[:, 2:].mean(-1)
        middle = (np.exp(z), np.exp(z + e))
        # Touch in the middle, or at the cheapest corner where the middle needs more than the band.
        need_s, need_m = (least[owner] for least in self.need)
        corner = np.exp(cells[:, 1]), np.exp(cells[:, 1] + cells[:, 3])
        beyond = need_s / middle[0] + need_m / middle[1] > 1.0
        near = (np.where(beyond, c, v) for c, v in zip(corner, middle))
        band, by_s, by_m, touch = least_band_plane(device, *near)
        low = np.full(owner.size, np.inf)
        dearest = np.full(owner.size, np.inf)
        for i, j in CORNERS:
            at_s = cells[:, i]
            at_m = at_s + cells[:, 2 + j]
            plane = band + by_s * (at_s - np.log(touch[0])) + by_m * (at_m - np.log(touch[1]))
            J = law.minorant(middle, (np.exp(at_s), np.exp(at_m)))
            low = np.fmin(low, np.where(np.isnan(J), -np.inf, J) + device.price * plane)
            dearest = np.minimum(dearest, plane)
        # Nothing here fits the band; or every modulus is hopeless, which the strip covers.
        empty = (dearest > 1.0) | (cells[:, 0] + cells[:, 2] >= np.log(LAST_M))
        empty |= need_s / corner[0] + need_m / corner[1] > 1.0
        value = law.value(*touch) + device.price * band
        usable = (band <= 1.0) & (touch[1] >= touch[0] if self.common else True)
        value = np.where(usable & ~np.isnan(value), value, np.inf)
        return np.where(empty, np.inf, low), value

    def cut(self, owner: Array, cells: Array) -> tuple[Array, Array]:
        """In four (in two along the line of the single packet)."""
        z0, z1, e0, e1 = cells.T
        z, e = 0.5 * (z0 + z1), 0.5 * (e0 + e1)
        if self.single:
            halves = [(z0, z, e0, e1), (z, z1, e0, e1)]
        else:
            halves = [(z0, z, e0, e), (z, z1, e0, e), (z0, z, e, e1), (z, z1, e, e1)]
        return np.tile(owner, len(halves)), np.concatenate([np.stack(h, -1) for h in halves])


def whole_band(device: Devices) -> tuple[Array, Array]:
    """phi_s and phi_m with the whole band for the device (for each packet where the split is free).

    No share up to 1 reaches exponents with phi_s/s + phi_m/m > 1.
    """
    shares = (np.where(np.isnan(v), 1.0, v) for v in (device.theta_s, device.theta_m))
    rates = device.sign_rate, device.modulus_rate
    sign, modulus = (fade_threshold(x, device.snr, r) for x, r in zip(shares, rates))
    return sign, modulus


def least_band_plane(
    device: Devices, s: Array, m: Array
) -> tuple[Array, Array, Array, tuple[Array, Array]]:
    """A tangent plane of c in (ln s, ln m): value, slopes, and the exponents where it touches.

    It touches near (s, m), not exactly there: the bands are found roughly, then the exponents of
    which they are the least band follow in closed form.
    """
    free = np.isnan(device.theta_s)
    if free.all():
        x_s, x_m = _free_bands(device, s, m)
    else:
        b = _fixed_bands(device, s, m)
        x_s, x_m = device.theta_s * b, device.theta_m * b
    phi_s, slope_s, _ = fade_threshold_slopes(x_s, device.snr, device.sign_rate)
    phi_m, slope_m, _ = fade_threshold_slopes(x_m, device.snr, device.modulus_rate)
    if free.all():  # the split is optimal iff alpha/(1-alpha) = (phi_s/phi_s') / (phi_m/phi_m')
        by_s, by_m = phi_s / slope_s, phi_m / slope_m
        alpha = by_s / (by_s + by_m)
        band = x_s + x_m
    else:
        alpha = phi_s / s / (phi_s / s + phi_m / m)
        band = b
        along = device.theta_s * slope_s * alpha / phi_s
        along = along + device.theta_m * slope_m * (1.0 - alpha) / phi_m
        by_s, by_m = alpha / along, (1.0 - alpha) / along
    return band, by_s, by_m, (phi_s / alpha, phi_m / (1.0 - alpha))


def _free_bands(device: Devices, s: Array, m: Array) -> tuple[Array, Array]:
    """Nearly the bands of the best split: the root of the cost's slope in logit(alpha)."""

    def bands(z: Array) -> tuple[Array, Array, Array]:
        shares = 1.0 / (1.0 + np.exp(-z)), 1.0 / (1.0 + np.exp(z))
        x_s = _exactly(device.sign_rate, device.snr, s * shares[0])
        x_m = _exactly(device.modulus_rate, device.snr, m * shares[1])
        _, slope_s, _ = fade_threshold_slopes(x_s, device.snr, device.sign_rate)
        _, slope_m, _ = fade_threshold_slopes(x_m, device.snr, device.modulus_rate)
        return x_s, x_m, np.log(m / slope_m * slope_s / s)  # > 0 where alpha is too large

    low, high = np.full(s.shape, -14.0), np.full(s.shape, 14.0)
    at_low, at_high = np.full(s.shape, -1.0), np.full(s.shape, 1.0)
    for n in range(22):  # bisect until the function is a line, then two secant steps
        z = 0.5 * (low + high)
        if n >= 20:
            z = np.clip(low - at_low * (high - low) / (at_high - at_low), low, high)
        x_s, x_m, excess = bands(z)
        right = excess > 0
        low, at_low = np.where(right, low, z), np.where(right, at_low, excess)
        high, at_high = np.where(right, z, high), np.where(right, excess, at_high)
    return x_s, x_m


def _exactly(rate: Array, snr: Array, threshold: Array) -> Array:
    """phi^-1 by interpolation and one Newton step in logarithms, kept within [1e-9, 1e4]."""
    x = np.clip(roughly_least_band(rate, snr * threshold), 1e-9, 1e4)
    phi, slope, _ = fade_threshold_slopes(x, snr, rate)
    better = x * np.exp(np.clip(np.log(threshold / phi) * phi / (slope * x), -0.5, 0.5))
    return np.clip(np.where(np.isfinite(better), better, x), 1e-9, 1e4)


def _fixed_bands(device: Devices, s: Array, m: Array) -> Array:
    """Roughly the band with phi_s/s + phi_m/m = 1."""
    low, high = np.full(s.shape, np.log(1e-8)), np.full(s.shape, np.log(4.0))
    for _ in range(20):
        z = 0.5 * (low + high)
        b = np.exp(z)
        sign = fade_threshold(device.theta_s * b, device.snr, device.sign_rate) / s
        both = sign + fade_threshold(device.theta_m * b, device.snr, device.modulus_rate) / m
        more = ~(both <= 1.0)
        low, high = np.where(more, z, low), np.where(more, high, z)
    return np.exp(high)
