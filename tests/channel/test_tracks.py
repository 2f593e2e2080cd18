"""Readers of recorded motion, cleaning, projection, and the real vessel tracks."""

import gzip
import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.channel import Discs, contacts_of, tracks
from rralloc.channel.tracks import (
    NY_HARBOR_WEEK,
    THE_BATTERY,
    clean_tracks,
    local_metres,
    read_ais,
    read_csv,
    read_sumo,
    read_traj,
)
from rralloc.errors import InvalidProblem, MissingData, ScenarioError

# -- the projection -------------------------------------------------------------------------------


def geocentric(longitude, latitude):
    """Position in space on the WGS 84 ellipsoid, m."""
    a, f = 6378137.0, 1 / 298.257223563
    lon, lat = np.radians(longitude), np.radians(latitude)
    n = a / np.sqrt(1 - f * (2 - f) * np.sin(lat) ** 2)
    flat = n * np.cos(lat)
    return np.stack(
        [flat * np.cos(lon), flat * np.sin(lon), n * (1 - f) ** 2 * np.sin(lat)], axis=-1
    )


@given(st.floats(-180, 180), st.floats(-70, 70), st.floats(0, 2 * math.pi), st.floats(1, 7000))
def test_distances_are_those_on_the_ellipsoid(lon, lat, angle, way_m) -> None:
    east = way_m * math.cos(angle) / 111_320 / math.cos(math.radians(lat))
    north = way_m * math.sin(angle) / 111_320
    xy = local_metres(lon + east, lat + north, (lon, lat))
    chord = np.linalg.norm(geocentric(lon + east, lat + north) - geocentric(lon, lat))
    # The stated error D² tan(φ)/M, and a hundredth more: chord against arc is 1e-7 of 7 km.
    slack = way_m**2 * math.tan(math.radians(abs(lat) + 0.1)) / 6.335e6
    assert abs(np.hypot(*xy) - chord) <= 1.01 * slack + 1e-6 * way_m
    assert np.sign(xy[0]) == np.sign(round(east, 12)) or abs(xy[0]) < 1e-3


def test_a_degree_is_as_long_as_the_tables_say() -> None:
    # Lengths of a degree at 45° of latitude, Clarke's formula for WGS 84: 111132.0 and 78846.8 m.
    north = local_metres(0.0, 45.0005, (0.0, 44.9995))[1] * 1000
    east = local_metres(1.0, 45.0, (0.0, 45.0))[0]
    assert north == pytest.approx(111132.0, abs=2.0)
    assert east == pytest.approx(78846.8, abs=0.1)


def test_the_shorter_way_round_the_globe() -> None:
    xy = local_metres([-179.9, 180.1], 0.0 * np.ones(2), (179.9, 0.0))
    np.testing.assert_allclose(xy[:, 0], 0.2 * math.radians(1) * 6378137.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: local_metres(361.0, 0.0, (0, 0)), r"longitude = 361\.0 degrees is outside \[-360"),
        (lambda: local_metres(0.0, [0.0, 90.0], (0, 0)), r"latitude\[1\] = 90\.0 degrees"),
        (lambda: local_metres(0.0, 0.0, (0, 90)), r"origin latitude = 90\.0 degrees"),
        (lambda: local_metres(0.0, 0.0, (0, 0, 0)), r"origin has shape \(3,\)"),
        (lambda: local_metres(0.0, np.nan, (0, 0)), r"latitude = nan degrees"),
    ],
)
def test_degrees_are_checked(make, words) -> None:
    with pytest.raises(InvalidProblem, match=words):
        make()


# -- cleaning -------------------------------------------------------------------------------------


def straight(times, speed=10.0):
    return np.stack([speed * np.asarray(times, dtype=float), np.zeros(len(times))], axis=1)


def test_sorted_without_repeats_and_split_at_gaps() -> None:
    time = [30.0, 0.0, 10.0, 10.0, 200.0, 210.0, 500.0]
    where = straight(time)
    where[3] = [999.0, 999.0]  # the second at 10 s
    found = clean_tracks([("a", time, where)], gap_s=60.0)
    assert [t.time_s.tolist() for t in found.tracks] == [[0, 10, 30], [200, 210]]
    np.testing.assert_allclose(found.tracks[0].position_m, straight([0, 10, 30]))
    assert found.dropped == {"repeated time": 1, "impossible speed": 0, "single point": 1}
    assert (found.names, found.points, found.span_s) == (("a",), 5, (0.0, 210.0))


