"""Mobile devices: where they went, and when a server could be reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.plot import _style
from rralloc.typing import Array

if TYPE_CHECKING:
    from rralloc.channel.contacts import Contacts
    from rralloc.channel.motion import Discs, Track

_CLOCK = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MOST_ROWS = 40  # with a name each
_MOST_COLOURS = 6


def contact_map(
    contacts: Contacts,
    *,
    devices: Sequence[int] | None = None,
    margin_m: float | None = None,
    ax: Any = None,
) -> Any:
    """Paths, thick and in colour while in contact, and the discs of the servers; the Figure.

    devices: numbers of those to draw; default all. Up to six have a colour and a name of their own.
    margin_m: show the discs and this much around them, m; default as far as the paths go.
    ax: axes to draw in.

    Raises InvalidProblem: these contacts have no tracks (no motion, as in ``ExponentialContacts``),
        or there is no such device.

    Choose this when: you want to see the geometry behind the contacts, or that a recording is sane.
    """
    if not contacts.tracks or contacts.discs is None:
        raise InvalidProblem(
            "Contacts.tracks is empty: these contacts have no places to draw. Take a model with "
            "motion or contacts_of; contact_timeline needs no places."
        )
    chosen = _chosen(contacts, devices)
    with _style.styled():
        own = ax is None
        ax = _style.own_axes(size=(7.4, 7.4)) if own else ax
        ax.set_aspect("equal")
        _draw_paths(ax, contacts, chosen)
        _draw_discs(ax, contacts.discs)
        if margin_m is not None:
            _frame(ax, contacts.discs, margin_m)
        ax.set_xlabel("east (m)")
        ax.set_ylabel("north (m)")
        _legend(ax, own)
        _style.title(ax, _sentence(contacts, chosen), 62)
        return _style.figure_of(ax)


def contact_timeline(
    contacts: Contacts, *, devices: Sequence[int] | None = None, ax: Any = None
) -> Any:
    """A row for each device, a bar while it is in contact; the Figure.

    devices: numbers of those to draw, from the top; default all. ax: axes to draw in.

    Where only seconds are known and not when in the round, the bar begins with the round. Small
    ticks are the rounds if there are at most 120.

    Raises InvalidProblem: there is no such device.

    Choose this when: you want to see how often and how long devices meet a server.
    """
    chosen = _chosen(contacts, devices)
    named = len(chosen) <= _MOST_ROWS
    with _style.styled():
        height = 2.2 + 0.24 * min(len(chosen), _MOST_ROWS)
        ax = _style.own_axes(size=(9.6, height)) if ax is None else ax
        for row, n in enumerate(chosen):
            bars = _bars(contacts, n)
            colour = _style.COLOURS[0]
            ax.broken_barh(bars, (row - 0.38, 0.76), facecolors=colour, edgecolors="none")
        ax.grid(False, axis="y")
        ax.set_ylim(max(len(chosen), 1) - 0.5, -0.5)
        ax.set_xlim(contacts.start_s, max(contacts.end_s, contacts.start_s + 1e-9))
        _clock_axis(ax, contacts)
        if named:
            names = [contacts.names[n] for n in chosen]
            ax.set_yticks(range(len(chosen)), names)
            ax.tick_params(axis="y", length=0)
            _shares(ax, contacts.share[chosen])
        ax.set_ylabel("device")
        _style.title(ax, _sentence(contacts, chosen), 78)
        return _style.figure_of(ax)


def _legend(ax: Any, below: bool) -> None:
    """Three columns: names are long. A crowd is too pale for its own legend."""
    handles = ax.get_legend_handles_labels()[0]
    if below:
        made = ax.figure.legend(handles=handles, loc="outside lower center", ncols=3)
    else:
        made = ax.legend(handles=handles, loc="best")
    for handle in made.legend_handles:
        if not hasattr(handle, "get_facecolor"):  # a line, not an area
            handle.set_alpha(1.0)


def _chosen(contacts: Contacts, devices: Sequence[int] | None) -> list[int]:
    chosen = list(range(contacts.devices)) if devices is None else [int(n) for n in devices]
    for i, n in enumerate(chosen):
        if not 0 <= n < contacts.devices:
            raise InvalidProblem(
                f"devices[{i}] = {n} is outside 0, ..., {contacts.devices - 1}: give numbers of "
                "devices."
            )
    return chosen


def _paths(contacts: Contacts, n: int) -> tuple[list[Array], list[Array]]:
    """Lines ``(points, 2)`` of one device in the time of the rounds: all, and those in contact."""
    own = [track for track in contacts.tracks if track.name == contacts.names[n]]
    assert contacts.intervals is not None  # tracks come with intervals
    inside = [line for span in contacts.intervals[n] for line in _within(own, *span)]
    return _within(own, contacts.start_s, contacts.end_s), inside


def _within(tracks: list[Track], first_s: float, last_s: float) -> list[Array]:
    parts = (track.part(first_s, last_s) for track in tracks)
    return [part.position_m for part in parts if part is not None]


def _draw_paths(ax: Any, contacts: Contacts, chosen: list[int]) -> None:
    paths = [_paths(contacts, n) for n in chosen]
    if len(chosen) > _MOST_COLOURS:
        points = sum(len(line) for whole, _ in paths for line in whole)
        pale = 0.5 if points < 20_000 else 0.12  # a crowd of lines would be a blot
        whole, inside = ([line for pair in paths for line in pair[i]] for i in (0, 1))
        _lines(ax, whole, _style.FAINT, 0.8, pale, "out of contact")
        _lines(ax, inside, _style.COLOURS[0], 1.4, min(0.8, 2 * pale), "in contact")
        return
    colours = [c for c in _style.COLOURS if c != "#000000"]
    for n, (whole, inside), colour in zip(chosen, paths, colours):
        _lines(ax, whole, colour, 1.1, 0.55, None)
        name = contacts.names[n]
        label = f"device {name}" if name.isdigit() else name
        _lines(ax, inside, colour, 4.0, 0.9, f"{label}, in contact")
    ax.plot([], [], color=_style.FAINT, linewidth=1.1, label="out of contact")


def _lines(
    ax: Any, lines: list[Array], colour: Any, width: float, alpha: float, label: str | None
) -> None:
    from matplotlib.collections import LineCollection

    style = {"colors": colour, "linewidths": width, "alpha": alpha, "capstyle": "butt"}
    ax.add_collection(LineCollection(lines, label=label, **style))
    ax.autoscale_view()


def _draw_discs(ax: Any, discs: Discs) -> None:
    from matplotlib.patches import Circle

    for i, at in enumerate(discs.centre_m):
        label = f"reach, {discs.radius_m:g} m" if i == 0 else None
        ax.add_patch(
            Circle(
                at,
                discs.radius_m,
                facecolor=(0.34, 0.71, 0.91, 0.13),
                edgecolor=_style.INK,
                linewidth=1.3,
                label=label,
                zorder=1.5,
            )
        )
    marks = {"marker": "^", "markersize": 11, "color": _style.INK, "linestyle": "none"}
    ax.plot(*discs.centre_m.T, label="server", zorder=4, **marks)
    ax.autoscale_view()


def _frame(ax: Any, discs: Discs, margin_m: float) -> None:
    low = discs.centre_m.min(0) - discs.radius_m - margin_m
    high = discs.centre_m.max(0) + discs.radius_m + margin_m
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])


def _bars(contacts: Contacts, n: int) -> list[tuple[float, float]]:
    """Begin and length of the bars of one row, s."""
    if contacts.intervals is not None:
        return [(begin, end - begin) for begin, end in contacts.intervals[n]]
    begins = contacts.start_s + contacts.round_s * np.arange(contacts.rounds)
    return [(b, s) for b, s in zip(begins, contacts.seconds[:, n]) if s > 0]


def _clock_axis(ax: Any, contacts: Contacts) -> None:
    """Ticks at whole seconds, minutes, hours or days since round 0; the data stay in seconds."""
    from matplotlib.ticker import MaxNLocator

    span = contacts.end_s - contacts.start_s
    unit, name = next((c for c in _CLOCK if span >= 3 * c[0]), _CLOCK[-1])
    steps = MaxNLocator(nbins=9, steps=[1, 2, 3, 5, 6, 10]).tick_values(0, span / unit)
    shown = [v for v in steps if 0 <= v <= span / unit * (1 + 1e-9)]
    ax.set_xticks([contacts.start_s + unit * v for v in shown], [f"{v:g}" for v in shown])
    if contacts.rounds <= 120:
        edges = contacts.start_s + contacts.round_s * np.arange(contacts.rounds + 1)
        ax.set_xticks(edges, minor=True)
    ax.set_xlabel(f"time since round 0 ({name}); a round is {contacts.round_s:g} s")


def _shares(ax: Any, share: Array) -> None:
    """The share of time in contact at the right end of each row."""
    for row, value in enumerate(share):
        ax.text(
            *(1.01, row),
            _per_cent(value),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=11,
        )


def _sentence(contacts: Contacts, chosen: list[int]) -> str:
    share = contacts.share[chosen]
    if not share.size:
        return ""
    who = "1 device is" if share.size == 1 else f"{share.size} devices are"
    spread = f", from {_per_cent(share.min())} to {_per_cent(share.max())}" * (share.size > 1)
    return f"{who} in contact {_per_cent(share.mean())} of the time{spread}"


def _per_cent(value: float) -> str:
    return f"{100 * value:.2g} %" if 0 < value < 0.095 else f"{100 * value:.0f} %"
