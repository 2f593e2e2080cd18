"""Who is best where: a map over two settings of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rralloc.fl import statistics
from rralloc.plot import _style


def winners(
    results: Mapping[tuple[Any, Any], Mapping[str, Any]],
    *,
    x: str,
    y: str,
    unit: str = "",
    title: str = "",
    ax: Any = None,
) -> Any:
    """The best name in every cell, its mean, and its paired lead over the next; the Figure.

    results: (x setting, y setting) -> {name: values ``(seeds,)``}, higher is better, the same seeds
        in the same order for all names of a cell. x, y: what the settings are. unit: of the values.
    title: one sentence; by default how often each name leads.

    A cell is coloured by its winner, pale where the 95 % interval of the lead includes 0: then the
    two are tied. Raises ValueError: there is no result, or a cell has fewer than two names.

    Choose this when: a study was run over two settings, and one table per name would hide who wins.
    """
    if not results or any(len(cell) < 2 for cell in results.values()):
        raise ValueError("results needs at least one cell, and two names in every cell")
    columns = list(dict.fromkeys(key[0] for key in results))
    lines = list(dict.fromkeys(key[1] for key in results))
    names = list(dict.fromkeys(name for cell in results.values() for name in cell))
    colour = {name: _style.look(i)["color"] for i, name in enumerate(names)}
    ahead = {key: _two_best(cell) for key, cell in results.items()}
    with _style.styled():
        size = (2.6 + 2.7 * len(columns), 1.9 + 1.25 * len(lines))
        ax = _style.own_axes(size=size) if ax is None else ax
        ax.grid(False)
        for (column, line), (first, second, own, lead) in ahead.items():
            at = columns.index(column), lines.index(line)
            tied = not lead.low > 0
            _cell(ax, at, colour[first], tied)
            told = f"+{lead.mean:.1f} [{lead.low:+.1f}, {lead.high:+.1f}]{unit}\nto {second}"
            _write(ax, at, f"{first}\n{own:.1f}{unit}", told, tied)
        _frame(ax, [f"{c}" for c in columns], [f"{r}" for r in lines], x, y)
        counts = {n: sum(first == n for first, *_ in ahead.values()) for n in names}
        best = sorted((n for n in names if counts[n]), key=lambda n: -counts[n])
        default = "; ".join(f"{n} leads in {counts[n]} of {len(ahead)}" for n in best)
        _style.title(ax, title or default, int(8.6 * size[0]))
        return _style.figure_of(ax)


def _two_best(cell: Mapping[str, Any]) -> tuple[str, str, float, statistics.Interval]:
    """First, second, the mean of the first, and its paired lead."""
    values = {name: np.asarray(v, dtype=float) for name, v in cell.items()}
    first, second = sorted(values, key=lambda n: -values[n].mean())[:2]
    lead = statistics.paired_difference(values[first], values[second])
    return first, second, float(values[first].mean()), lead


def _cell(ax: Any, at: tuple[int, int], colour: Any, tied: bool) -> None:
    from matplotlib.patches import Rectangle

    corner = at[0] - 0.5, at[1] - 0.5
    shade = 0.28 if tied else 0.9
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=shade, edgecolor="white", lw=3))


def _write(ax: Any, at: tuple[int, int], head: str, rest: str, tied: bool) -> None:
    ink = _style.INK if tied else "white"
    style = {"ha": "center", "color": ink, "linespacing": 1.15}
    ax.text(at[0], at[1] - 0.06, head, va="bottom", fontsize=10.5, fontweight="bold", **style)
    ax.text(at[0], at[1] + 0.04, rest, va="top", fontsize=9, **style)


def _frame(ax: Any, columns: list[str], lines: list[str], x: str, y: str) -> None:
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(lines)), lines)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
