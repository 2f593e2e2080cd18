"""What an ``Explanation`` is made of: rows to blame, changes that help."""

from __future__ import annotations

from dataclasses import dataclass

from rralloc.typing import Point


@dataclass(frozen=True)
class Row:
    """One condition: its constraint's name, where, its unit, what its violation is divided by."""

    name: str
    index: tuple[int, ...]
    unit: str
    scale: float
    field: str | None = None
    """The data field that a bound is; for constraints see ``fields``."""
    sign: int = 0
    """+1 where raising the field relaxes the row, -1 where lowering it does."""


@dataclass(frozen=True, eq=False)
class Change:
    """How far one row, or several of one name together, must give way.

    ``where``: their indices, ``((),)`` for a budget. ``amount >= 0`` in ``unit``; inf where this
    alone never helps, nan where the row is no finite number at the point. ``before`` and ``after``
    are of ``field``, the data field that is the row's right-hand side, where there is one.
    ``factor``: the values of several rows times this. ``suffices``: with a millionth more of it
    ``point`` is feasible; tried on the changed problem.
    """

    name: str
    where: tuple[tuple[int, ...], ...]
    unit: str
    amount: float
    words: str = ""
    field: str | None = None
    before: float | None = None
    after: float | None = None
    factor: float | None = None
    suffices: bool = False
    point: Point | None = None
