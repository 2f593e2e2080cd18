"""Separable Lagrangian dual with switching, then a joint Newton polish: the non-convex default.

    L(price) = sum_k min_x [ J_k(x) + price * band(x) ] - price * budget

Each device has a few local minima (off, one packet, two); at the best price most devices have a
clear favourite. Which of the others to switch, so that the budget is met at least cost, is decided
on a quadratic model of every branch in the price; the best combinations are polished by Newton.
The price is the witness. Source: spec spfl.md §3.3(b) with corrections 3 and 6; the model of the
branches and the choice among combinations derived.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rralloc.errors import NotOffered
from rralloc.forms import Separable
from rralloc.problem import Problem
from rralloc.run import Run
from rralloc.solver import Solver
from rralloc.solvers._descent import HUGE, descend, settle
from rralloc.typing import Array, Point

SWITCHES = 10
"""Switches to another branch that are considered, in all subsets."""
CHUNK = 64
"""Lanes at a time, so that the menus stay in cache."""


class Branches(NamedTuple):
    """Local minima ``(S, K, J, ...)`` at a price: x, J + price band, band, d(x)/d(price)."""

    x: Array
    value: Array
    band: Array
    shift: Array
    pull: Array
    """-d(band)/d(price) >= 0."""


class Dual(Solver):
    """Near the global optimum of a separable non-convex problem; with its price, often proven.

    ``polished``: combinations of branches that get a few Newton steps in each round; ``finished``:
    the best of them that are brought to convergence. ``rounds``: how often at most branches are
    looked for anew, at the price of the polished point. ``tol``: relative Newton decrement.

    Choose this when a sum over devices with one shared budget is not convex. The gap to the bound
    is at most the largest non-convexity of one device (Shapley-Folkman): O(1/K) relative.
    """

    name = "dual"
    rank = 30
    needs = (Separable,)
    warm = True
    certifies = True

    polished: int = 6
    finished: int = 2
    rounds: int = 5
    tol: float = 1e-10

    def applies(self, problem: Problem) -> None:
        """The form names branches to start from."""
        if problem.view(Separable).branches is None:
            raise NotOffered(f"{type(problem).__name__}: its separable form names no branches")

    def solve(self, problem: Any, start: Point | None, run: Run) -> None:
        """Chunks of lanes one after the other."""
        for first in range(0, problem.size, CHUNK):
            lanes = np.arange(first, min(first + CHUNK, problem.size))
            self._solve(problem[lanes], start, lanes, run)
            run.check()

    def _solve(self, problem: Any, start: Point | None, lanes: Array, run: Run) -> None:
        form = problem.view(Separable)
        price = staircase_price(form)
        # 1. The branches' models give a better price, and that price better branches.
        for steps in (3, 4, 5):
            found = refined(form, price, steps)
            price = balanced_price(form, found, price)
        run.prove({"price": np.maximum(price, 0.0)}, lanes)
        found = refined(form, price)
        # 2. Polish the best combinations; look for branches anew at their price while that helps.
        best, going = np.full(lanes.size, HUGE), np.arange(lanes.size)
        for n in range(self.rounds):
            part = problem[going] if going.size < lanes.size else problem
            if n:
                found = refined(part.view(Separable), price[going])
            choice, drift = combinations(part.view(Separable), found, price[going], self.polished)
            value, new = self._polish(part, found, choice, drift, lanes[going], run)
            price[going] = new
            run.iterations[lanes[going]] += 1
            value = np.where(np.isfinite(value), value, HUGE)
            better = value < best[going] - 1e-9 * np.abs(value)
            best[going] = np.minimum(best[going], value)
            going = going[better]
            if not going.size:
                break
        if form.convex.any():  # there the polished price is the dual optimum
            run.prove({"price": price[form.convex]}, lanes[form.convex])
        if start is not None:
            x = form.coordinates({n: v[lanes] for n, v in start.items()})
            run.offer(form.point(descend(problem, x, self.tol).x), lanes=lanes, trace=True)

    def _polish(
        self, problem: Any, found: Branches, choice: Array, drift: Array, lanes: Array, run: Run
    ) -> tuple[Array, Array]:
        """Newton on every chosen combination; offers the best; returns objective and price."""
        count = choice.shape[1]
        each = np.repeat(np.arange(lanes.size), count)
        pick = choice.reshape(-1, choice.shape[-1])  # (S T, K)
        rows = each[:, None], np.arange(pick.shape[1]), pick
        x = found.x[rows] + drift.reshape(-1)[:, None, None] * found.shift[rows]
        # A few steps tell which combinations are worth the rest.
        short = descend(problem[each], x, self.tol, steps=4)
        value = np.where(np.isnan(short.value), np.inf, short.value).reshape(-1, count)
        near = np.argsort(value, axis=1)[:, : self.finished]
        chosen = (np.arange(lanes.size)[:, None] * count + near).reshape(-1)
        done = descend(problem[each[chosen]], short.x[chosen], self.tol)
        ends = np.where(np.isnan(done.value), np.inf, done.value).reshape(near.shape)
        best = np.arange(lanes.size) * near.shape[1] + np.argmin(ends, axis=1)
        reached: Array = ends.min(axis=1)
        run.offer(problem.view(Separable).point(done.x[best]), lanes=lanes, trace=True)
        lost = np.flatnonzero(np.isinf(reached))
        if lost.size:  # so starved that no menu is long enough
            self._from_baselines(problem[lost], lanes[lost], run)
        return reached, np.maximum(done.price[best], 0.0)

    def _from_baselines(self, problem: Any, lanes: Array, run: Run) -> None:
        """Descend from every rule of thumb; the frame keeps the best."""
        form = problem.view(Separable)
        for rule in problem.points().values():
            done = descend(problem, form.coordinates(rule()), self.tol)
            run.offer(form.point(done.x), lanes=lanes, trace=True)


def staircase_price(form: Separable, steps: int = 18) -> Array:
    """The price at which the menus' best entries use the budget, by bisection of its logarithm."""
    _, cost = form.branches(np.zeros(form.budget.shape))  # type: ignore[misc]  # `applies` asked
    size = np.abs(np.where(np.isfinite(cost), cost, 0.0)).max(axis=2).sum(axis=1) / form.budget
    middle = np.log(np.maximum(size, 1e-300))
    low, high = middle - 20.0, middle + 20.0
    for _ in range(steps):
        price = 0.5 * (low + high)
        more = _used(form, np.exp(price)) > form.budget
        low, high = np.where(more, price, low), np.where(more, high, price)
    return np.exp(0.5 * (low + high))


