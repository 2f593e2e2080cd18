"""The menu of one device: what exponents (s, m) cost in band and what they are worth.

For gamma = 1 the least band that reaches the exponents (a, b) is

    c(a, b) = min_alpha [ phi_s^-1(a alpha) + phi_m^-1(b (1 - alpha)) ]          free split
    c(a, b) = the b with phi_s(theta_s b)/a + phi_m(theta_m b)/b = 1             fixed split

and device k needs c(gamma_k s, gamma_k m): one table on a logarithmic grid serves every device,
each looking through its own window. Sign-only, the single packet (s = m, common fading), off, and
the restrictions of ``packets`` are masks of the same table. At a price of band the best entry of
each kind is the start of a Newton descent, so a coarse grid is enough.
Source: spec spfl.md, "What moves training", Build; windows derived.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rralloc.channel.packets import fade_threshold, roughly_least_band
from rralloc.numerics.minimum import bracketed_minimum
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.problems._spfl_pieces import Pieces
    from rralloc.problems.spfl import SPFL

RATIO = 1.6
"""Ratio of neighbouring exponents on the grid."""
LEAST, COUNT = 1e-4, 28
"""A window starts at this exponent and has this many, up to about 30, where e^-s is nothing."""


class Table(NamedTuple):
    """Bands for gamma = 1: of both packets ``(I, J)``, of the signs alone ``(I,)``."""

    signs: Array
    moduli: Array
    alone: Array


def branches(problem: SPFL, pieces: Pieces, price: Array) -> Array:
    """Starts ``(S, K, J, n)``: the best entry of each kind at the price; NaN where there is none."""
    view = problem.__dict__.get("_menu")
    if view is None:
        view = problem.__dict__["_menu"] = Menu(problem)
    return view.starts(pieces, price)


class Menu:
    """The windows of all devices of a flat problem; arrays lead with the grid, ``(I, J, S, K)``."""

    def __init__(self, problem: SPFL) -> None:
        self.problem = problem
        shape = (problem.size, problem.sizes["K"])
        snr = np.broadcast_to(np.maximum(problem.snr, 1e-30), shape)
        first = np.ceil(np.log(snr * LEAST) / np.log(RATIO)).astype(int)
        index = first + np.arange(COUNT)[:, None, None]
        self.s = RATIO**index.astype(float) / snr
        self.signs, self.moduli, self.alone = self._bands(index, shape)
        total = self.signs + self.moduli
        if problem.common:  # m < s is of no use, and the diagonal is the single packet
            above = np.triu(np.ones((COUNT, COUNT), dtype=bool), 1)[:, :, None, None]
        else:
            above = np.ones((COUNT, COUNT, 1, 1), dtype=bool)
        heard = np.broadcast_to(problem.snr > 0, shape)
        with np.errstate(all="ignore"):
            worth = problem.law.value(self.s[:, None], self.s[None], problem)
            self.off = problem.law.value(np.full(shape, np.inf), np.full(shape, np.inf), problem)
            self.sign_only = problem.law.value(self.s, np.full(self.s.shape, np.inf), problem)
        self.both_band = np.where(above & heard & (total <= 1.5), total, np.inf)
        self.both = np.where(np.isfinite(self.both_band), worth, np.inf)
        at = np.arange(COUNT)
        self.tied, self.tied_band = worth[at, at], np.where(heard, total[at, at], np.inf)
        self.alone = np.where(heard & (self.alone <= 1.5), self.alone, np.inf)
        self.kinds = {
            "sign-modulus": ("off", "signs", "single", "both"),
            "single": ("off", "single"),
            "one-bit": ("off", "signs"),
            "choice": ("off", "signs", "single"),
        }[problem.packets]
        if not problem.common:
            self.kinds = tuple(kind for kind in self.kinds if kind != "single")

    def _bands(self, index: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """Bands at every window position, one table for each distinct pair of rates and split."""
        problem = self.problem
        split = np.nan if problem.free_split else problem.theta_s
        rest = np.nan if problem.free_split else problem.theta_m
        keys = np.stack(
            [np.broadcast_to(v, shape) for v in (problem.sign_rate, problem.modulus_rate, split, rest)]
        ).reshape(4, -1)
        low, size = int(index.min()), int(index.max() - index.min()) + 1
        different, which = np.unique(keys, axis=1, return_inverse=True, equal_nan=True)
        tables = [unit_table(*map(float, key), low, size) for key in different.T]
        which = which.reshape(shape)
        i, j = index[:, None] - low, index[None] - low
        if len(tables) == 1:
            return tables[0].signs[i, j], tables[0].moduli[i, j], tables[0].alone[index - low]
        signs, moduli, alone = (np.stack(part) for part in zip(*tables))
        return signs[which, i, j], moduli[which, i, j], alone[which, index - low]

    def starts(self, pieces: Pieces, price: Array) -> Array:
        """The cheapest entry of each kind: value + price * band least."""
        cost = price[:, None]
        shape = self.off.shape
        out = np.full((*shape, len(self.kinds), pieces.size), np.nan)
        for n, kind in enumerate(self.kinds):
            out[:, :, n] = getattr(self, f"_{kind}")(pieces, cost)
        return out

    def _off(self, pieces: Pieces, cost: Array) -> Array:
        x = np.zeros((*self.off.shape, pieces.size))
        x[..., -1] = 0.0 if self.problem.common else 1.0
        return np.where(np.isfinite(self.off)[..., None], x, np.nan)

    def _signs(self, pieces: Pieces, cost: Array) -> Array:
        best = np.argmin(self.sign_only + cost * self.alone, axis=0)
        band = np.take_along_axis(self.alone, best[None], 0)[0]
        power = np.full(band.shape, 0.0 if self.problem.common else 1.0)
        columns = (band, np.zeros_like(band), power) if pieces.free else (band, power)
        value = np.take_along_axis(self.sign_only, best[None], 0)[0]
        return _usable(columns, np.isfinite(value + band))

    def _single(self, pieces: Pieces, cost: Array) -> Array:
        best = np.argmin(self.tied + cost * self.tied_band, axis=0)[None]
        at = best[0]
        rows, columns = np.indices(at.shape)
        signs, moduli = (v[at, at, rows, columns] for v in (self.signs, self.moduli))
        parts = (signs, moduli) if pieces.free else (signs + moduli,)
        fits = np.isfinite(self.tied[at, rows, columns] + self.tied_band[at, rows, columns])
        return _usable((*parts, np.ones(at.shape)), fits)

    def _both(self, pieces: Pieces, cost: Array) -> Array:
        total = self.both + cost * np.where(np.isfinite(self.both_band), self.both_band, 0.0)
        at = np.argmin(total.reshape(-1, *total.shape[2:]), axis=0)
        i, j = at // COUNT, at % COUNT
        rows, columns = np.indices(at.shape)
        signs, moduli = (v[i, j, rows, columns] for v in (self.signs, self.moduli))
        s, m = self.s[i, rows, columns], self.s[j, rows, columns]
        if self.problem.common:
            power = s / m
        else:
            x_s = signs if pieces.free else self.problem.theta_s * (signs + moduli)
            power = np.clip(fade_threshold(x_s, self.problem.snr, self.problem.sign_rate) / s, 0, 1)
        parts = (signs, moduli) if pieces.free else (signs + moduli,)
        return _usable((*parts, power), np.isfinite(total[i, j, rows, columns]))


def _usable(columns: tuple[Array, ...], fits: Array) -> Array:
    x = np.stack(np.broadcast_arrays(*columns), axis=-1)
    return np.where(fits[..., None] & np.isfinite(x).all(-1, keepdims=True), x, np.nan)


# -- the table for gamma = 1 ------------------------------------------------------------------------


@lru_cache(maxsize=256)
def unit_table(
    sign_rate: float, modulus_rate: float, theta_s: float, theta_m: float, low: int, size: int
) -> Table:
    """Bands at exponents RATIO^low ... for gamma = 1; NaN shares mean a free split."""
    grid = RATIO ** np.arange(low, low + size, dtype=float)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    if np.isnan(theta_s):

        def bands(z: Array) -> tuple[Array, Array]:
            alpha = 1.0 / (1.0 + np.exp(-z))
            return roughly_least_band(sign_rate, a * alpha), roughly_least_band(modulus_rate, b * (1.0 - alpha))

        def total(z: Array) -> Array:
            return np.minimum(sum(bands(z)), 1e300)

        z = bracketed_minimum(total, np.full(a.shape, -14.0), np.full(a.shape, 14.0), steps=24)
        return Table(*bands(z), roughly_least_band(sign_rate, grid))
    band = _fixed_band(sign_rate, modulus_rate, theta_s, theta_m, a, b)
    share = max(theta_s, 1e-300)
    signs = band * theta_s / (theta_s + theta_m)
    return Table(signs, band - signs, roughly_least_band(sign_rate, grid) / share)


def _fixed_band(r_s: float, r_m: float, theta_s: float, theta_m: float, a: Array, b: Array) -> Array:
    """b with phi_s(theta_s b)/a + phi_m(theta_m b)/b = 1, by bisection of its logarithm."""
    low, high = np.full(a.shape, -40.0), np.full(a.shape, 3.0)
    one = np.ones(())
    for _ in range(50):
        middle = 0.5 * (low + high)
        band = np.exp(middle)
        with np.errstate(all="ignore"):
            sign = fade_threshold(theta_s * band, one, np.asarray(r_s)) / a
            excess = sign + fade_threshold(theta_m * band, one, np.asarray(r_m)) / b
        more = ~(excess <= 1.0)
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(high >= 3.0, np.inf, np.exp(high))
