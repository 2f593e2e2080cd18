"""The cell as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rralloc.plot import _labels, _style
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.channel.geometry import Placement
    from rralloc.fl.link import Link


def cell(
    link_or_placement: Link | Placement,
    *,
    values: npt.ArrayLike | None = None,
    label: str | None = None,
    ax: Any = None,
) -> Any:
    """Base station, cell edge and numbered devices, coloured and sized by a value.

    values: one number for each device ``(K,)``, e.g. ``sol.bandwidth_hz``; default the distance.
        NaN draws a device hollow.
    label: what the values are, with their unit, e.g. ``"bandwidth (Hz)"``.
    ax: axes to draw in.

    Returns the Figure. Raises ValueError: a link without placement, or not one value a device.

    Choose this when: you want to see whether an allocation follows distance, or luck with fading.
    """
    placement = _placement(link_or_placement)
    where = placement.positions_m
    shown, label = _values(placement, values, label)
    with _style.styled():
        own = ax is None
        ax = _style.own_axes(size=(7.4, 6.6)) if own else ax
        _draw_cell(ax, placement)
        _style.legend(ax, ax.get_legend_handles_labels()[0], below=own)
        dots = _draw_devices(ax, where, shown)
        if np.isfinite(shown).any():
            bar = ax.figure.colorbar(dots, ax=ax, label=label, shrink=0.8)
            _style.dress(bar.ax, grid=False)
        numbers, gaps = [str(k) for k in range(len(where))], np.sqrt(_areas(shown)) / 2 + 3
        _labels.beside(ax, where, numbers, gap=gaps, avoid=_edge(placement), fontsize=11)
        return _style.figure_of(ax)


def _placement(given: Any) -> Placement:
    found: Any = getattr(given, "placement", given)
    if found is None:
        raise ValueError("this link has no placement; make it with Link.cell or pass placement=")
    placement: Placement = found
    return placement


def _values(
    placement: Placement, values: npt.ArrayLike | None, label: str | None
) -> tuple[Array, str]:
    if values is None:
        return placement.distance_m, "distance (m)"
    shown: Array = np.asarray(values, dtype=float)
    if shown.shape != placement.distance_m.shape:
        raise ValueError(
            f"values has shape {shown.shape}; give one number for each of the "
            f"{placement.distance_m.size} devices"
        )
    return shown, label or "value"


def _draw_cell(ax: Any, placement: Placement) -> None:
    radius = placement.cell.radius_m
    ax.set_aspect("equal")
    ax.set_xlim(-1.08 * radius, 1.08 * radius)
    ax.set_ylim(-1.08 * radius, 1.08 * radius)
    edge = f"cell edge, {radius:g} m"
    ax.plot(*_edge(placement).T, color=_style.FAINT, linewidth=1.4, label=edge)
    ax.plot(
        *([0], [0]), marker="^", markersize=13, color=_style.INK, linestyle="none",
        label="base station", zorder=4,
    )  # fmt: skip
    ax.set_xlabel("east of the base station (m)")
    ax.set_ylabel("north of the base station (m)")


def _edge(placement: Placement) -> Array:
    """Points of the cell's circle ``(points, 2)``."""
    turn = np.linspace(0, 2 * np.pi, 361)
    return placement.cell.radius_m * np.column_stack([np.cos(turn), np.sin(turn)])


def _areas(shown: Array) -> Array:
    """Marker areas in square points: larger for larger values, middling where there is none."""
    known = shown[np.isfinite(shown)]
    span = np.ptp(known) if known.size else 0.0
    if span == 0:
        return np.full(shown.shape, 80.0)
    return np.where(np.isfinite(shown), 45 + 190 * (shown - known.min()) / span, 80.0)


def _draw_devices(ax: Any, where: Array, shown: Array) -> Any:
    known, area = np.isfinite(shown), _areas(shown)
    ink = {"edgecolors": _style.INK, "linewidths": 0.8, "zorder": 3}
    if not known.all():
        ax.scatter(*where[~known].T, s=area[~known], facecolors="none", **ink)
    return ax.scatter(*where[known].T, c=shown[known], s=area[known], cmap="cividis_r", **ink)