def _used(form: Separable, price: Array) -> Array:
    x, cost = form.branches(price)  # type: ignore[misc]  # `applies` has seen that there are branches
    band = np.take_along_axis(x @ form.row, np.argmin(cost, axis=2)[..., None], axis=2)
    return band[..., 0].sum(-1)


@np.errstate(all="ignore")  # branches that do not exist cost infinity
def refined(form: Separable, price: Array, steps: int = 6) -> Branches:
    """Every branch brought to its own local minimum at the price."""
    x, cost = form.branches(price)  # type: ignore[misc]  # as above
    parts = []
    for j in range(x.shape[2]):
        at, value, band, across = settle(form, x[:, :, j], price, steps)
        value = np.where(np.isinf(cost[:, :, j]) | np.isnan(value), np.inf, value)
        # A branch that has faded into another (no band, no curvature) does not answer the price.
        answers = (band > 1e-9)[..., None] & (price[:, None, None] * np.abs(across) < 1e3)
        across = np.where(answers, across, 0.0)
        parts.append((at, value, band, -across, across @ form.row))
    return Branches(*(np.stack(v, axis=2) for v in zip(*parts)))


@np.errstate(all="ignore")  # branches that do not exist cost infinity
def balanced_price(form: Separable, found: Branches, price: Array, steps: int = 30) -> Array:
    """The price near ``price`` that maximises the branches' quadratic models of L."""
    low, high = -0.3 * price, 0.3 * price
    for _ in range(steps):
        move = 0.5 * (low + high)
        value, band = _modelled(found, move)
        best = np.argmin(value, axis=2)[..., None]
        more = np.take_along_axis(band, best, 2)[..., 0].sum(-1) > form.budget
        low, high = np.where(more, move, low), np.where(more, high, move)
    return price + 0.5 * (low + high)


