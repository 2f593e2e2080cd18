"""How an ``Explanation`` reads: who, what, from what to what, in radio words and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rralloc.explanation.conflicts import device_axis
from rralloc.explanation.fields import value_of
from rralloc.explanation.parts import Row
from rralloc.problem import Problem

if TYPE_CHECKING:
    from rralloc.explanation import Explanation
    from rralloc.explanation.parts import Change

LISTED = 8
"""Devices that are listed by number."""
SHOWN = 3
"""Changes that the text lists; the tuples hold all of them."""


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """``1.84 W``."""
    return f"{value:.{digits}g}" + ("" if unit == "1" else f" {unit}")


def digits_of(before: float, after: float) -> int:
    """So many, at least 4, that the two as shown differ by what they do, to a twentieth."""
    step = after - before
    for digits in range(4, 17):
        shown = float(f"{after:.{digits}g}") - float(f"{before:.{digits}g}")
        if abs(shown - step) <= 0.05 * abs(step):
            return digits
    return 17


def words(problem: Problem, row: Row) -> str:
    """The row's name for people: a bound is called what its field is."""
    bound = f"{row.name}".split(" ")
    if row.field and len(bound) == 3 and bound[1] in (">=", "<="):
        return problem._data[row.field].doc or row.name
    return row.name


def who(problem: Problem, indices: Sequence[int]) -> str:
    """``device 3``, ``devices 2, 5``; another axis than that of devices keeps its letter."""
    axis = device_axis(problem)
    word = "device" if axis in ("K", "N") else f"{axis}"
    if len(indices) > 3 and len(indices) == problem.sizes[axis or ""]:
        return f"all {len(indices)} {word}s"
    shown = ", ".join(map(str, indices[:LISTED]))
    more = f" and {len(indices) - LISTED} more" if len(indices) > LISTED else ""
    return f"{word}{'s' if len(indices) > 1 and word == 'device' else ''} {shown}{more}"


def place(problem: Problem, where: Sequence[tuple[int, ...]]) -> str:
    """Where rows are; empty for a budget."""
    if all(len(i) == 1 for i in where):
        return f"of {who(problem, sorted(i[0] for i in where))}"
    return "at " + ", ".join(str(list(i)) for i in where) if any(where) else ""


def listed(problem: Problem, rows: Sequence[Row]) -> str:
    """Rows by name: ``minimum rate of devices 2, 5 (3 bit/s/Hz)``, ``total power (1 W)``."""
    families: dict[str, list[Row]] = {}
    for row in dict.fromkeys(rows):
        families.setdefault(row.name, []).append(row)
    parts = []
    numbers = [v for row in rows if (v := value_of(problem, row)) is not None]
    digits = _apart(numbers)
    for family in families.values():
        where = place(problem, [r.index for r in family])
        known = [v for r in family if (v := value_of(problem, r)) is not None]
        values = list(dict.fromkeys(quantity(v, family[0].unit, digits) for v in known))
        told = f"({', '.join(values[:3])}{', ...' if len(values) > 3 else ''})" if values else ""
        parts.append(" ".join(p for p in (words(problem, family[0]), where, told) if p))
    return " and ".join(parts)


def _apart(values: Sequence[float]) -> int:
    """So many digits, at least 4, that values that differ look it; rounding does not count."""
    told = [len({f"{v:.{digits}g}" for v in values}) for digits in range(4, 13)]
    return 4 + told.index(told[-1])


def change(problem: Problem, one: Change) -> str:
    """``total power 1 -> 1.84 W (+0.84 W)``; a change that cannot help says so."""
    name = " ".join(p for p in (one.words, place(problem, one.where)) if p)
    if np.isnan(one.amount):
        return f"{name} is not a finite number there"
    if np.isinf(one.amount):
        return f"no change of {name} suffices"
    if one.factor is not None:
        return f"{name} x {one.factor:.{digits_of(1.0, one.factor)}g}"
    if one.before is None or one.after is None or one.before == one.after:
        return f"{name} relaxed by {quantity(one.amount, one.unit)}"
    moved = f"{one.after - one.before:+.4g}" + ("" if one.unit == "1" else f" {one.unit}")
    digits = digits_of(one.before, one.after)
    return f"{name} {one.before:.{digits}g} -> {quantity(one.after, one.unit, digits)} ({moved})"


def describe(why: Explanation) -> str:
    """The whole in a few lines."""
    if why.instances:
        return "\n".join(f"instance {list(i)}: {e}" for i, e in why.instances.items())
    if why.feasible:
        return f"feasible: {why.evidence}"
    if why.feasible is None:
        return f"undecided: {why.evidence}" + (f"\n{why.reason}" if why.reason else "")
    head = f"infeasible ({'proven' if why.proven else 'not proven'}: {why.evidence})"
    lines = [f"{head}: {why.reason}" if why.reason else head]
    for rows in why.conflicts:
        verb = "cannot be met" + (" together" if len(rows) > 1 else "")
        lines.append(f"{listed(why.problem, rows)} {verb}.")
    helping = [c for c in why.alternatives if np.isfinite(c.amount)]
    if helping:
        few = len(why.conflicts) < 2 or why.point is None  # a factor on a field mends them all
        alone, joint = ([c for c in helping if (len(c.where) > 1) == b] for b in (False, True))
        shown = (*alone[: SHOWN if few else None], *joint)
        head = "Smallest single change" if few else "For each conflict one of"
        lines.append(f"{head}: {'; or '.join(change(why.problem, c) for c in shown)}.")
    total = [c for c in why.relaxations if not np.isnan(c.amount)]
    if total and (len(why.conflicts) > 1 or not helping):
        told = "; and ".join(change(why.problem, c) for c in total)
        lines.append(f"Smallest total change: {told}.")
    lines += [f"{change(why.problem, c)}." for c in why.relaxations if np.isnan(c.amount)]
    if why.innocent:
        lines.append(f"Not involved: {who(why.problem, why.innocent)}.")
    return "\n".join(lines)
