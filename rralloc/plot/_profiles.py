"""Solvers over many cases: profiles, and the map of who to choose where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import UnknownName
from rralloc.plot import _style

if TYPE_CHECKING:
    from rralloc.comparison import Comparison

_UNITS = {"seconds": "wall time of a case (s)", "cpu_seconds": "CPU time of a case (s)"}


def profile(
    comparison: Comparison,
    measure: str = "seconds",
    kind: Any = "performance",
    *,
    close: float = 1e-3,
    ax: Any = None,
) -> Any:
    """Share of cases solved against factor (``performance``) or cost (``data``); the Figure.

    comparison: of ``rr.compare``; ``chunk=1`` makes every instance a case. measure: ``seconds``,
    ``cpu_seconds`` or ``iterations``. A case is solved when every instance has a feasible point
    that loses at most ``close`` to the best found. The title is computed from the numbers. Solvers
    that solve nothing are named in the legend, without a curve.

    Choose this when: you compare solvers over many instances: high and left is better.
    """
    frame = comparison.profile(measure, kind, close)
    with _style.styled():
        own = ax is None
        ax = _style.own_axes(size=(8.4, 5.2)) if own else ax
        ax.set_xscale("log")
        order = sorted(frame.columns, key=lambda n: (-frame[n].iloc[-1], -frame[n].mean()))
        at = frame.index.to_numpy(dtype=float)
        end = at[-1] * 1.15 if at.size else 10.0
        for index, name in enumerate(order):
            look = _style.look(index)
            x, y = np.append(at, end), np.append(frame[name], frame[name].iloc[-1:])
            told = name if y.any() else f"{name} (none)"
            ax.step(x, y, where="post", label=told, **look, markevery=_style.thinned(x.size, 8))
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel("share of cases solved")
        performance = frame.attrs["kind"] == "performance"
        factor = f"within this factor of the least {measure.replace('_', ' ')}"
        ax.set_xlabel(factor if performance else _UNITS.get(measure, f"{measure} of a case"))
        _style.legend(ax, ax.get_legend_handles_labels()[0], below=own, columns=3)
        _style.title(ax, frame.attrs["caption"], 84)
        return _style.stamp(_style.figure_of(ax), _digests(comparison))


def regret(
    comparison: Comparison,
    x: Any,
    y: Any,
    *,
    bins: int = 4,
    close: float = 1e-3,
    rival: str | None = None,
    ax: Any = None,
) -> Any:
    """Which solver to use where, over two statistics of the channel; returns the Figure.

    x, y, bins, close: as in ``Comparison.regret``. In each cell the quickest solver whose mean loss
    is at most ``close`` (pale: nobody's is, and the one that regrets least is named), what an
    instance takes, and what the ``rival`` (the first solver of the table unless set) would lose.

    Choose this when: no solver is best everywhere, and you must pick one for your channel.
    """
    frame = comparison.regret(x, y, bins=bins, close=close)
    known = list(dict.fromkeys(case.solver for case in comparison.cases))
    rival = known[0] if rival is None else rival
    if rival not in known:
        raise UnknownName("solver of this table", rival, known)
    names = list(dict.fromkeys(frame[frame.choice].solver))
    with _style.styled():
        ax = _style.own_axes(size=(9.0, 6.4)) if ax is None else ax
        ax.grid(False)
        for _, cell in frame.groupby(["i", "j"]):
            _cell(ax, cell, {n: _style.look(i)["color"] for i, n in enumerate(names)}, rival, close)
        _axis(ax.xaxis, frame, "x")
        _axis(ax.yaxis, frame, "y")
        ax.set_xlim(-0.5, frame.i.max() + 0.5)
        ax.set_ylim(-0.5, frame.j.max() + 0.5)
        for side in ax.spines.values():
            side.set_visible(False)
        _style.title(ax, _verdict(frame, rival, close), 84)
        return _style.stamp(_style.figure_of(ax), _digests(comparison))


def _cell(ax: Any, cell: Any, colours: dict[str, Any], rival: str, close: float) -> None:
    from matplotlib.patches import Rectangle

    chosen, other = cell[cell.choice].iloc[0], cell[cell.solver == rival]
    good = chosen.regret <= close
    corner, colour = (chosen.i - 0.5, chosen.j - 0.5), colours[chosen.solver]
    alpha = 0.9 if good else 0.3
    ax.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=alpha, edgecolor="white", lw=3))
    lines = [f"{_time(chosen.seconds)}"]
    if not good:
        lines.append(f"loses {_percent(chosen.regret)}")
    if len(other) and rival != chosen.solver:
        lines.append(f"{rival}: {_percent(other.regret.iloc[0])}")
    ink = {"ha": "center", "color": "white" if good else _style.INK, "linespacing": 1.15}
    ax.text(chosen.i, chosen.j + 0.04, chosen.solver, va="bottom", fontweight="bold",
            fontsize=10, **ink)  # fmt: skip
    ax.text(chosen.i, chosen.j - 0.02, "\n".join(lines), va="top", fontsize=9, **ink)


def _time(value: float) -> str:
    from rralloc.report import seconds

    return seconds(value) if np.isfinite(value) else "did not run"


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %"


def _axis(axis: Any, frame: Any, letter: str) -> None:
    """Edges of the cells as ticks between them."""
    index = frame["i" if letter == "x" else "j"]
    low = frame.groupby(index)[f"{letter}_low"].first()
    edges = [*low, frame[f"{letter}_high"].max()]
    axis.set_ticks(np.arange(len(edges)) - 0.5, [f"{e:.3g}" for e in edges])
    axis.set_label_text(frame.attrs[letter])
    axis.set_tick_params(length=0)


def _verdict(frame: Any, rival: str, close: float) -> str:
    """How often each is the choice, and what taking the rival everywhere would cost."""
    chosen = frame[frame.choice]
    counts = chosen.solver.value_counts()
    said = "; ".join(f"{n} in {c} of {len(chosen)} cells" for n, c in counts.items())
    held = frame[frame.solver == rival]
    if not len(held):
        return f"The choice: {said}"
    mean = float(np.average(held.regret, weights=held.instances))
    tail = f"{rival} everywhere loses {_percent(mean)} on average"
    if held.regret.max() > close:
        tail += f" and up to {_percent(held.regret.max())}"
    return f"The choice: {said}; {tail}"


def _digests(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(case.digest for case in comparison.cases))
