"""What would help: each guilty row alone, a whole family, the least total, a field's factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rralloc.explanation.conflicts import Conflict, hopeless
from rralloc.explanation.fields import changed_to, feasible, suffices, value_of
from rralloc.explanation.parts import Change, Row
from rralloc.explanation.search import MET, SURE, Found, Search
from rralloc.explanation.text import words
from rralloc.problem import Problem
from rralloc.typing import Array

FAR = 1e9
"""Largest factor on a field that is tried."""


def single_changes(
    search: Search, rows: list[Row], sets: list[Conflict], starts: Sequence[Array]
) -> tuple[tuple[Change, ...], Array]:
    """For each row of each conflict what it alone must give; and the rows that matter to it.

    Only rows of a conflict can help: a conflict that remains makes every other change vain. Then
    the same for all rows of one name together that conflict or matter.
    """
    every, matter = np.arange(len(rows)), np.concatenate([s.rows for s in sets])
    alone: list[tuple[float, Change]] = []
    joint: list[tuple[float, Change]] = []
    for one in sets:
        aside = np.concatenate([s.rows for s in sets if s is not one] or [every[:0]])
        others = np.setdiff1d(every, aside)
        for easy in _same(rows, one.rows, by_index=True):
            first = [one.without[int(i)] for i in easy if int(i) in one.without]
            end = _given(search, rows, easy, np.setdiff1d(others, easy), [*first, *starts])
            if search.late:  # cut short: it is not the least change
                break
            alone.append(_told(search, rows, easy, end, len(sets) == 1))
            if end is not None:
                price = _prices(search, int(easy[0]), np.setdiff1d(others, easy), end.z)
                matter = np.append(matter, np.flatnonzero(price > 1e-6))
        near = np.intersect1d(others, np.unique(matter)) if len(sets) == 1 else one.rows
        for easy in _same(rows, near, by_index=False):
            if len({rows[i].index for i in easy}) > 1 and np.isin(easy, one.rows).any():
                first = [one.without[int(i)] for i in easy if int(i) in one.without]
                end = _given(search, rows, easy, np.setdiff1d(others, easy), [*first, *starts])
                if end is not None and not search.late:
                    joint.append(_told(search, rows, easy, end, len(sets) == 1))
    ranked = [*sorted(alone, key=lambda c: c[0]), *sorted(joint, key=lambda c: c[0])]
    return tuple(change for _, change in ranked), np.unique(matter)


def _same(rows: list[Row], among: Array, by_index: bool) -> list[Array]:
    """Rows of one name together; ``by_index``: only those at one place, an equality's two sides."""
    groups: dict[object, list[int]] = {}
    for i in among:
        groups.setdefault((rows[i].name, rows[i].index if by_index else ()), []).append(int(i))
    return [np.array(group) for group in groups.values()]


def _given(
    search: Search, rows: list[Row], easy: Array, others: Array, starts: Sequence[Array]
) -> Found | None:
    """Least relaxation of the easy rows with the others met; None where these cannot be."""
    weight = _weights(search, rows, easy)
    if (end := search.program(easy, weight, others, starts[0])) is not None:
        return end
    begin = search.least(others, starts)
    return search.ease(easy, weight, others, begin.z) if begin.worst <= MET else None


def _prices(search: Search, row: int, others: Array, z: Array) -> Array:
    """What relaxing each other row by one would spare this one at its ``ease`` end ``(m,)``."""
    from scipy.optimize import nnls

    slack, slope = search.rows.slack(z), search.rows.jacobian(z)
    active = others[slack[others] <= SURE]
    unit = np.eye(z.size)
    edges = [unit[z - search.rows.low <= SURE], -unit[search.rows.high - z <= SURE]]
    found, columns = np.zeros(slack.size), np.vstack([slope[active], *edges])
    if not active.size:  # scipy's nnls breaks on no columns
        return found
    try:
        price, _ = nnls(columns.T, -slope[row])
    except RuntimeError:  # gave up: nothing is known
        return found
    found[active] = price[: active.size]
    return found


def _weights(search: Search, rows: list[Row], easy: Array) -> Array:
    """One row: its slack as it is. Several: in proportion to their right-hand sides."""
    values = [value_of(search.rows.problem, rows[i]) for i in easy]
    if easy.size > 1 and all(values):
        return np.abs(np.array(values, dtype=float)) / search.rows.size[easy]
    return np.ones(easy.size)


