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
        ax = _style.own_axes(size=(7.4, 6.2)) if ax is None else ax
        _draw_cell(ax, placement)
        dots = _draw_devices(ax, where, shown)
        if np.isfinite(shown).any():
            ax.figure.colorbar(dots, ax=ax, label=label, shrink=0.8)
        numbers = [str(k) for k in range(len(where))]
        _labels.beside(ax, where[:, 0], where[:, 1], numbers, gap=8.0, fontsize=11)
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
    turn = np.linspace(0, 2 * np.pi, 361)
    edge = f"cell edge, {radius:g} m"
    ax.plot(radius * np.cos(turn), radius * np.sin(turn), color=_style.FAINT, lw=1.4, label=edge)
    ax.plot(
        *([0], [0]), marker="^", markersize=13, color=_style.INK, linestyle="none",
        label="base station", zorder=4,
    )  # fmt: skip
    ax.set_xlabel("east of the base station (m)")
    ax.set_ylabel("north of the base station (m)")
    ax.legend(loc="upper left", fontsize=11, borderpad=0.2, handlelength=1.6)


def _draw_devices(ax: Any, where: Array, shown: Array) -> Any:
    known = np.isfinite(shown)
    blank = where[~known]
    if len(blank):
        ax.scatter(*blank.T, s=60, facecolors="none", edgecolors=_style.INK, zorder=3)
    some = shown[known]
    low, span = (some.min(), np.ptp(some)) if some.size else (0.0, 0.0)
    size = 45 + 190 * ((some - low) / span if span > 0 else np.full(some.shape, 0.3))
    return ax.scatter(
        *where[known].T, c=some, s=size, cmap="cividis_r",
        edgecolors=_style.INK, linewidths=0.8, zorder=3,
    )  # fmt: skip
