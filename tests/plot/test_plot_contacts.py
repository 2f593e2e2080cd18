"""Paths, discs and bars show the contacts that were given."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

from rralloc.channel import Contacts, Discs, Track, contacts_of
from rralloc.channel.mobility import ExponentialContacts, ManhattanGrid, RandomWaypoint
from rralloc.errors import InvalidProblem
from rralloc.plot import _style, save
from rralloc.plot._contacts import contact_map, contact_timeline


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def crossing() -> Contacts:
    """Device a from west to east through the disc in 50 s, device b never near it."""
    tracks = [
        Track([0.0, 50.0], [[-500.0, 0.0], [500.0, 0.0]], "a"),
        Track([0.0, 30.0], [[-500.0, 400.0], [100.0, 400.0]], "b"),
    ]
    return contacts_of(tracks, Discs(300.0), rounds=4, round_s=10.0)


def lines(ax) -> dict[str, list[np.ndarray]]:
    drawn = [c for c in ax.collections if isinstance(c, LineCollection)]
    return {str(c.get_label()): c.get_segments() for c in drawn}


def bars(ax) -> list[list[tuple[float, float, float]]]:
    """For each row its bars: begin, end, height of the middle."""
    rows = []
    for collection in ax.collections:
        corners = [path.get_extents() for path in collection.get_paths()]
        rows.append([(c.x0, c.x1, (c.y0 + c.y1) / 2) for c in corners])
    return rows


def test_the_map_shows_paths_and_what_of_them_is_contact(crossing: Contacts) -> None:
    (ax,) = contact_map(crossing).axes
    shown = lines(ax)
    np.testing.assert_allclose(shown["a, in contact"], [[[-300, 0], [300, 0]]])
    assert shown["b, in contact"] == []
    # Only the 40 s of the rounds are drawn.
    whole = [s for label, group in shown.items() if label.startswith("_") for s in group]
    np.testing.assert_allclose(whole[0], [[-500, 0], [300, 0]])
    np.testing.assert_allclose(whole[1], [[-500, 400], [100, 400]])
    (disc,) = [p for p in ax.patches if isinstance(p, Circle)]
    assert disc.get_radius() == 300.0
    assert disc.get_label() == "reach, 300 m"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("east (m)", "north (m)")
    assert ax.get_aspect() == 1.0
    assert ax.get_title(loc="left") == (
        "2 devices are in contact 38 % of the time, from 0 % to 75 %"
    )


def test_a_crowd_shares_one_colour_and_the_margin_crops() -> None:
    model = RandomWaypoint(5.0, 20.0)
    found = model.contacts(rounds=30, round_s=10.0, devices=9, rng=np.random.default_rng(0))
    (ax,) = contact_map(found, margin_m=50.0).axes
    shown = lines(ax)
    assert set(shown) == {"out of contact", "in contact"}
    assert len(shown["in contact"]) == sum(len(each) for each in found.intervals)
    assert ax.get_xlim() == (650.0, 1350.0)
    for line in shown["in contact"]:
        assert np.linalg.norm(line - 1000.0, axis=1).max() <= 300.0 * (1 + 1e-9)


def test_chosen_devices_and_given_axes() -> None:
    model = ManhattanGrid(20.0)
    found = model.contacts(rounds=90, round_s=10.0, devices=12, rng=np.random.default_rng(0))
    _, (left, right) = plt.subplots(1, 2)
    figure = contact_map(found, devices=[3, 0], ax=left)
    assert contact_timeline(found, devices=np.array([3, 0]), ax=right) is figure
    named = [label for label in lines(left) if not label.startswith("_")]
    assert named == ["device 3, in contact", "device 0, in contact"]
    assert len([p for p in left.patches if isinstance(p, Circle)]) == 2
    assert [t.get_text() for t in right.get_yticklabels()] == ["3", "0"]
    figure.draw_without_rendering()


def test_bars_are_the_contacts(crossing: Contacts) -> None:
    (ax,) = contact_timeline(crossing).axes
    first, second = bars(ax)
    np.testing.assert_allclose(first, [[10.0, 40.0, 0.0]])
    assert second == []
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xlim() == (0.0, 40.0)
    assert ax.get_ylim() == (1.5, -0.5)
    assert {0.0, 10.0, 20.0, 30.0, 40.0} <= {*ax.get_xticks(minor=True), *ax.get_xticks()}
    assert [t.get_text() for t in ax.texts] == ["75 %", "0 %"]
    assert ax.get_xlabel() == "time since round 0 (s); a round is 10 s"


@pytest.mark.parametrize(
    ("round_s", "rounds", "unit", "last"),
    [(1.0, 100, "s", 100.0), (10.0, 60, "min", 600.0), (60.0, 600, "h", 36_000.0),
     (3600.0, 240, "days", 864_000.0)],
)  # fmt: skip
def test_ticks_are_at_whole_units(round_s: float, rounds: int, unit: str, last: float) -> None:
    found = Contacts.always(rounds, 1, round_s=round_s)
    (ax,) = contact_timeline(found).axes
    assert f"({unit})" in ax.get_xlabel()
    assert ax.get_xticks()[-1] == pytest.approx(last)
    size = {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]
    assert float(ax.get_xticklabels()[-1].get_text()) == pytest.approx(last / size)


def test_seconds_alone_begin_with_their_round() -> None:
    found = Contacts([[4.0, 0.0], [0.0, 2.5]], 50.0, round_s=10.0, start_s=100.0)
    (ax,) = contact_timeline(found).axes
    first, second = bars(ax)
    np.testing.assert_allclose(first, [[100.0, 104.0, 0.0]])
    np.testing.assert_allclose(second, [[110.0, 112.5, 1.0]])


def test_many_devices_have_no_names() -> None:
    model = ExponentialContacts(20.0)
    found = model.contacts(rounds=30, round_s=10.0, devices=60, rng=np.random.default_rng(0))
    (ax,) = contact_timeline(found).axes
    assert len(ax.texts) == 0
    assert ax.figure.get_size_inches()[1] < 13


def test_nobody_and_no_time() -> None:
    (ax,) = contact_timeline(Contacts.always(3, 0, round_s=1.0)).axes
    assert ax.get_title(loc="left") == ""
    contact_timeline(Contacts.always(0, 2, round_s=1.0)).draw_without_rendering()


def test_what_cannot_be_drawn_is_said(crossing: Contacts) -> None:
    with pytest.raises(InvalidProblem, match="these contacts have no places to draw"):
        contact_map(Contacts.always(3, 2, round_s=1.0))
    for draw in (contact_map, contact_timeline):
        with pytest.raises(InvalidProblem, match=r"devices\[1\] = 2 is outside 0, \.\.\., 1"):
            draw(crossing, devices=[0, 2])


def test_files_and_settings(crossing: Contacts, tmp_path) -> None:
    before = dict(plt.rcParams)
    for draw in (contact_map, contact_timeline):
        assert save(draw(crossing), tmp_path / draw.__name__).stat().st_size > 5000
    assert dict(plt.rcParams) == before
    assert _style.COLOURS[0] == "#0072B2"