def _modelled(found: Branches, move: Array) -> tuple[Array, Array]:
    """Value and band of every branch when the price moves: v + b d - h d^2/2, b - h d."""
    d = move[:, None, None]
    band = np.maximum(found.band - found.pull * d, 0.0)
    return found.value + found.band * d - 0.5 * found.pull * d * d, band


@np.errstate(all="ignore")  # branches that do not exist cost infinity
def combinations(form: Separable, found: Branches, price: Array, count: int) -> tuple[Array, Array]:
    """The ``count`` most promising choices of a branch for each device, ``(S, T, K)``.

    Also how far the price must move in each to meet the budget, ``(S, T)``. By the devices' models
    the cost of a choice is sum v + (sum b - budget)^2 / (2 sum h).
    """
    lanes, devices, kinds = found.value.shape
    first = np.argmin(found.value, axis=2)
    # 1. Every other branch of a device that is really another: with a different band.
    regret = _others(found, first)
    size = min(SWITCHES, devices * (kinds - 1))
    doubtful = np.argsort(regret.reshape(lanes, -1), axis=1)[:, :size]
    device, kind = doubtful // kinds, doubtful % kinds
    # 2. All subsets of the least costly switches; two of one device exclude each other.
    bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1  # (2^A, A)
    clash = np.triu(device[:, :, None] == device[:, None, :], 1)
    twice = np.einsum("ca,sab,cb->sc", bits, clash.astype(float), bits)

    def changed(values: Array) -> Array:
        """Sum over devices in every subset ``(S, 2^A)``."""
        old = np.take_along_axis(values, first[..., None], 2)
        rise = np.take_along_axis((values - old).reshape(lanes, -1), doubtful, 1)
        rise = np.where(np.isfinite(rise), rise, 1e30)
        return old.sum((1, 2))[:, None] + rise @ bits.T

    known = np.isfinite(np.take_along_axis(regret.reshape(lanes, -1), doubtful, 1))
    value, excess, pull = (
        changed(found.value) + np.where(twice > 0, 1e30, 0.0) + 1e30 * (~known @ bits.T),
        changed(found.band) - form.budget[:, None],
        np.maximum(changed(found.pull), 1e-9 / np.maximum(price, 1e-290)[:, None]),
    )
    drift = np.maximum(excess / pull, -price[:, None])
    cost = value + excess * drift - 0.5 * pull * drift**2
    # 3. The best few.
    count = min(count, cost.shape[1])
    best = np.argpartition(cost, count - 1, axis=1)[:, :count]
    choice = np.repeat(first[:, None], count, axis=1)
    lane, row = np.arange(lanes)[:, None], np.arange(count)[None, :]
    for a in range(size):  # only where the bit is set, so that no switch undoes another
        on = bits[best][..., a] == 1
        where = np.broadcast_to(device[:, a, None], on.shape)
        old = choice[lane, row, where]
        choice[lane, row, where] = np.where(on, kind[:, a, None], old)
    return choice, np.take_along_axis(drift, best, axis=1)


def _others(found: Branches, first: Array) -> Array:
    """What each branch costs more than the first ``(S, K, J)``; inf for copies of a better one.

    Two branches are one if their bands differ by less than a twentieth of an equal share.
    """
    devices, kinds = found.value.shape[1:]
    near = np.abs(found.band[..., :, None] - found.band[..., None, :]) <= 0.05 / devices
    rank = np.argsort(np.argsort(found.value, axis=2), axis=2)
    copied = (near & (rank[..., None, :] < rank[..., :, None])).any(-1)
    least = np.take_along_axis(found.value, first[..., None], 2)
    return np.where(copied | (np.arange(kinds) == first[..., None]), np.inf, found.value - least)
