"""From rows to what a user can change: data fields, before and after.

A field is a row's right-hand side if the slack moves one for one with it, everywhere where the
field is moved. Whether a change suffices is tried on the changed problem itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rralloc.errors import RRAllocError
from rralloc.explanation.parts import Row
from rralloc.explanation.rows import names_of
from rralloc.problem import Problem
from rralloc.solution import in_domain
from rralloc.typing import Array, Point
from rralloc.verify import violation

CLOSE = 1e-6
"""Scaled violation that a changed problem may have at a point found before the change."""


def with_fields(problem: Problem, rows: list[Row], x: Point) -> list[Row]:
    """The rows, each with the field that is its right-hand side, where there is one.

    Where several fields are, it is the one whose value the row is scaled by.
    """
    known: dict[tuple[str, tuple[int, ...]], list[tuple[str, int]]] = {}
    with np.errstate(all="ignore"):
        for field, moved, step in _moved(problem):
            held = problem.constraints(x)
            for name, before, after in zip(names_of(held), held, moved.constraints(x)):
                alike = before.unit == problem._data[field].unit
                if alike and np.shape(before.slack) == np.shape(after.slack):
                    rise = np.asarray(after.slack - before.slack) / step
                    for index in np.ndindex(rise.shape):
                        if abs(abs(rise[index]) - 1) < 1e-4 and _reaches(problem, field, index):
                            said = field, int(np.sign(rise[index]))
                            known.setdefault((name, index), []).append(said)
    return [_named(problem, row, known.get((row.name, row.index), [])) for row in rows]


def _named(problem: Problem, row: Row, known: list[tuple[str, int]]) -> Row:
    if not known:
        return row
    options = [replace(row, field=field, sign=sign) for field, sign in known]
    return min(options, key=lambda r: abs((value_of(problem, r) or 0.0) - row.scale))


def _moved(problem: Problem) -> Iterator[tuple[str, Problem, float]]:
    """Field, the problem with it moved a little, by how much; up where the range allows."""
    for field, _, array in problem._arrays():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            continue
        size = 1e-2 * float(np.abs(array).max(initial=0.0)) or 1e-2
        for step in (size, -size):
            changed = changed_to(problem, field, array + step)
            if changed is not None:
                yield field, changed, step
                break


def changed_to(problem: Problem, field: str, value: Array | float) -> Problem | None:
    """The problem with one field changed; None where that is outside its range."""
    try:
        return problem.replace(**{field: value})
    except RRAllocError:
        return None


def _reaches(problem: Problem, field: str, index: tuple[int, ...]) -> bool:
    """The row's index is one of the field."""
    axes = len(problem._data[field].axes)
    return axes in (0, len(index))


def value_of(problem: Problem, row: Row) -> float | None:
    """The field's value at the row; None where no field is known."""
    if row.field is None:
        return None
    full = _full(problem, row.field)
    return float(full[row.index if full.ndim else ()])


def _full(problem: Problem, field: str) -> Array:
    axes = problem._data[field].axes
    shape = tuple(problem.sizes[a] for a in axes)
    return np.array(np.broadcast_to(getattr(problem, field), shape))


def suffices(problem: Problem, changes: dict[Row, float], x: Point) -> bool:
    """With these values of the rows' fields, x is feasible.

    They go a millionth further, as far as their range lets them: some ranges are open there.
    """
    fields: dict[str, Array] = {}
    for row, value in changes.items():
        if row.field is None:
            return False
        full = fields.setdefault(row.field, _full(problem, row.field))
        index, info = row.index if full.ndim else (), problem._data[row.field]
        further = value + 1e-6 * (value - full[index])
        full[index] = np.clip(further, info.low, info.high)
    try:
        return feasible(problem.replace(**fields), x, CLOSE)
    except RRAllocError:  # outside a field's range
        return False


def feasible(problem: Problem, x: Point, tol: float) -> bool:
    """x meets every constraint and lies in the objective's domain."""
    with np.errstate(all="ignore"):
        full = problem.complete(x)
        if not bool(violation(problem, full) <= tol):
            return False
        return bool(in_domain(problem.objective(full), problem.sense))
