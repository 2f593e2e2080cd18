"""How the command line puts things into words: lists of names, problems, allocations, tables."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import rralloc as rr
from rralloc.errors import RRAllocError
from rralloc.fields import Variable
from rralloc.typing import Array

ROWS = 20
"""How much of an allocation is printed; a result file has all of it."""
INSTANCES = 3


def index(title: str, things: dict[str, Any]) -> None:
    """A list of names, each with what it claims about itself."""
    print(f"{title}:")
    columns([(name, _claim(thing)) for name, thing in things.items()] or [("none", "")], "  ")


def _claim(thing: Any) -> str:
    """The first line of a docstring; empty where a dataclass has written its signature there."""
    text = (thing.__doc__ or "").strip().split("\n")[0]
    return "" if text.startswith(f"{getattr(thing, '__name__', '')}(") else text


def describe(cls: type[rr.Problem]) -> None:
    """What a problem asks for, what it decides, and who can solve it."""
    print(f"{cls.__name__}: {_claim(cls)}\nobjective: {cls.sense} [{cls.unit}]")
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a dataclass by its base
    fields = cls._data.items()
    _table("data", ((n, _axes(i.axes), i.range, _default(defaults[n]), i.doc) for n, i in fields))
    options = cls._options.items()
    _table(
        "options",
        ((i.alias or n, _choices(i.choices), _default(defaults[n]), i.doc) for n, i in options),
    )
    _table("variables", ((v.name, _axes(v.axes), _bounds(v), v.doc) for v in cls.variables))
    try:
        example = cls.random(K=5, rng=0)
    except (RRAllocError, TypeError) as why:
        print(f"solvers: depends on the instance (no random example: {why})")
        return
    print(f"solvers for {cls.__name__}.random(K=5, rng=0):\n{rr.solvers_for(example)!r}")


def _axes(axes: tuple[str, ...]) -> str:
    return f"({', '.join(('...', *axes))})"


def _default(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    return f"default {value:g}" if isinstance(value, float) else f"default {value!r}"


def _choices(choices: tuple[Any, ...] | None) -> str:
    return "anything" if choices is None else " | ".join(map(str, choices))


def _bounds(var: Variable) -> str:
    unit = "" if var.unit == "1" else f" {var.unit}"
    return "derived" if var.derived else f"[{var.low}, {var.high}]{unit}"


def columns(rows: Sequence[tuple[str, ...]], indent: str = "") -> None:
    """Rows with their cells one under the other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = (f"{cell:{width}s}" for cell, width in zip(row, widths))
        print(f"{indent}{'  '.join(cells)}".rstrip())


def _table(title: str, rows: Iterator[tuple[str, ...]]) -> None:
    found = list(rows)
    if found:
        print(f"{title}:")
        columns(found, "  ")


def allocation(sol: rr.Solution) -> Iterator[str]:
    """The variables of the first instances, one line for each device."""
    if not sol.problem.batch_shape:
        yield from _instance(sol)
        return
    for lane in itertools.islice(np.ndindex(sol.problem.batch_shape), INSTANCES):
        one = sol[lane]
        yield f"instance {', '.join(map(str, lane))}: {one.status.name.lower()}"
        yield from _instance(one)
    if sol.problem.size > INSTANCES:
        yield f"({sol.problem.size - INSTANCES} more instances)"


def _instance(sol: rr.Solution) -> Iterator[str]:
    variables = [v for v in sol.problem.variables if v.name in sol.x]
    for axes in dict.fromkeys(v.axes for v in variables):
        group = [v for v in variables if v.axes == axes]
        heads = [v.name if v.unit == "1" else f"{v.name} [{v.unit}]" for v in group]
        columns = [sol.x[v.name].reshape(-1) for v in group]
        yield f"  {' '.join(axes):6s}" + "".join(f"  {h:>14s}" for h in heads)
        shape = sol.x[group[0].name].shape
        for row, place in zip(range(min(ROWS, len(columns[0]))), np.ndindex(shape)):
            label = " ".join(map(str, place))
            cells = (f"{_cell(c, row):>{max(14, len(h))}s}" for c, h in zip(columns, heads))
            yield f"  {label:6s}" + "".join(f"  {c}" for c in cells)
        if len(columns[0]) > ROWS:
            yield f"  ({len(columns[0]) - ROWS} more; --output keeps them all)"


def _cell(column: Array, row: int) -> str:
    value = column[row].item()
    return f"{value:.6g}" if isinstance(value, float | complex) else str(value)
