"""Subgradient: who is not served counts by how much, and that surrogate is solved by its dual.

    min sum_k w_k x_k   s.t.  x_k >= 1 - |g_k^H m|^2,  x >= 0,  |m| <= 1

|g_k^H m|^2 is convex, so it is replaced by its tangent at the last beam, with y_k = g_k^H m_0:

    x_k >= c_k - 2 Re((y_k g_k)^H m),    c_k = 1 + |y_k|^2

For prices 0 <= lam <= w the best beam is m = d/|d| with d = sum_k lam_k y_k g_k, and the dual

    D(lam) = sum_k lam_k c_k - 2 |d|

has the supergradient c_k - 2 Re((y_k g_k)^H m). All instances at once; only matrix products.

Source: Kim, Swindlehurst and Park (abstract and public settings), spec ota.md §1, §3; a
reconstruction: what the tolerance watches (here prices and beam) and the first prices (here w, the
largest) are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rralloc.forms import Coverage
from rralloc.run import Run
from rralloc.solver import Iterative
from rralloc.solvers.coverage import normalised
from rralloc.typing import Array, Point


class State(NamedTuple):
    """Lanes ``(S, ...)``: columns and values, the beam, the best beam and its value."""

    columns: Array
    value: Array
    m: Array
    best: Array
    record: Array
    done: Array


class Tangents(NamedTuple):
    """The surrogate at one beam: x_k >= offset_k - 2 Re(lines_k^H m), x_k costs value_k.

    ``lines`` ``(S, 2N, K)`` are real: Re above Im; so is the beam ``(S, 2N)``.
    """

    lines: Array
    offset: Array
    value: Array

    @classmethod
    def at(cls, columns: Array, value: Array, m: Array) -> Tangents:
        """Tangents of |g_k^H m|^2 at m."""
        y = heard(columns, m)
        turned = columns * y[..., None, :]
        lines = np.concatenate([turned.real, turned.imag], axis=-2)
        return cls(lines, 1 + y.real**2 + y.imag**2, value)

    def slack(self, m: Array) -> Array:
        """c_k - 2 Re((y_k g_k)^H m) ``(S, K)``; the surrogate counts its positive part."""
        return self.offset - 2 * (m[..., None, :] @ self.lines)[..., 0, :]

    def loss(self, m: Array) -> Array:
        """The surrogate sum_k w_k max(0, slack_k) ``(S,)``."""
        return (self.value * np.maximum(self.slack(m), 0)).sum(-1)

    def toward(self, price: Array) -> Array:
        """d ``(S, 2N)``."""
        return (self.lines @ price[..., None])[..., 0]

    def dual(self, price: Array) -> Array:
        """D(lam) ``(S,)``: what no beam can fall below."""
        return (price * self.offset).sum(-1) - 2 * np.linalg.norm(self.toward(price), axis=-1)


class Subgradient(Iterative):
    """Hinge surrogate, linearised again and again, each time by projected dual subgradient.

    ``inner``: subgradient steps for each linearisation; step j has length ``step_length``/sqrt(j),
    in units of the threshold. The defaults are the public settings: 100 linearisations
    (``max_iter``) of 100 steps, 0.1, and ``tol`` 1e-3. It starts at the best of the all-ones beam
    and the K matched filters and keeps the most valuable beam of all that it meets.

    Choose this when you compare with the literature's fast method, or when nothing but matrix
    products is at hand; ``coverage`` serves one or two devices of twenty more in less time.
    """

    name = "subgradient"
    rank = 210
    needs = (Coverage,)
    steps = 100

    inner: int = 100
    step_length: float = 0.1

    def begin(self, problem: Any, start: Point | None, run: Run) -> State:
        """The best simple beam of each lane."""
        columns, value = normalised(problem.view(Coverage))
        value = value / np.maximum(value.max(-1, keepdims=True), 1e-300)
        m, record = simplest(columns, value)
        return State(columns, value, m, m, record, record >= value.sum(-1))

    def step(self, problem: Any, state: State, run: Run) -> State:
        """One linearisation."""
        tol = 1e-3 if run.tol is None else run.tol
        columns, value, m, best, record, done = state
        tangents, new = Tangents.at(columns, value, m), m
        # 1. The surrogate at the last beam by its dual; keep the best beam on the way.
        for real, _ in ascending(tangents, as_real(m), self.inner, self.step_length, tol):
            new = np.where(done[:, None], m, as_complex(real))
            worth = served_value(columns, value, new)
            better = worth > record
            best, record = np.where(better[:, None], new, best), np.where(better, worth, record)
            if run.interruption() is not None:
                break
        # 2. Stop where the beam stands still or everybody is served.
        still = np.linalg.norm(new - m, axis=-1) <= tol
        done = done | still | (record >= value.sum(-1))
        return State(columns, value, new, best, record, done)

    def point(self, problem: Any, state: State) -> Point:
        """The best beam so far."""
        point: Point = problem.view(Coverage).point(state.best)
        return point


def ascending(
    tangents: Tangents, m: Array, steps: int, length: float, tol: float
) -> Iterator[tuple[Array, Array]]:
    """Beams ``(S, 2N)`` and the prices ``(S, K)`` they answer, by projected subgradient steps."""
    price = tangents.value
    for j in range(1, steps + 1):
        # 1. The best beam for these prices; where nothing has a price, the last one.
        m = _unit_or(tangents.toward(price), m)
        yield m, price
        # 2. Dearer what is not served, cheaper what is; stop when no price moves.
        last, move = price, length / np.sqrt(j)
        price = np.clip(price + move * tangents.slack(m), 0, tangents.value)
        if np.abs(price - last).max(initial=0.0) <= tol * move:
            return


def simplest(columns: Array, value: Array) -> tuple[Array, Array]:
    """The best of the all-ones beam and the K matched filters, and the value it serves.

    Among equals, the one with the least sum_k w_k max(0, 1 - |g_k^H m|^2).
    """
    size = columns.shape[-2]
    best = np.full(columns.shape[:-1], size**-0.5 + 0j)
    record, least = served_value(columns, value, best), hinge(columns, value, best)
    for k in range(columns.shape[-1]):
        g = columns[..., k]
        length = np.linalg.norm(g, axis=-1, keepdims=True)
        m = g / np.where(length > 0, length, 1.0)
        worth, loss = served_value(columns, value, m), hinge(columns, value, m)
        better = (worth > record) | (worth == record) & (loss < least)
        best = np.where(better[..., None], m, best)
        record, least = np.where(better, worth, record), np.where(better, loss, least)
    return best, record


def heard(columns: Array, m: Array) -> Array:
    """g_k^H m ``(S, K)``."""
    return (m.conj()[..., None, :] @ columns)[..., 0, :].conj()


def gain(columns: Array, m: Array) -> Array:
    """|g_k^H m|^2 ``(S, K)``."""
    y = heard(columns, m)
    return y.real**2 + y.imag**2


def served_value(columns: Array, value: Array, m: Array) -> Array:
    """Value of the devices that m serves ``(S,)``."""
    return np.where(gain(columns, m) >= 1, value, 0.0).sum(-1)


def hinge(columns: Array, value: Array, m: Array) -> Array:
    """The surrogate before it is linearised ``(S,)``."""
    return (value * np.maximum(1 - gain(columns, m), 0)).sum(-1)


def as_real(m: Array) -> Array:
    """``(S, N)`` complex as ``(S, 2N)`` real."""
    return np.concatenate([m.real, m.imag], axis=-1)


def as_complex(m: Array) -> Array:
    """Back again."""
    half = m.shape[-1] // 2
    return m[..., :half] + 1j * m[..., half:]


def _unit_or(d: Array, spare: Array) -> Array:
    """d/|d|, and ``spare`` where d is zero."""
    length = np.linalg.norm(d, axis=-1, keepdims=True)
    return np.where(length > 0, d / np.where(length > 0, length, 1.0), spare)
