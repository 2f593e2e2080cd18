"""One look for all figures, and the file they are saved to.

Colours are those of Okabe and Ito (2008), which people with any colour vision can tell apart; each
comes with its own dash pattern and marker, so a grey print reads as well. Font sizes stay legible
when a figure is printed at half its size. Nothing global changes: rcParams are set inside
``styled()`` only, and what matplotlib would look up later is fixed on the axes by ``dress``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, FAINT, GRID = "#222222", "#707070", "#DDDDDD"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
"""Okabe-Ito: blue, vermilion, green, purple, black, orange, sky (yellow is too light for lines)."""
DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

_RC = {
    "font.size": 13.0,
    "axes.titlesize": 13.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 13.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.fontsize": 12.0,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.handlelength": 2.6,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
    "text.color": INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """The shared style inside the block, the user's own before and after."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # Loads the backend now: a notebook's sets rcParams, and the context below would undo that.
    plt.draw_if_interactive()
    with mpl.rc_context(_RC):
        yield


def look(index: int) -> dict[str, Any]:
    """Colour, dashes and marker of the curve with this number; no two of the first 42 agree."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def own_axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **grid: Any) -> Any:
    """Axes of a new figure in the shared style, an array where there are several."""
    import matplotlib.pyplot as plt

    figure = plt.figure(FigureClass=_figure_class(), figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, **grid)
    for ax in figure.axes:
        dress(ax)
    return axes


def dress(ax: Any, *, grid: bool = True) -> None:
    """Fix on the axes what matplotlib reads from rcParams only when it draws."""
    ax.tick_params(which="both", labelsize=12.0, color=FAINT, labelcolor=INK)
    if grid:
        ax.grid(True, which="major", color=GRID, linewidth=0.8)


def _figure_class() -> type:
    """A ``Figure`` that a notebook shows once, not also a second time at the end of the cell."""
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    global _Shown
    if _Shown is None:

        class Shown(Figure):
            def _ipython_display_(self) -> None:
                if "inline" in matplotlib.get_backend():
                    plt.close(self)
                raise NotImplementedError  # go on with the usual picture

        _Shown = Shown
    return _Shown


def figure_of(ax: Any) -> Any:
    """The figure that holds the axes, also through subfigures."""
    return ax.figure.figure


def title(ax: Any, sentence: str, width: int = 70) -> None:
    """A title that is a sentence, in lines of like length; nothing if there is nothing to say."""
    if not sentence:
        return
    lines = len(_wrap(sentence, width))
    least = next(w for w in range(10, width + 1) if len(_wrap(sentence, w)) <= lines)
    ax.set_title("\n".join(_wrap(sentence, least)))


def _wrap(sentence: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters; a number and its per cent sign stay together."""
    held = sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(held, width, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def legend(ax: Any, handles: list[Any], *, below: bool, columns: int = 4) -> None:
    """A legend under the whole figure if it is ours to arrange, else where the axes have room."""
    if below:
        columns = min(columns, len(handles))
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    elif handles:
        ax.legend(handles=handles, loc="best")


def stamp(figure: Any, scenarios: Iterable[str]) -> Any:
    """Remember which scenarios a figure shows, for ``save``; returns the figure."""
    known = getattr(figure, "rralloc_scenario", "").split()
    figure.rralloc_scenario = " ".join(dict.fromkeys([*known, *scenarios]))
    return figure


def labelled(given: Any) -> dict[str, Any]:
    """A dict as it is; one solution under its solver's name."""
    if not isinstance(given, Mapping):
        return {given.solver: given}
    if not given:
        raise ValueError("no solutions to draw: pass at least one, as {label: solution}")
    return dict(given)


def digests(solutions: Mapping[str, Any]) -> list[str]:
    """The scenarios that solutions belong to."""
    return list(dict.fromkeys(s.problem.digest for s in solutions.values()))


def thinned(points: int, most: int = 12) -> int:
    """``markevery`` that leaves a curve at most about this many markers."""
    return max(1, -(-points // most))


PICTURES = {
    ".png": ("Scenario", "Software"),
    ".svg": ("Identifier", "Creator"),
    ".pdf": ("Subject", "Creator"),
}
"""Suffix -> the metadata keys for what a figure shows and for who made it."""


def save(figure: Any, path: str | Path, *, dpi: float = 150.0) -> Path:
    """Write a figure as PNG (or SVG, PDF, by suffix) with the scenario's digest in its metadata.

    Returns the path; a missing suffix becomes ``.png``, missing folders are made. Read it back
    with ``PIL.Image.open(path).info["Scenario"]``.

    Choose this when: a figure leaves the session and somebody will ask which data it shows.
    """
    from rralloc import __version__

    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{path.name}: save writes .png, .svg or .pdf; choose one of them")
    key, made = PICTURES[path.suffix.lower()]
    scenario = getattr(figure, "rralloc_scenario", "")
    metadata = {made: f"rralloc {__version__}"} | ({key: scenario} if scenario else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        figure.savefig(path, dpi=dpi, metadata=metadata)
    return path


_Shown: type | None = None