def test_a_point_out_of_line_is_dropped_and_a_lasting_jump_splits() -> None:
    time = np.arange(10.0)
    where = straight(time)
    where[4] += [0.0, 5000.0]
    found = clean_tracks([("a", time, where)], fastest_m_per_s=30.0)
    (track,) = found.tracks
    assert track.time_s.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert found.dropped["impossible speed"] == 1
    where = straight(time)
    where[6:] += [0.0, 5000.0]
    found = clean_tracks([("a", time, where)], fastest_m_per_s=30.0)
    assert [t.time_s[[0, -1]].tolist() for t in found.tracks] == [[0, 5], [6, 9]]
    assert found.dropped["impossible speed"] == 0
    # A wrong first or last point remains alone.
    for wrong in (0, -1):
        where = straight(time)
        where[wrong] += [0.0, 5000.0]
        found = clean_tracks([("a", time, where)], fastest_m_per_s=30.0)
        assert [t.time_s.size for t in found.tracks] == [9]
        assert found.dropped["single point"] == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(-500, 500), st.floats(-500, 500)),
        min_size=0,
        max_size=25,
    ),
    st.sampled_from([2.0, 7.0, math.inf]),
    st.sampled_from([30.0, 200.0, math.inf]),
)
def test_clean_tracks_are_clean(points, gap_s, fastest) -> None:
    time = np.array([p[0] for p in points], dtype=float)
    where = np.array([p[1:] for p in points], dtype=float).reshape(-1, 2)
    found = clean_tracks([("a", time, where)], gap_s=gap_s, fastest_m_per_s=fastest)
    for track in found.tracks:
        assert track.time_s.size >= 2
        assert np.diff(track.time_s).max() <= gap_s
        assert track.speed_m_per_s.max() <= fastest * (1 + 1e-12)
        for t, xy in zip(track.time_s, track.position_m):
            assert np.any((time == t) & np.all(where == xy, axis=1))  # nothing is made up
    assert found.points + sum(found.dropped.values()) == len(points)
    # Clean twice is clean once; no two tracks overlap.
    again = clean_tracks(
        [(t.name, t.time_s, t.position_m) for t in found.tracks],
        gap_s=gap_s,
        fastest_m_per_s=fastest,
    )
    assert [t.time_s.tolist() for t in again.tracks] == [t.time_s.tolist() for t in found.tracks]
    contacts_of(found.tracks, Discs(100.0), rounds=3, round_s=10.0)


@pytest.mark.parametrize(
    ("record", "settings", "words"),
    [
        (("a", [0, 1], [[0, 0]] * 2), {"gap_s": 0.0}, r"gap_s = 0\.0 s is outside \(0, inf\] s"),
        (("a", [0, 1], [[0, 0]] * 2), {"fastest_m_per_s": -1.0}, r"fastest_m_per_s = -1\.0 m/s"),
        (("a", [0, np.nan], [[0, 0]] * 2), {}, r"record 'a': time_s\[1\] = nan s"),
        (("a", [0, 1], [[0, np.inf]] * 2), {}, r"record 'a': position_m\[0, 1\] = inf m"),
        (("a", [0, 1], [[0, 0]]), {}, r"time_s has shape \(2,\) and position_m \(1, 2\)"),
    ],
)
def test_records_are_checked(record, settings, words) -> None:
    with pytest.raises(InvalidProblem, match=words):
        clean_tracks([record], **settings)


def test_nothing_left_has_no_span() -> None:
    found = clean_tracks([("a", [1.0], [[0.0, 0.0]])])
    assert found.dropped["single point"] == 1
    with pytest.raises(InvalidProblem, match="every point was left out"):
        _ = found.span_s


# -- CSV ------------------------------------------------------------------------------------------

PLAIN = """# made by hand
time,id,x,y,note
0,car 1,0.0,0.0,
0,car 2,5,5,"stops, waits"
10,car 1,30.0,40.0,
10,car 2,5,5,
"""


def test_plain_csv(tmp_path) -> None:
    (tmp_path / "a.csv").write_text(PLAIN)
    found = read_csv(tmp_path / "a.csv")
    assert found.names == ("car 1", "car 2")
    assert found.origin is None
    assert found.began == ""
    np.testing.assert_allclose(found.tracks[0].position_m, [[0, 0], [30, 40]])
    np.testing.assert_allclose(found.tracks[1].speed_m_per_s, [0.0])
    with gzip.open(tmp_path / "a.csv.gz", "wt") as file:
        file.write(PLAIN)
    again = read_csv(str(tmp_path / "a.csv.gz"))
    np.testing.assert_array_equal(again.tracks[0].time_s, found.tracks[0].time_s)


