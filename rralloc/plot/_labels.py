"""Words on axes: what a quantity is, its unit with a readable prefix, decibels, label placement."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np

from rralloc.typing import Array

_PREFIX = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}
_PREFIXED = ("Hz", "W", "s", "J", "bit", "bit/s", "m")
_SUFFIX = {
    "_w_hz": "W/Hz",
    "_hz": "Hz",
    "_w": "W",
    "_s": "s",
    "_j": "J",
    "_bit": "bit",
    "_bits": "bit",
    "_m": "m",
    "_share": "1",
}


def decibel(values: Array) -> Array:
    """10 log10; NaN, which is not drawn, where there is no signal."""
    with np.errstate(divide="ignore"):
        level = 10 * np.log10(values)
    return np.where(np.isfinite(level), level, np.nan)


def stem(name: str) -> str:
    """A name without its unit suffix, as words: ``bandwidth_hz`` -> ``bandwidth``."""
    for suffix in _SUFFIX:
        name = name.removesuffix(suffix)
    return name.replace("_", " ")


def unit_of_name(name: str) -> str:
    """The unit that a name's suffix tells, ``1`` without one."""
    return next((unit for suffix, unit in _SUFFIX.items() if name.endswith(suffix)), "1")


def with_unit(words: str, unit: str) -> str:
    """``transmit power (W)``; nothing is added to a pure number."""
    return words if unit == "1" else f"{words} ({unit})"


def scaled(unit: str, values: Array) -> tuple[str, int]:
    """Unit with the prefix that suits the largest value, and the power of ten it stands for."""
    finite = np.abs(values[np.isfinite(values)])
    if unit not in _PREFIXED or not finite.size or finite.max() == 0:
        return unit, 0
    power = 3 * math.floor(math.log10(finite.max()) / 3)
    power = max(-9, min(power, 0 if unit in ("s", "m") else 9))
    return _PREFIX[power] + unit, power


def name_axis(axis: Any, words: str, unit: str, values: Array, *, width: int = 60) -> None:
    """Label an x or y axis; ticks read in the prefixed unit while the data stay in SI units."""
    from matplotlib.ticker import FuncFormatter

    unit, power = scaled(unit, values)
    told = textwrap.fill(with_unit(words, unit.replace(" ", "\N{NO-BREAK SPACE}")), width)
    axis.set_label_text(told.replace("\N{NO-BREAK SPACE}", " "))
    if power:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**power:g}"))


def spread(heights: Array, least: float) -> Array:
    """Heights moved as little as needed to lie ``least`` apart, order kept."""
    order = np.argsort(heights, kind="stable")
    steps = least * np.arange(len(heights))
    # Isotonic regression of what remains after the steps: pool neighbours that cross.
    blocks: list[list[float]] = []
    for value in heights[order] - steps:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = np.empty(len(heights))
    placed[order] = np.concatenate([[np.mean(b)] * len(b) for b in blocks]) + steps
    return placed


def beside(
    ax: Any,
    points: Array,
    words: list[str],
    *,
    gap: Array | float = 7.0,
    avoid: Array | None = None,
    **text: Any,
) -> None:
    """Write a word next to each point ``(points, 2)``, on the side where it meets least.

    gap: distance in typographic points. avoid: further places ``(places, 2)`` to keep clear.
    """
    figure = ax.figure.figure
    figure.draw_without_rendering()  # positions on the page are known only after the layout
    renderer, scale = figure.canvas.get_renderer(), figure.dpi / 72
    spots, gaps = ax.transData.transform(points), np.broadcast_to(gap, len(points))
    taken = [_around(s, 0.8 * g * scale) for s, g in zip(spots, gaps)]
    if avoid is not None:
        taken += [_around(s, scale) for s in ax.transData.transform(avoid)]
    for spot, at, word, far in zip(spots, points, words, gaps):
        note = ax.annotate(word, at, (far, 0), textcoords="offset points", **text)
        size, pad = note.get_window_extent(renderer), far * scale
        side = min(_SIDES, key=lambda s: _clash(_box(spot, s, size, pad), taken, ax.bbox))
        taken.append(_box(spot, side, size, pad))
        note.set_position((far * side[0], far * side[1]))
        note.set_ha(("right", "center", "left")[1 + int(np.sign(side[0]))])
        note.set_va(("top", "center", "bottom")[1 + int(np.sign(side[1]))])


def _around(spot: Array, reach: float) -> _Box:
    return spot[0] - reach, spot[1] - reach, spot[0] + reach, spot[1] + reach


_D = math.sqrt(0.5)
_SIDES = ((1, 0), (0, 1), (-1, 0), (0, -1), (_D, _D), (-_D, _D), (-_D, -_D), (_D, -_D))
_Box = tuple[float, float, float, float]


def _box(spot: Array, side: tuple[float, float], size: Any, pad: float) -> _Box:
    """Where a word would lie: left, bottom, right, top in pixels."""
    left = spot[0] + pad * side[0] + (np.sign(side[0]) - 1) / 2 * size.width
    low = spot[1] + pad * side[1] + (np.sign(side[1]) - 1) / 2 * size.height
    return left, low, left + size.width, low + size.height


def _clash(box: _Box, taken: list[Any], frame: Any) -> float:
    """Area shared with what is there already; what sticks out of the axes counts too."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    inside = _shared(box, (frame.x0, frame.y0, frame.x1, frame.y1))
    return area - inside + sum(_shared(box, other) for other in taken)


def _shared(a: Any, b: Any) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(max(wide, 0.0) * max(high, 0.0))
