"""The loop that ``newton`` and ``dual`` share: arrow Newton steps with projection and line search.

Works in the coordinates of a ``Separable`` form, so nothing is lost in a change of variables while
iterating. Source: spec spfl.md §3.3(a).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.forms import Separable
from rralloc.numerics.arrow import arrow_direction, held, inverse_blocks, times
from rralloc.typing import Array

KEPT = 0.1
"""A step leaves each device at least this share of its band."""
SMALL = 0.02
"""Below this share of an equal band a packet may be switched off in one step."""
ARMIJO = 1e-4
BACKTRACKS = 14
HUGE = 1e300


class Iterate(NamedTuple):
    """Coordinates ``(S, K, n)``, derivatives there, objective and price ``(S,)``."""

    x: Array
    value: Array
    gradient: Array
    hessian: Array
    price: Array
    done: Array
    stalled: Array


@np.errstate(all="ignore")  # overflow is a rejected step
def begin(form: Separable, x: Array) -> Iterate:
    """The start, its bands scaled to the budget."""
    x = np.clip(x, form.lower, form.upper)
    x = _scaled(form, x, fill=True)
    value, gradient, hessian = form.local(x)
    never = np.zeros(x.shape[0], dtype=bool)
    price = np.zeros(x.shape[0])
    return Iterate(x, value.sum(-1), _bounded(gradient), hessian, price, never, never)


@np.errstate(all="ignore")  # overflow is a rejected step
def step(problem: Any, state: Iterate, tol: float) -> Iterate:
    """One Newton step in every lane that is not done."""
    form = problem.view(Separable)
    x, gradient, row = state.x, state.gradient, form.row
    slack = form.budget - (x @ row).sum(-1)
    # 1. Hold what sits at a bound and wants to leave the box: by the price that the slopes of the
    #    bands suggest, then by the price that follows.
    worth = np.maximum(-(gradient * x) @ row, 0.0).sum(-1)
    price = worth / np.maximum((x @ row).sum(-1), 1e-300)
    hessian = _stiffened(state.hessian, gradient, x, price, row)
    fixed = held(x, gradient + price[:, None, None] * row, form.lower, form.upper)
    move, price = arrow_direction(gradient, hessian, row, slack, fixed)
    again = held(x, gradient + price[:, None, None] * row, form.lower, form.upper)
    if not np.array_equal(again, fixed):
        move, price = arrow_direction(gradient, hessian, row, slack, again)
    # 2. The Newton decrement is what the model still promises.
    promise = -(gradient * move).sum((-1, -2)) - price * slack
    small = promise <= tol * np.abs(state.value)
    # 3. The longest step that keeps a share of every band; backtrack on the true objective.
    length = np.minimum(1.0, _reach(x, move, form).min((-1, -2)))
    #    Where little is promised this is the last step: it costs nothing and squares the error.
    found, taken = _searched(problem, state, move, length, ~state.done, small)
    return Iterate(
        *found,
        np.where(state.done, state.price, price),
        state.done | small | ~taken,
        state.stalled | ~(state.done | small | taken),
    )


def descend(problem: Any, x: Array, tol: float, steps: int = 60) -> Iterate:
    """Steps until every lane is done; finished lanes are set aside when they are many."""
    state = begin(problem.view(Separable), x)
    whole, lanes = state, np.arange(x.shape[0])
    for n in range(steps):
        state = step(problem, state, tol)
        finished = state.done
        last = n == steps - 1 or finished.all()
        if last or finished.mean() > 0.3:
            out = lanes if last else lanes[finished]
            for kept, new in zip(whole, state):
                kept[out] = new if last else new[finished]
            if last:
                break
            going = ~finished
            problem, lanes = problem[going], lanes[going]
            state = Iterate(*(v[going] for v in state))
    return whole


@np.errstate(all="ignore")  # overflow is a rejected step
def settle(
    form: Separable, x: Array, price: Array, steps: int
) -> tuple[Array, Array, Array, Array]:
    """Each device alone to the nearest minimum of J + price row.x; no budget.

    Returns x ``(S, K, n)``, value and band ``(S, K)`` there, and -dx/d(price) ``(S, K, n)``.
    """
    row, cost = form.row, price[:, None]
    value, gradient, hessian = form.local(x)
    value = value + cost * (x @ row)
    length = np.ones(value.shape)
    for _ in range(steps):
        slope = _bounded(gradient) + cost[..., None] * row
        fixed = held(x, slope, form.lower, form.upper)
        move = -times(inverse_blocks(_stiffened(hessian, gradient, x, price, row), fixed), slope)
        reach = np.minimum(length, _reach(x, move, form).min(-1))
        trial = np.clip(x + reach[..., None] * move, form.lower, form.upper)
        new, new_gradient, new_hessian = form.local(trial)
        new = new + cost * (trial @ row)
        better = new <= value
        x = np.where(better[..., None], trial, x)
        value = np.where(better, new, value)
        gradient = np.where(better[..., None], new_gradient, gradient)
        hessian = np.where(better[..., None, None], new_hessian, hessian)
        length = np.where(better, 1.0, length * 0.3)
    slope = _bounded(gradient) + cost[..., None] * row
    fixed = held(x, slope, form.lower, form.upper)
    return x, value, x @ row, inverse_blocks(hessian, fixed) @ row


def _stiffened(hessian: Array, gradient: Array, x: Array, price: Array, row: Array) -> Array:
    """Curvature of a band x at least price/(10 x): it then answers the price at most tenfold.

    A packet that is all but off is flat; its Newton step would swamp everybody's. One that is
    flat all over gives up at most nine tenths of its band.
    """
    out, cost = hessian.copy(), price[:, None]
    for i in np.flatnonzero(row):
        answer = np.where(np.abs(gradient[..., i]) < 1e-9 * cost, 1.0 / (1.0 - KEPT), 0.1)
        least = answer * cost / np.maximum(x[..., i], 1e-300)
        out[..., i, i] = np.where(np.abs(out[..., i, i]) < least, least, out[..., i, i])
    return out


def _bounded(gradient: Array) -> Array:
    return np.clip(gradient, -HUGE, HUGE)


def _scaled(form: Separable, x: Array, *, fill: bool = False) -> Array:
    """Bands scaled down to the budget where they exceed it; with ``fill`` up to it as well."""
    used = (x @ form.row).sum(-1)
    off = used > form.budget if not fill else used > 0
    factor = np.where(off, form.budget / np.where(used > 0, used, 1.0), 1.0)
    return np.where(form.row != 0, x * factor[:, None, None], x)


def _reach(x: Array, move: Array, form: Separable) -> Array:
    """Longest step that leaves each band its share; inf for small ones and other coordinates."""
    falls = (form.row != 0) & (move < 0) & (x > SMALL / x.shape[1])
    return np.where(falls, (1.0 - KEPT) * (x - form.lower) / np.where(falls, -move, 1.0), np.inf)


Found = tuple[Array, Array, Array, Array]
"""Coordinates, objective, gradient, Hessian blocks."""


def _searched(
    problem: Any, state: Iterate, move: Array, length: Array, wanted: Array, small: Array
) -> tuple[Found, Array]:
    """Backtrack until the true objective falls; lanes that never do keep their point.

    ``small`` lanes try once, and rounding may not count against them.
    """
    best = tuple(v.copy() for v in state[:4])
    taken = np.zeros(wanted.shape, dtype=bool)
    lanes = np.flatnonzero(wanted)
    part = problem if lanes.size in (0, wanted.size) else problem[lanes]
    for _ in range(BACKTRACKS):
        if not lanes.size:
            break
        form, old = part.view(Separable), state.x[lanes]
        trial = np.clip(old + length[lanes, None, None] * move[lanes], form.lower, form.upper)
        trial = _scaled(form, trial)
        value, slopes, hessian = form.local(trial)
        total = value.sum(-1)
        fall = (state.gradient[lanes] * (trial - old)).sum((-1, -2))
        slack = np.where(small[lanes], 1e-15 * np.abs(state.value[lanes]), 0.0)
        good = total <= state.value[lanes] + ARMIJO * np.minimum(fall, 0.0) + slack
        for kept, new in zip(best, (trial, total, _bounded(slopes), hessian)):
            kept[lanes[good]] = new[good]
        taken[lanes[good]] = True
        going = ~(good | small[lanes])
        if not going.all():
            lanes = lanes[going]
            part = part[going] if lanes.size else part
        length = 0.3 * length
    return (best[0], best[1], best[2], best[3]), taken