def test_csv_by_position_with_dates_and_degrees(tmp_path) -> None:
    lines = ["7,2020-12-01 00:01:10,-74.0,40.001", "7,2020-12-01T00:00:00Z,-74.0,40.0"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    columns = {"device": 0, "time": 1, "x": 2, "y": 3}
    found = read_csv(tmp_path / "a.csv", **columns, geographic=True)
    (track,) = found.tracks
    assert track.time_s.tolist() == [0.0, 70.0]
    assert found.began == "2020-12-01T00:00:00Z"
    assert found.origin == pytest.approx((-74.0, 40.0005))
    np.testing.assert_allclose(track.position_m[:, 1], [-55.5, 55.5], atol=0.1)
    at_zero = read_csv(tmp_path / "a.csv", **columns, geographic=True, origin=(-74.0, 40.0))
    np.testing.assert_allclose(at_zero.tracks[0].position_m[0], 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"no column id, time, x, y; its first line names nothing"),
        ("id,time,x\n", r"no column y; its first line names id, time, x: say which"),
        ("id,time,x,y\na,0,1\n", r"point 1 has 3 fields and needs 4"),
        ("id,time,x,y\na,0,1,north\n", r"coordinate 'north' is not a number"),
        ("id,time,x,y\na,noon,1,2\n", r"time is neither seconds nor an ISO date"),
    ],
)
def test_broken_csv(tmp_path, text, words) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ScenarioError, match=words):
        read_csv(tmp_path / "a.csv")


def test_a_csv_without_points_and_one_that_is_not_there(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("id,time,x,y\n")
    assert read_csv(tmp_path / "a.csv").tracks == ()
    assert read_csv(tmp_path / "a.csv", geographic=True).tracks == ()
    for reader in (read_csv, read_sumo, read_traj):
        with pytest.raises(MissingData, match=r"nothing\.csv is not there"):
            reader(tmp_path / "nothing.csv")
    (tmp_path / "b.csv").write_text("id,time,x,y\na,0,nan,1\na,1,2,3\n")
    with pytest.raises(InvalidProblem, match=r"record 'a': position_m\[0, 0\] = nan m"):
        read_csv(tmp_path / "b.csv")


# -- SUMO -----------------------------------------------------------------------------------------

FCD = """<?xml version="1.0" encoding="UTF-8"?>
<!-- generated by SUMO -->
<fcd-export xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
    <timestep time="0.00">
        <vehicle id="a" x="0.00" y="0.00" angle="90.00" type="car" speed="10.00" lane="e_0"/>
        <person id="p" x="7.00" y="7.00" angle="0.00" speed="0.00" edge="e"/>
    </timestep>
    <timestep time="1.00">
        <vehicle id="a" x="10.00" y="0.00" speed="10.00"/>
    </timestep>
    <timestep time="2.00"/>
    <timestep time="3.00">
        <vehicle id="a" x="50.00" y="0.00"/>
    </timestep>
    <timestep time="4.00">
        <vehicle id="a" x="50.00" y="9.00"/>
    </timestep>
</fcd-export>
"""


def test_sumo(tmp_path) -> None:
    (tmp_path / "fcd.xml").write_text(FCD)
    found = read_sumo(tmp_path / "fcd.xml")
    # Vehicle a is away in one step, which is a gap; the person is seen once only.
    assert [(t.name, t.time_s.tolist()) for t in found.tracks] == [("a", [0, 1]), ("a", [3, 4])]
    assert found.dropped["single point"] == 1
    whole = read_sumo(tmp_path / "fcd.xml", gap_s=10.0)
    np.testing.assert_allclose(whole.tracks[0].position_m, [[0, 0], [10, 0], [50, 0], [50, 9]])
    with gzip.open(tmp_path / "fcd.xml.gz", "wt") as file:
        file.write(FCD)
    assert read_sumo(tmp_path / "fcd.xml.gz").points == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FCD.replace("</fcd-export>", ""), "is not floating car data of SUMO"),
        (FCD.replace('id="a" x="10.00"', 'id="a"'), "attribute 'x' is missing"),
        (FCD.replace('time="1.00"', 'time="noon"'), "could not convert"),
        ("<routes><vehicle id='a'/></routes>", "it starts with <routes>"),
        (FCD.replace('y="9.00"', 'y="up"'), "coordinate 'up' is not a number"),
    ],
)
def test_broken_sumo(tmp_path, text, words) -> None:
    (tmp_path / "fcd.xml").write_text(text)
    with pytest.raises(ScenarioError, match=words):
        read_sumo(tmp_path / "fcd.xml")


# -- the .traj format and the package -------------------------------------------------------------

TRAJ = (
    "*T*,92d1,terrestrial,3,0,*P*,terrestrial,2,1,1,0,"
    "367,2020-12-08 02:21:44,-74.0,40.0,367,2020-12-08 02:22:44,-74.0,40.001,"
    "367,2020-12-08 02:24:44,-74.0,40.002\n"
    '*T*,generic,2,0,*P*,generic,2,1,1,2,eta,3,name,2,9,2020-12-08 02:22:44,-74.1,40.1,x,"A, B",'
    "9,2020-12-08 02:23:44,-74.1,40.1,x,C\n"
)