def _told(
    search: Search, rows: list[Row], easy: Array, end: Found | None, alone: bool
) -> tuple[float, Change]:
    """The change, and its size relative to what is changed."""
    problem, row = search.rows.problem, rows[easy[0]]
    label, where = words(problem, row), tuple(dict.fromkeys(rows[i].index for i in easy))
    if end is None or end.worst > FAR:
        return np.inf, Change(row.name, where, row.unit, np.inf, label, row.field)
    point = search.rows.unflatten(end.z)
    values = {rows[i]: value_of(problem, rows[i]) for i in easy}
    known = {r: v for r, v in values.items() if v}
    if len(where) > 1:
        if len(known) < len(values):
            return end.worst, Change(row.name, where, "1", end.worst, label, row.field, point=point)
        factor = 1 + row.sign * end.worst
        enough = alone and suffices(problem, {r: v * factor for r, v in known.items()}, point)
        return end.worst, Change(
            row.name, where, "1", end.worst, label, row.field, factor=factor,
            suffices=enough, point=point,
        )  # fmt: skip
    amount, before = end.worst * row.scale, values[row]
    after = _moved(problem, row, before, amount)
    enough = alone and after is not None and suffices(problem, {row: after}, point)
    return amount / abs(before) if before else end.worst, Change(
        row.name, where, row.unit, amount, label, row.field, before, after,
        suffices=enough, point=point,
    )  # fmt: skip


def _moved(problem: Problem, row: Row, before: float | None, amount: float) -> float | None:
    """The field's value that relaxes the row by this much, kept in the field's range."""
    if before is None or row.field is None:
        return None
    info = problem._data[row.field]
    after = float(np.clip(before + row.sign * amount, info.low, info.high))
    return 0.0 if abs(after) <= 1e-9 * abs(before) else after


def relaxed(
    search: Search, rows: list[Row], z: Array, known: Sequence[Change]
) -> tuple[Change, ...]:
    """The rows that give way, and how far, where the sum of scaled violations is least.

    Rows that are no numbers at z are left out of the sum: they would drown all others.
    """
    kept = np.flatnonzero(search.rows.numbers(z))
    ends = [search.rows.flatten(c.point) for c in known if c.point is not None]
    total = [float(np.maximum(-search.rows.slack(e)[kept], 0.0).sum()) for e in (z, *ends)]
    best = search.least_total(kept, (z, *ends)[int(np.argmin(total))])
    if search.late:  # cut short: it is not the least
        return ()
    numbers = search.rows.numbers(best)
    slack = search.rows.slack(best)
    out: dict[tuple[str, tuple[int, ...]], Change] = {}
    point = search.rows.unflatten(best)
    problem = search.rows.problem
    for i in np.flatnonzero(slack < -SURE):
        row, amount = rows[i], float(-slack[i] * rows[i].scale)
        before = value_of(problem, row)
        after = _moved(problem, row, before, amount)
        if not numbers[i]:
            amount, after = np.nan, None
        out[row.name, row.index] = Change(
            row.name, (row.index,), row.unit, amount, words(problem, row), row.field, before, after,
            point=point,
        )  # fmt: skip
    return tuple(sorted(out.values(), key=lambda c: (c.name, c.where)))


def field_factors(problem: Problem) -> tuple[Change, ...]:
    """For each field the factor nearest 1 with which ``infeasible()`` no longer holds."""
    found = []
    for name, info, array in problem._arrays():
        if array.dtype.kind != "f" or not np.isfinite(array).all() or not array.any():
            continue
        for end in (FAR, 1 / FAR):
            factor = _turning(problem, name, array, end)
            if factor is not None:
                found.append((abs(np.log(factor)), name, info.doc or name, factor))
    return tuple(
        _by_factor(problem, name, label, factor) for _, name, label, factor in sorted(found)
    )


def _by_factor(problem: Problem, name: str, label: str, factor: float) -> Change:
    info, array = problem._data[name], getattr(problem, name)
    where = tuple(np.ndindex(*(problem.sizes[a] for a in info.axes)))
    enough = _helps(problem, name, array * factor)
    if info.axes:
        share = abs(factor - 1)
        return Change(label, where, "1", share, label, name, factor=factor, suffices=enough)
    before = float(array)
    amount = abs(factor - 1) * abs(before)
    return Change(
        label, where, info.unit, amount, label, name, before, before * factor, suffices=enough
    )


def _turning(problem: Problem, name: str, array: Array, end: float) -> float | None:
    def stuck(factor: float) -> bool:
        changed = changed_to(problem, name, array * factor)
        return changed is None or hopeless(changed)

    near, far = 0.0, float(np.log(end))
    if stuck(end):
        return None
    while abs(far - near) > 1e-9 * max(1.0, abs(far)):
        middle = (near + far) / 2
        near, far = (middle, far) if stuck(float(np.exp(middle))) else (near, middle)
    return float(np.exp(far))


def _helps(problem: Problem, name: str, value: Array) -> bool:
    changed = changed_to(problem, name, value)
    rules = [] if changed is None else [*changed.points().values(), changed.initial]
    return changed is not None and any(feasible(changed, dict(r()), 1e-6) for r in rules)
