"""Solvers of one table: what they spent against what they proved."""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.plot import _labels, _style
from rralloc.solution import Status
from rralloc.typing import Array

_FACES = {"global": "full", "local": "left", "feasible": "none"}
_STATUS_WORDS = {
    "global": "all proven optimal",
    "local": "stationary",
    "feasible": "feasible",
    "failed": "not all feasible",
}


def time_against_gap(df: Any, *, ax: Any = None) -> Any:
    """Seconds against proven gap, one marker for each row, log axes; returns the Figure.

    df: a table with columns ``solver``, ``seconds``, ``gap`` and ``status`` (names or ``Status``
        codes); or a ``rr.compare`` result or its DataFrame, whose columns ``solved``, ``proven``
        and ``instances`` stand for the status. ax: axes to draw in.

    A gap of 0 lies on the line "0" below the decades, a row without any bound on the line "none"
    above them. Rows that did not run are listed under the figure, not hidden. The fill of a marker
    tells the status.

    Choose this when: you pick a solver: low and left is better.
    """
    df = df.to_dataframe() if hasattr(df, "rows") and hasattr(df, "to_dataframe") else df
    seconds, gap = (np.asarray(df[n], dtype=float) for n in ("seconds", "gap"))
    names = [str(n) for n in df["solver"]]
    ran = np.isfinite(seconds)
    if not ran.any():
        raise ValueError("no row has seconds: nothing ran, so there is nothing to draw")
    with _style.styled():
        own = ax is None
        ax = _style.own_axes(size=(8.4, 5.8)) if own else ax
        ax.set_xscale("log")
        ax.set_yscale("log")
        heights = _heights(ax, gap, ran)
        ax.set_xlabel("wall time (s)")
        ax.set_ylabel("worst proven gap (relative)")
        status = _status(df)
        _style.legend(ax, _fills([w for w, r in zip(status, ran) if r]), below=own)
        _draw_rows(ax, names, status, seconds, heights, ran)
        missing = sorted({n for n, r in zip(names, ran) if not r})
        if missing:
            _style.title(ax, f"Did not run: {', '.join(missing)}", 72)
        scenarios = [str(d) for d in df["digest"]] if "digest" in df else []
        return _style.stamp(_style.figure_of(ax), scenarios)


def _heights(ax: Any, gap: Array, ran: Array) -> Array:
    """Positions on the log axis; 0 and "no bound" get lines of their own."""
    decades = gap[ran & (gap > 0) & np.isfinite(gap)]
    low = np.floor(np.log10(decades.min())) if decades.size else -1.0
    high = np.ceil(np.log10(decades.max())) if decades.size else 0.0
    zero, none = 10.0 ** (low - 1), 10.0 ** (high + 1)
    heights = np.where(gap == 0, zero, np.where(np.isfinite(gap), gap, none))
    step = max(1, round((high - low) / 7))
    ticks = {10.0**d: f"$10^{{{int(d)}}}$" for d in np.arange(low, high + 1, step)}
    ticks |= {zero: "0"} if (gap[ran] == 0).any() else {}
    ticks |= {none: "none"} if not np.isfinite(gap[ran]).all() else {}
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.set_yticks([], minor=True)
    ax.set_ylim(heights[ran].min() / 4, max(ticks) * 3)
    return heights


def _draw_rows(
    ax: Any, names: list[str], status: list[str], seconds: Array, heights: Array, ran: Array
) -> None:
    numbers = {n: i for i, n in enumerate(dict.fromkeys(names))}
    for name, word, x, y in zip(names, status, seconds, heights):
        if np.isfinite(x):
            ax.plot(x, y, label=f"_{name}", markersize=10, **_marker(numbers[name], word))
    ax.margins(x=0.12)
    if len(numbers) == len(names):
        kept = [n for n, r in zip(names, ran) if r]
        spots = np.column_stack([seconds[ran], heights[ran]])
        _labels.beside(ax, spots, kept, gap=9.0, fontsize=12)
    else:
        _explain_solvers(ax, {n: i for n, i in numbers.items() if n in np.array(names)[ran]})


def _marker(number: int, status: str) -> dict[str, Any]:
    style = _style.look(number) | {"linestyle": "none", "markeredgewidth": 1.8}
    if status not in _FACES:
        return style | {"marker": "x"}
    return style | {"fillstyle": _FACES[status], "markerfacecoloralt": "white"}


def _fills(status: list[str]) -> list[Any]:
    """Legend entries for the fills that occur."""
    from matplotlib.lines import Line2D

    grey: dict[str, Any] = {
        "color": _style.FAINT,
        "linestyle": "none",
        "markersize": 9,
        "markeredgewidth": 1.6,
    }
    handles = []
    for word, told in _STATUS_WORDS.items():
        if word in status:
            face = {"marker": "x"} if word not in _FACES else {"fillstyle": _FACES[word]}
            look = grey | {"marker": "o", "markerfacecoloralt": "white"} | face
            handles.append(Line2D([], [], label=told, **look))
    return handles


def _explain_solvers(ax: Any, numbers: dict[str, int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=n, markersize=9, **_marker(i, "global")) for n, i in numbers.items()
    ]
    first = ax.get_legend()
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=11)
    if first is not None:
        ax.add_artist(first)


def _status(df: Any) -> list[str]:
    """One word a row: global, local, feasible, failed."""
    if "status" in df:
        return [_word(s) for s in df["status"]]
    solved, proven, size = (np.asarray(df[n]) for n in ("solved", "proven", "instances"))
    feasible = np.where(solved == size, "feasible", "failed")
    return [str(w) for w in np.where(proven == size, "global", feasible)]


def _word(status: Any) -> str:
    if isinstance(status, str):
        word = status.lower()
    else:
        word = Status(int(status)).name.lower()
    return word if word in _FACES else "failed"