def test_traj_with_and_without_properties(tmp_path) -> None:
    (tmp_path / "a.traj").write_text(TRAJ)
    found = read_traj(tmp_path / "a.traj", origin=(-74.0, 40.0))
    assert [(t.name, t.time_s.tolist()) for t in found.tracks] == [
        ("367", [0, 60, 180]),
        ("9", [60, 120]),
    ]
    np.testing.assert_allclose(found.tracks[0].position_m[:, 1], [0, 111.0, 222.1], atol=0.1)
    assert found.began == "2020-12-08T02:21:44Z"
    assert len(read_traj(tmp_path / "a.traj", gap_s=100.0).tracks) == 2


@pytest.mark.parametrize(
    "line",
    ["hello", TRAJ.replace("*T*", "*X*"), TRAJ.split(",367,2020-12-08 02:24:44")[0] + ",367",
     "*T*,a,b,*P*,terrestrial,2,1,1,0", TRAJ.replace("terrestrial,2,1,1,0", "cartesian,3,1,1,0")],
)  # fmt: skip
def test_broken_traj(tmp_path, line) -> None:
    (tmp_path / "a.traj").write_text(line)
    with pytest.raises(ScenarioError, match="line 1 is not a track of two coordinates"):
        read_traj(tmp_path / "a.traj")


def test_a_missing_package_says_the_command(monkeypatch) -> None:
    monkeypatch.setattr(tracks, "find_spec", lambda name: None)
    with pytest.raises(MissingData, match=r'pip install "rralloc\[ais\]"'):
        read_ais()


def test_the_package_is_found_by_its_folder_and_not_imported(tmp_path, monkeypatch) -> None:
    data = tmp_path / "tracktable_data" / "python_example_data"
    data.mkdir(parents=True)
    (tmp_path / "tracktable_data" / "__init__.py").write_text("raise RuntimeError('imported')")
    (data / NY_HARBOR_WEEK).write_text(TRAJ)
    table = "BaseDateTime,LON,LAT,MMSI,SOG\n2020-06-30T00:00:00,-74.02,40.7,3,0\n"
    (data / "hour.csv").write_text(table + "2020-06-30T00:01:00,-74.02,40.701,3,0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert read_ais().names == ("367", "9")
    found = read_ais("hour.csv")
    np.testing.assert_allclose(found.tracks[0].position_m, [[0, 0], [0, 111.05]], atol=0.1)
    with pytest.raises(MissingData, match=f"no file 'sea.traj'; it has {NY_HARBOR_WEEK}"):
        read_ais("sea.traj")


@pytest.fixture(scope="module")
def week():
    if importlib.util.find_spec("tracktable_data") is None:
        pytest.skip('needs tracktable-data: pip install "rralloc[ais]"')
    return read_ais()


def test_a_week_in_new_york_harbour(week) -> None:
    # Vessels and points as counted in the file by hand.
    assert len(week.names) == 140
    assert week.points + sum(week.dropped.values()) == 172_679
    assert week.began == "2020-12-01T04:49:45Z"
    assert week.span_s == (0.0, 585_606.0)
    assert week.origin == THE_BATTERY
    assert max(t.speed_m_per_s.max() for t in week.tracks) <= 30.0
    apart = [np.hypot(*t.position_m.T).max() for t in week.tracks]
    assert max(apart) < 50_000


def test_vessels_off_the_battery_have_the_contacts_of_the_specification(week) -> None:
    rounds = int(week.span_s[1] // 60)
    found = contacts_of(week.tracks, Discs(1000.0), rounds=rounds, round_s=60.0)
    lengths = np.concatenate(found.durations_s)
    # Printed: 746 contacts, coefficient of variation 1.01; medians 1120, 290, 170 s for the slow,
    # middle and fast third. The place is not printed to the metre, hence the bands.
    assert abs(lengths.size - 746) < 30
    assert abs(lengths.std() / lengths.mean() - 1.01) < 0.05
    way = {name: [t for t in week.tracks if t.name == name] for name in found.names}
    speed = [
        sum(part.length_m for t in way[name] if (part := t.part(*span)) is not None)
        / (span[1] - span[0])
        for name, each in zip(found.names, found.intervals)
        for span in each
    ]
    thirds = np.array_split(np.argsort(speed), 3)
    medians = [np.median(lengths[third]) for third in thirds]
    np.testing.assert_allclose(medians, [1120, 290, 170], rtol=0.05)
