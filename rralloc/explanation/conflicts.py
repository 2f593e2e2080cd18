"""Who is to blame: irreducible conflicts by the deletion filter, and what proves them.

Source: deletion filter, Chinneck and Dravnieks, ORSA J. Computing 3 (1991); the order of deletion
and the proof by tangents are derived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rralloc.errors import RRAllocError
from rralloc.explanation.rows import Rows
from rralloc.explanation.search import MET, SURE, Found, Search
from rralloc.problem import Problem
from rralloc.typing import Array

MOST = 50
"""Conflicts that are looked for."""


@dataclass(frozen=True, eq=False)
class Conflict:
    """Rows that cannot be met together, though all but any one of them can."""

    rows: Array
    without: dict[int, Array]
    """Row -> a point that meets the others of the conflict."""


def starts_of(rows: Rows, rng: np.random.Generator, middle: Array, count: int) -> Iterator[Array]:
    """The problem's baselines, its start, the middle of the box, random points."""
    problem = rows.problem
    rules: list[Callable[[], object]] = [*problem.points().values(), problem.initial]
    for rule in rules:
        yield rows.flatten(rule())  # type: ignore[arg-type]  # rules give points
    yield middle
    for _ in range(count):
        yield rows.flatten(problem.sample(rng))


def least_of_all(
    search: Search, starts: Iterator[Array], known: str, rng: np.random.Generator
) -> tuple[Found, list[Array], str]:
    """The least worst violation, the starts tried, what proves that it is not zero."""
    every = np.arange(len(search.rows.rows))
    tried: list[Array] = []
    best: Found | None = None
    for start in starts:
        found = search.least(every, [start])
        tried.append(start)
        if best is None or found.worst < best.worst:
            best = found
            if not known and best.worst > SURE:
                known = proof(search, every, best.z, rng)
        if best.worst <= MET or search.late or known:
            break
    assert best is not None
    return best, tried, known


def conflicts(search: Search, found: Found, others: Sequence[Array]) -> list[Conflict]:
    """Disjoint irreducible conflicts, until what is left can be met."""
    left = np.arange(len(search.rows.rows))
    out: list[Conflict] = []
    while found.worst > SURE and left.size and len(out) < MOST:
        if out and search.late:  # cut short: that the rest is violated says nothing
            break
        out.append(irreducible(search, _core(search, left, found), found))
        left = np.setdiff1d(left, out[-1].rows)
        found = search.least(left, [found.z, *others])
    return out


def _core(search: Search, left: Array, found: Found) -> Array:
    """Few rows that contradict each other, dearest last: those with a price at the least point."""
    reach = None if search.linear else 1e-3 * (1e-3 + np.abs(found.z))
    *_, price = search.tangents(left, found.z, reach=reach)
    order = np.argsort(price, kind="stable")
    core = left[order][price[order] > 1e-6]
    if core.size and _stay(search, core, found):
        return core
    lack = -search.rows.slack(found.z)[left]
    near = left[np.argsort(lack, kind="stable")][np.sort(lack) >= (1 - 1e-3) * found.worst]
    if _stay(search, near, found):
        return near
    return left[np.argsort(lack, kind="stable")]


def _stay(search: Search, rows: Array, found: Found) -> bool:
    """The rows contradict each other, by a search that was not cut short."""
    return search.least(rows, search.from_near(found.z)).worst > SURE and not search.late


def irreducible(search: Search, core: Array, found: Found) -> Conflict:
    """The deletion filter: a row without which the rest still contradicts itself goes."""
    kept, without = core, {}
    for row in core:
        rest = kept[kept != row]
        if search.late:
            break
        here = search.least(rest, search.from_near(found.z))
        if here.worst > SURE:
            kept = kept if search.late else rest
        else:
            without[int(row)] = here.z
    return Conflict(np.sort(kept), without)


def proof(search: Search, rows: Array, z: Array, rng: np.random.Generator) -> str:
    """Why no point at all meets the rows; empty where that is not certain.

    Tangents of linear or concave slacks lie above them: what misses the tangents misses the rows.
    """
    if search.late:
        return ""
    if not (search.convex or linear(search, rows, rng)):
        return ""
    *_, price = search.tangents(rows, z)
    kind = "concave" if search.convex and not search.linear else "linear"
    told = f"prices that no point beats: the constraints are {kind}"
    return told if _certified(search.rows, rows, z, price) > SURE else ""


def _certified(rows: Rows, kept: Array, z: Array, price: Array) -> float:
    """What the prices prove: the least of the priced tangents over the box, without any solver.

    max_i viol_i >= sum_i price_i viol_i for prices >= 0 with sum 1; slopes that cancel to
    rounding count as none.
    """
    price = np.maximum(price, 0.0)
    if not price.sum() > 0:
        return -np.inf
    price = price / price.sum()
    if not rows.numbers(z)[kept[price > 0]].all():
        return -np.inf  # no number here says nothing about elsewhere
    slope = rows.jacobian(z)[kept] * price[:, None]
    total, size = slope.sum(0), np.abs(slope).sum(0)
    total = np.where(np.abs(total) <= 1e-12 * size, 0.0, total)
    with np.errstate(invalid="ignore"):
        gain = np.where(total > 0, total * (rows.high - z), total * (rows.low - z))
    return float(-price @ rows.slack(z)[kept] - np.where(total == 0, 0.0, gain).sum())


def linear(search: Search, kept: Array, rng: np.random.Generator) -> bool:
    """The rows equal their tangents at random points of all sizes, to rounding.

    An analytic function that does so is linear with probability one.
    """
    rows = search.rows
    if not (rows.analytic or all(rows.rows[i].sign for i in kept)):
        return False
    z, low, high = search.middle, rows.low, rows.high
    slack, slope = rows.slack(z)[kept], rows.jacobian(z)[kept]
    for size in (0.5, 1.0, 1e3, 1e9):
        far = z + size * rng.standard_normal(z.size)
        far = np.clip(far, low, high)
        with np.errstate(all="ignore"):
            told, guess = rows.slack(far)[kept], slack + slope @ (far - z)
        reach = 1.0 + np.abs(slack) + np.abs(slope) @ np.abs(far - z)
        if not rows.numbers(far)[kept].all() or (np.abs(told - guess) > 1e-9 * reach).any():
            return False
    return True


# -- problems that prove it themselves --------------------------------------------------------


def device_axis(problem: Problem) -> str | None:
    """The axis whose members are blamed."""
    named = [a for a in ("K", "N", *problem.sizes) if problem.sizes.get(a, 0) >= 1]
    return named[0] if named else None


def hopeless(problem: Problem) -> bool:
    """The problem itself proves that it has no feasible point."""
    return bool(np.all(problem.infeasible()))


def stuck(problem: Problem, devices: list[int]) -> bool:
    """The problem proves that these devices cannot be served even by themselves."""
    try:
        axis = device_axis(problem)
        return bool(axis and devices) and hopeless(problem.select(**{str(axis): devices}))
    except RRAllocError:
        return False


def blamed_by_problem(problem: Problem) -> list[list[int]]:
    """Disjoint least sets of devices that by ``infeasible()`` cannot be served by themselves."""
    everybody = range(problem.sizes.get(device_axis(problem) or "", 0))
    out = [[k] for k in everybody if stuck(problem, [k])]
    left = [k for k in everybody if [k] not in out]
    while stuck(problem, left):
        core = left
        for k in left:
            rest = [j for j in core if j != k]
            core = rest if stuck(problem, rest) else core
        out.append(core)
        left = [k for k in left if k not in core]
    return out
