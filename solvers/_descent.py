"""The loop that ``newton`` and ``dual`` share: arrow Newton steps with projection and line search.

Works in the coordinates of a ``Separable`` form, so nothing is lost in a change of variables while
iterating. Source: spec spfl.md §3.3(a).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rralloc.forms import Separable
from rralloc.numerics.arrow import arrow_direction, held, inverse_blocks, times
from rralloc.typing import Array

SHRINK = 0.1
"""A step leaves each device at least this share of its band."""
ARMIJO = 1e-4


class Iterate(NamedTuple):
    """Coordinates ``(S, K, n)``, derivatives there, objective and price ``(S,)``."""

    x: Array
    value: Array
    gradient: Array
    hessian: Array
    price: Array
    done: Array
    stalled: Array


def begin(form: Separable, x: Array) -> Iterate:
    """The start, its bands filled up to the budget."""
    x = _filled(form, np.clip(x, form.lower, form.upper))
    value, gradient, hessian = form.local(x)
    lanes = x.shape[0]
    never = np.zeros(lanes, dtype=bool)
    return Iterate(x, value.sum(-1), gradient, hessian, np.zeros(lanes), never, never)


def step(form: Separable, state: Iterate, tol: float) -> Iterate:
    """One Newton step in every lane that is not done."""
    x, gradient, row = state.x, state.gradient, form.row
    slack = form.budget - (x @ row).sum(-1)
    gradient = np.nan_to_num(gradient, posinf=1e300, neginf=-1e300)
    # 1. Hold what sits at a bound and wants to leave the box; twice, as the price decides it.
    fixed = held(x, gradient, form.lower, form.upper) & ((x >= form.upper) | (row == 0) | (x <= 0))
    move, price = arrow_direction(gradient, state.hessian, row, slack, fixed)
    fixed = held(x, gradient + price[:, None, None] * row, form.lower, form.upper)
    move, price = arrow_direction(gradient, state.hessian, row, slack, fixed)
    # 2. Newton decrement: what the model still promises.
    promise = -(gradient * move).sum((-1, -2)) - price * slack
    small = promise <= tol * np.abs(state.value)
    # 3. Longest step that keeps a share of every band, then backtrack on the true objective.
    length = _longest(x, move, row, form.lower)
    found, taken = _searched(form, state, gradient, move, length, small)
    done = state.done | small | ~taken
    return Iterate(
        *(np.where(_like(taken, new), new, old) for new, old in zip(found, state[:4])),
        np.where(state.done, state.price, price),
        done,
        state.stalled | (~state.done & ~small & ~taken),
    )


def descend(form: Separable, x: Array, tol: float, steps: int = 60) -> Iterate:
    """Steps until every lane is done, all lanes together."""
    state = begin(form, x)
    for _ in range(steps):
        state = step(form, state, tol)
        if state.done.all():
            break
    return state


def settle(form: Separable, x: Array, price: Array, steps: int) -> tuple[Array, Array, Array, Array]:
    """Each device alone to the nearest minimum of J + price row.x; no budget.

    Returns x ``(S, K, n)``, value and band ``(S, K)`` there, and -d(band)/d(price) ``(S, K)`` with
    the direction it moves in, ``(S, K, n)``.
    """
    row, cost = form.row, price[:, None]
    value, gradient, hessian = form.local(x)
    value = value + cost * (x @ row)
    length = np.ones(value.shape)
    for _ in range(steps):
        slope = np.nan_to_num(gradient, posinf=1e300, neginf=-1e300) + cost[..., None] * row
        fixed = held(x, slope, form.lower, form.upper)
        move = -times(inverse_blocks(hessian, fixed), slope)
        reach = np.minimum(length, _reach(x, move, row, form.lower).min(-1))
        trial = np.clip(x + reach[..., None] * move, form.lower, form.upper)
        new, new_gradient, new_hessian = form.local(trial)
        new = new + cost * (trial @ row)
        better = new <= value
        x = np.where(better[..., None], trial, x)
        value = np.where(better, new, value)
        gradient = np.where(better[..., None], new_gradient, gradient)
        hessian = np.where(better[..., None, None], new_hessian, hessian)
        length = np.where(better, 1.0, length * 0.3)
    slope = np.nan_to_num(gradient, posinf=1e300, neginf=-1e300) + cost[..., None] * row
    fixed = held(x, slope, form.lower, form.upper)
    across = inverse_blocks(hessian, fixed) @ row
    return x, value, x @ row, across


def _filled(form: Separable, x: Array) -> Array:
    """Bands scaled so that they use the whole budget (also where they exceed it)."""
    used = (x @ form.row).sum(-1)
    factor = np.where(used > 0, form.budget / np.where(used > 0, used, 1.0), 1.0)
    return np.where(form.row != 0, x * factor[:, None, None], x)


def _reach(x: Array, move: Array, row: Array, lower: Array) -> Array:
    """Longest step that leaves each band coordinate its share; inf for the others."""
    room = (1.0 - SHRINK) * (x - lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where((row != 0) & (move < 0), room / -move, np.inf)
    return np.where(x > lower, reach, np.inf)


def _longest(x: Array, move: Array, row: Array, lower: Array) -> Array:
    return np.minimum(1.0, _reach(x, move, row, lower).min((-1, -2)))


def _like(mask: Array, values: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (values.ndim - 1))


def _searched(
    form: Separable, state: Iterate, gradient: Array, move: Array, length: Array, small: Array
) -> tuple[tuple[Array, Array, Array, Array], Array]:
    """Backtrack until the true objective falls; lanes that never do keep their point."""
    best = (state.x.copy(), state.value.copy(), state.gradient.copy(), state.hessian.copy())
    waiting, taken = ~state.done, np.zeros(state.done.shape, dtype=bool)
    for _ in range(40):
        trial = np.clip(state.x + length[:, None, None] * move, form.lower, form.upper)
        trial = _kept(form, trial)
        value, slopes, hessian = form.local(trial)
        total = value.sum(-1)
        fall = (gradient * (trial - state.x)).sum((-1, -2))
        limit = state.value + ARMIJO * np.minimum(fall, 0.0)
        good = waiting & (total <= np.where(small, state.value, limit))
        for kept, new in zip(best, (trial, total, slopes, hessian)):
            kept[good] = new[good]
        taken |= good
        waiting &= ~good & ~small
        if not waiting.any():
            break
        length = np.where(waiting, 0.4 * length, length)
    return best, taken


def _kept(form: Separable, x: Array) -> Array:
    """Rounding and clipping may have used more than the budget: give it back."""
    used = (x @ form.row).sum(-1)
    factor = np.where(used > form.budget, form.budget / np.where(used > 0, used, 1.0), 1.0)
    return np.where(form.row != 0, x * factor[:, None, None], x)
