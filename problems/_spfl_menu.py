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

RATIO = 1.8
"""Ratio of neighbouring exponents on the grid."""
LEAST, COUNT = 1e-4, 22
"""A window starts at this exponent and has this many, up to about 23, where e^-s is nothing."""


FAINT = 3.0
"""p = e^-3 = 5 %: below, a modulus packet counts as none where none is needed."""
FREE = -1.0
"""Stands for the shares of a free split in the key of a table."""
NEVER = 1e30
"""Cost and band of what is impossible: large, and harmless in sums."""
Entry = tuple[Array, Array, Array, Array]
"""Bands of the signs and of the moduli, power coordinate, cost; each ``(S, K)``."""


class Table(NamedTuple):
    """Bands for gamma = 1: of both packets ``(I, J)``, of the signs alone ``(I,)``."""

    signs: Array
    moduli: Array
    alone: Array


def branches(problem: SPFL, pieces: Pieces, price: Array) -> tuple[Array, Array]:
    """The best entry of each kind: coordinates ``(S, K, J, n)`` and cost ``(S, K, J)``."""
    menu = problem.__dict__.get("_menu")
    if menu is None:
        menu = problem.__dict__["_menu"] = Menu(problem)
    return menu.best(pieces, price)


class Menu:
    """The windows of all devices of a flat problem; arrays lead with the grid, ``(I, J, S, K)``."""

    @np.errstate(all="ignore")  # what cannot be reached costs NEVER
    def __init__(self, problem: SPFL) -> None:
        self.problem = problem
        shape = (problem.size, problem.sizes["K"])
        snr = np.broadcast_to(np.maximum(problem.snr, 1e-30), shape)
        first = np.ceil(np.log(snr * LEAST) / np.log(RATIO)).astype(int)
        index = first + np.arange(COUNT)[:, None, None]
        self.s = RATIO ** index.astype(float) / snr
        self.signs, self.moduli, self.alone = self._bands(index, shape)
        total = self.signs + self.moduli
        if problem.common:  # m < s is of no use, and the diagonal is the single packet
            above = np.triu(np.ones((COUNT, COUNT), dtype=bool), 1)[:, :, None, None]
        else:
            above = np.ones((COUNT, COUNT, 1, 1), dtype=bool)
        heard = np.broadcast_to(problem.snr > 0, shape)
        with np.errstate(all="ignore"):
            worth = problem.law.grid(self.s, problem)
            self.off = problem.law.value(np.full(shape, np.inf), np.full(shape, np.inf), problem)
            self.sign_only = problem.law.value(self.s, np.full(self.s.shape, np.inf), problem)
        at = np.arange(COUNT)
        self.tied, self.tied_band = (
            worth[at, at],
            np.where(heard & (total[at, at] <= 1.5), total[at, at], NEVER),
        )
        # A modulus that hardly arrives is sign-only in disguise, and would hide the real "both".
        late = self.s[None] - (self.s[:, None] if problem.common else 0.0) > FAINT
        real = ~(late & np.isfinite(self.sign_only)[:, None])
        fits = above & heard & (total <= 1.5) & real
        # Searched at every price: one device's entries side by side.
        self.both_band = _side_by_side(np.where(fits, total, NEVER))
        self.both = _side_by_side(np.where(fits & (worth < NEVER), worth, NEVER))
        self.sign_band = np.where(heard & (self.alone <= 1.5), self.alone, NEVER)
        kinds = {
            "sign-modulus": ("off", "signs", "single", "both"),
            "single": ("off", "single"),
            "one-bit": ("off", "signs"),
            "choice": ("off", "signs", "single"),
        }[problem.packets]
        self.kinds = tuple(k for k in kinds if k != "single" or problem.common)

    def _bands(self, index: Array, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """Bands at every window position, one table for each distinct pair of rates and split."""
        problem = self.problem
        split = FREE if problem.free_split else problem.theta_s
        rest = FREE if problem.free_split else problem.theta_m
        keys = np.stack(
            [
                np.broadcast_to(v, shape)
                for v in (problem.sign_rate, problem.modulus_rate, split, rest)
            ]
        ).reshape(4, -1)
        low, size = int(index.min()), int(index.max() - index.min()) + 1
        different, which = np.unique(keys, axis=1, return_inverse=True)
        tables = [unit_table(*map(float, key), low, size) for key in different.T]
        which = which.reshape(shape)
        i, j = index[:, None] - low, index[None] - low
        if len(tables) == 1:
            return tables[0].signs[i, j], tables[0].moduli[i, j], tables[0].alone[index - low]
        signs, moduli, alone = (np.stack(part) for part in zip(*tables))
        return signs[which, i, j], moduli[which, i, j], alone[which, index - low]

    @np.errstate(all="ignore")
    def best(self, pieces: Pieces, price: Array) -> tuple[Array, Array]:
        """The cheapest entry of each kind: value + price * band least."""
        found = [getattr(self, f"_{kind}")(price[:, None]) for kind in self.kinds]
        x = np.empty((*self.off.shape, len(found), pieces.size))
        whole = self.problem.packets != "sign-modulus"  # then t tells the kind of packet
        for n, (signs, moduli, power, _) in enumerate(found):
            kind = "single" if self.problem.packets == "single" else self.kinds[n]
            x[:, :, n, -1] = float(kind == "single") if whole else power
            if pieces.free:
                x[:, :, n, 0], x[:, :, n, 1] = signs, moduli
            else:
                x[:, :, n, 0] = signs + moduli
        cost = np.stack([part[-1] for part in found], axis=-1)
        return x, np.where(cost < 0.5 * NEVER, cost, np.inf)

    def _off(self, cost: Array) -> Entry:
        none = np.zeros(self.off.shape)
        return none, none, none + (not self.problem.common), self.off

    def _signs(self, cost: Array) -> Entry:
        total = self.sign_only + cost * self.sign_band
        best = np.argmin(total, axis=0)[None]
        least = np.take_along_axis(total, best, 0)[0]
        band = np.take_along_axis(self.sign_band, best, 0)[0]
        return band, np.zeros_like(band), np.full(band.shape, float(not self.problem.common)), least

    def _single(self, cost: Array) -> Entry:
        total = self.tied + cost * self.tied_band
        best = np.argmin(total, axis=0)
        rows, columns = np.indices(best.shape)
        signs, moduli = (v[best, best, rows, columns] for v in (self.signs, self.moduli))
        return signs, moduli, np.ones(best.shape), total[best, rows, columns]

    def _both(self, cost: Array) -> Entry:
        total = self.both_band * cost[..., None]
        total += self.both
        at = np.argmin(total, axis=-1)
        i, j = at // COUNT, at % COUNT
        rows, columns = np.indices(at.shape)
        signs, moduli = (v[i, j, rows, columns] for v in (self.signs, self.moduli))
        s, m = self.s[i, rows, columns], self.s[j, rows, columns]
        problem = self.problem
        if problem.common:
            power = s / m
        else:
            x_s = signs if problem.free_split else problem.theta_s * (signs + moduli)
            power = np.clip(fade_threshold(x_s, problem.snr, problem.sign_rate) / s, 0, 1)
        return signs, moduli, power, np.take_along_axis(total, at[..., None], -1)[..., 0]


def _side_by_side(grid: Array) -> Array:
    """(I, J, S, K) as contiguous (S, K, I J)."""
    return np.ascontiguousarray(np.moveaxis(grid.reshape(-1, *grid.shape[2:]), 0, -1))


# -- the table for gamma = 1 ----------------------------------------------------------------------


@lru_cache(maxsize=256)
@np.errstate(all="ignore")
def unit_table(
    sign_rate: float, modulus_rate: float, theta_s: float, theta_m: float, low: int, size: int
) -> Table:
    """Bands at exponents RATIO^low ... for gamma = 1; FREE shares mean a free split."""
    grid = RATIO ** np.arange(low, low + size, dtype=float)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    if theta_s == FREE:

        def bands(z: Array) -> tuple[Array, Array]:
            alpha = 1.0 / (1.0 + np.exp(-z))
            return roughly_least_band(sign_rate, a * alpha), roughly_least_band(
                modulus_rate, b * (1.0 - alpha)
            )

        def total(z: Array) -> Array:
            # Where a packet cannot be that sure at any band: the nearer to possible, the better.
            signs, moduli = bands(z)
            signs = np.where(np.isinf(signs), 1e9 * (20.0 - z), signs)
            return signs + np.where(np.isinf(moduli), 1e9 * (20.0 + z), moduli)

        z = bracketed_minimum(total, np.full(a.shape, -14.0), np.full(a.shape, 14.0), steps=24)
        return Table(*bands(z), roughly_least_band(sign_rate, grid))
    band = _fixed_band(sign_rate, modulus_rate, theta_s, theta_m, a, b)
    share = max(theta_s, 1e-300)
    part = theta_s / (theta_s + theta_m)
    return Table(band * part, band * (1.0 - part), roughly_least_band(sign_rate, grid) / share)


def _fixed_band(
    r_s: float, r_m: float, theta_s: float, theta_m: float, a: Array, b: Array
) -> Array:
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
