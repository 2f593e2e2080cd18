"""Seconds and distance of contacts: against sampling, closed forms, and what must not matter."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.channel import Contacts, Discs, Track, contacts_of, free_space, macro_3gpp
from rralloc.errors import InvalidProblem

# -- the oracle: look often -----------------------------------------------------------------------


def sampled(tracks, discs, names, rounds, round_s, start_s=0.0, looks=4000):
    """Seconds and root mean square distance by looking at evenly spaced times of each round."""
    step = round_s / looks
    time = start_s + step * (np.arange(rounds * looks) + 0.5)
    nearest = np.full((len(names), time.size), np.inf)
    for track in tracks:
        there = (time >= track.time_s[0]) & (time <= track.time_s[-1])
        xy = np.stack([np.interp(time, track.time_s, x) for x in track.position_m.T], axis=-1)
        away = np.min([np.linalg.norm(xy - c, axis=1) for c in discs.centre_m], axis=0)
        row = names.index(track.name)
        nearest[row] = np.where(there, away, nearest[row])
    nearest = nearest.reshape(len(names), rounds, looks)
    inside = nearest <= discs.radius_m
    count = inside.sum(-1)
    square = np.where(inside, nearest, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        return step * count.T, np.sqrt(square.sum(-1) / count).T


coordinates = st.floats(-100, 100)
steps_s = st.floats(0.05, 8)


@st.composite
def worlds(draw):
    """Up to three devices with up to two tracks each, up to three servers."""
    tracks = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        time = draw(st.floats(-5, 5))
        for _ in range(draw(st.integers(1, 2))):
            steps = draw(st.lists(steps_s, min_size=1, max_size=4))
            times = time + np.cumsum([0.0, *steps])
            places = [(draw(coordinates), draw(coordinates)) for _ in times]
            tracks.append(Track(times, places, name))
            time = times[-1] + draw(st.sampled_from([0.0, 1.5]))
    servers = draw(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=3))
    return tracks, Discs(draw(st.floats(10, 90)), servers)


def study(tracks, discs, **changed):
    return contacts_of(tracks, discs, **({"rounds": 5, "round_s": 4.0} | changed))


def same(found, expected, rtol=1e-9, atol=1e-7):
    """Equal up to rounding; near a touch, a contact of some 1e-7 s may or may not be there."""
    np.testing.assert_allclose(found.seconds, expected.seconds, rtol=rtol, atol=atol)
    sure = (found.seconds > 10 * atol) & (expected.seconds > 10 * atol)
    np.testing.assert_allclose(found.distance_m[sure], expected.distance_m[sure], rtol=1e-5)


@given(worlds())
def test_sampling_agrees(world) -> None:
    tracks, discs = world
    found = study(tracks, discs)
    seconds, distance = sampled(tracks, discs, list(found.names), 5, 4.0)
    # Each time a contact begins or ends, or a track does, a look of 1 ms is right or wrong.
    slack = 20 * 4.0 / 4000
    np.testing.assert_allclose(found.seconds, seconds, atol=slack)
    sure = seconds > 0.5
    np.testing.assert_allclose(found.distance_m[sure], distance[sure], rtol=20 * slack, atol=slack)


def test_many_looks_agree_closely() -> None:
    rng = np.random.default_rng(3)
    tracks = [
        Track(np.cumsum(rng.uniform(1, 9, 40)), rng.uniform(-300, 300, (40, 2)), name)
        for name in "ab"
    ]
    discs = Discs(120.0, rng.uniform(-200, 200, (6, 2)))
    found = study(tracks, discs, rounds=10, round_s=20.0, start_s=7.0)
    seconds, distance = sampled(tracks, discs, ["a", "b"], 10, 20.0, 7.0, looks=30_000)
    np.testing.assert_allclose(found.seconds, seconds, atol=20 * 20.0 / 30_000)
    sure = seconds > 1.0
    assert sure.sum() > 10
    np.testing.assert_allclose(found.distance_m[sure], distance[sure], rtol=1e-3)


# -- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 100.0, 299.0, 299.999999])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
def test_a_chord(offset: float, angle: float) -> None:
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    ends = np.array([[-1000.0, offset], [1000.0, offset]]) @ turn
    found = study([Track([0.0, 100.0], ends)], Discs(300.0), rounds=1, round_s=100.0)
    half = math.sqrt((300.0 - offset) * (300.0 + offset))
    # The offset is known to 1e-13 m, which a root of what is left of the radius enlarges.
    assert found.seconds[0, 0] == pytest.approx(2 * half / 20, rel=1e-12 / (300.0 - offset) + 1e-9)
    assert found.distance_m[0, 0] == pytest.approx(math.sqrt(offset**2 + half**2 / 3), rel=1e-9)
    ((begin, end),) = found.intervals[0]
    assert (begin + end) / 2 == pytest.approx(50.0)


def test_rounds_share_a_contact() -> None:
    track = Track([0.0, 50.0], [[-500.0, 0.0], [500.0, 0.0]])
    found = study([track], Discs(300.0), rounds=8, round_s=7.0, start_s=1.0)
    # In contact from 10 s to 40 s; rounds end at 8, 15, 22, 29, 36, 43, ...
    np.testing.assert_allclose(found.seconds[:, 0], [0, 5, 7, 7, 7, 4, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.intervals[0], [[10.0, 40.0]])
    assert found.present[:, 0].tolist() == [False, True, True, True, True, True, False, False]
    assert np.isinf(found.distance_m[0, 0])
    # 15 to 22 s at 20 m/s: from -200 m to -60 m; mean square (y² + yz + z²)/3.
    assert found.distance_m[2, 0] == pytest.approx(math.sqrt((200**2 + 200 * 60 + 60**2) / 3))


def test_two_discs_hand_over_at_their_border() -> None:
    track = Track([0.0, 40.0], [[-200.0, 0.0], [200.0, 0.0]])
    discs = Discs(100.0, [[-60.0, 0.0], [60.0, 0.0]])
    found = study([track], discs, rounds=1, round_s=40.0)
    # From -160 to 160 m without a break, 60 m behind and 100 m ahead of each server.
    np.testing.assert_allclose(found.intervals[0], [[4.0, 36.0]])
    assert found.seconds[0, 0] == pytest.approx(32.0)
    square = (100**3 + 60**3) / 3 / 160
    assert found.distance_m[0, 0] == pytest.approx(math.sqrt(square))


def test_touching_discs_and_tangents() -> None:
    tangent = Track([0.0, 40.0], [[-200.0, 100.0], [200.0, 100.0]])
    assert study([tangent], Discs(100.0), rounds=1, round_s=40.0).seconds[0, 0] == 0
    through = Track([0.0, 40.0], [[-200.0, 0.0], [200.0, 0.0]])
    apart = Discs(50.0, [[-50.0, 0.0], [50.0, 0.0]])
    found = study([through], apart, rounds=1, round_s=40.0)
    assert found.seconds[0, 0] == pytest.approx(20.0)


# -- degenerate motion ----------------------------------------------------------------------------


@pytest.mark.parametrize(("away", "expected"), [(0.0, 4.0), (100.0, 4.0), (100.001, 0.0)])
def test_a_device_that_stands(away: float, expected: float) -> None:
    track = Track([-1.0, 6.0, 30.0], [[away, 0.0]] * 3)
    found = study([track], Discs(100.0))
    np.testing.assert_allclose(found.seconds[:, 0], expected, rtol=1e-12)
    if expected:
        np.testing.assert_allclose(found.distance_m[:, 0], away)
        np.testing.assert_allclose(found.intervals[0], [[0.0, 20.0]])
        assert found.share == pytest.approx(1.0)
    else:
        assert np.all(np.isinf(found.distance_m))
        assert found.intervals[0].shape == (0, 2)
        assert found.probability == 0


def test_always_and_never_in_contact() -> None:
    roaming = Track(np.linspace(0, 20, 9), np.random.default_rng(0).uniform(-50, 50, (9, 2)))
    found = study([roaming], Discs(100.0))
    np.testing.assert_allclose(found.seconds, 4.0, rtol=1e-12)
    assert np.all(found.seconds <= 4.0)
    assert found.durations_s[0].size == 0  # cut at both ends
    assert study([roaming], Discs(1.0, [1e6, 1e6])).seconds.sum() == 0


def test_outside_its_tracks_a_device_is_out_of_contact() -> None:
    tracks = [Track([2.0, 3.0], [[0.0, 0.0]] * 2), Track([9.0, 11.0], [[0.0, 0.0]] * 2)]
    found = study(tracks, Discs(1.0))
    np.testing.assert_allclose(found.seconds[:, 0], [1, 0, 2, 0, 0])
    np.testing.assert_allclose(found.gaps_s[0], [6.0])
    # One after the other without a break is one contact.
    joined = study([Track([2.0, 3.0], [[0, 0]] * 2), Track([3.0, 5.0], [[0, 0]] * 2)], Discs(1.0))
    np.testing.assert_allclose(joined.intervals[0], [[2.0, 5.0]])


def test_contacts_of_two_devices_are_never_one() -> None:
    tracks = [Track([0, 4], HERE, "a"), Track([4, 8], HERE, "b")]
    first, second = study(tracks, Discs(1.0)).intervals
    np.testing.assert_array_equal(first, [[0, 4]])
    np.testing.assert_array_equal(second, [[4, 8]])


def test_names_choose_and_order_devices() -> None:
    tracks = [Track([0.0, 4.0], [[0.0, 0.0]] * 2, name) for name in ("ferry", "tug")]
    assert study(tracks, Discs(1.0)).names == ("ferry", "tug")
    found = study(tracks, Discs(1.0), names=["tug", "ghost"])
    np.testing.assert_allclose(found.seconds[0], [4.0, 0.0])
    assert [t.name for t in found.tracks] == ["tug"]
    nobody = study([], Discs(1.0))
    assert nobody.seconds.shape == (5, 0)
    assert study(tracks, Discs(1.0), rounds=0).seconds.shape == (0, 2)


# -- what must not matter -------------------------------------------------------------------------


def moved(tracks, discs, change):
    return (
        [Track(t.time_s, change(t.position_m), t.name) for t in tracks],
        Discs(discs.radius_m, change(discs.centre_m)),
    )


@given(worlds(), coordinates, coordinates, st.floats(0, 7))
def test_translation_and_rotation(world, x, y, angle) -> None:
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # A touch of the circle moves by sqrt(rounding): 1e-5 s is generous for 1e-13 m.
    turned = study(*moved(*world, lambda xy: xy @ turn + [x, y]))
    same(turned, study(*world), rtol=1e-6, atol=1e-5)


@given(worlds(), st.floats(0.1, 10))
def test_units_of_time_and_length(world, factor) -> None:
    tracks, discs = world
    expected = study(tracks, discs)
    slower = [Track(factor * t.time_s, t.position_m, t.name) for t in tracks]
    found = study(slower, discs, round_s=4.0 * factor)
    np.testing.assert_allclose(found.seconds, factor * expected.seconds, rtol=1e-6, atol=1e-4)
    larger, far = moved(tracks, discs, lambda xy: factor * xy)
    found = study(larger, Discs(discs.radius_m * factor, far.centre_m))
    np.testing.assert_allclose(found.seconds, expected.seconds, rtol=1e-6, atol=1e-5)


@given(worlds())
def test_twice_the_speed_is_half_the_contact(world) -> None:
    tracks, discs = world
    whole = {"rounds": 1, "round_s": 200.0, "start_s": -50.0}
    fast = [Track(t.time_s / 2, t.position_m, t.name) for t in tracks]
    found, expected = study(fast, discs, **whole), study(tracks, discs, **whole)
    np.testing.assert_allclose(2 * found.seconds, expected.seconds, rtol=1e-6, atol=1e-5)
    sure = expected.seconds > 1e-3
    np.testing.assert_allclose(found.distance_m[sure], expected.distance_m[sure], rtol=1e-5)


@given(worlds())
def test_time_reversed(world) -> None:
    tracks, discs = world
    back = [Track(20.0 - t.time_s[::-1], t.position_m[::-1], t.name) for t in tracks]
    names = sorted({t.name for t in tracks})
    found, expected = study(back, discs, names=names), study(tracks, discs, names=names)
    np.testing.assert_allclose(found.seconds[::-1], expected.seconds, rtol=1e-6, atol=1e-5)


@given(worlds(), st.floats(0.01, 0.99))
def test_a_point_more_and_the_order_of_servers(world, share) -> None:
    tracks, discs = world
    split = []
    for t in tracks:
        between = (1 - share) * t.time_s[:-1] + share * t.time_s[1:]
        times = np.unique(np.concatenate([t.time_s, between]))
        split.append(Track(times, t.at(times), t.name))
    again = Discs(discs.radius_m, np.concatenate([discs.centre_m[::-1], discs.centre_m[:1]]))
    same(study(split, again), study(tracks, discs), rtol=1e-6, atol=1e-5)


@given(worlds(), st.floats(1.0, 3.0))
def test_a_longer_reach_is_never_less_contact(world, factor) -> None:
    tracks, discs = world
    wide = Discs(factor * discs.radius_m, discs.centre_m)
    assert np.all(study(tracks, wide).seconds >= study(tracks, discs).seconds - 1e-9)


@given(worlds())
def test_rounds_add_up_and_intervals_say_the_same(world) -> None:
    tracks, discs = world
    found = study(tracks, discs)
    halves = study(tracks, discs, rounds=10, round_s=2.0)
    summed = halves.seconds.reshape(5, 2, -1).sum(1)
    np.testing.assert_allclose(summed, found.seconds, rtol=1e-9, atol=1e-9)
    spent = [float((each[:, 1] - each[:, 0]).sum()) for each in found.intervals]
    np.testing.assert_allclose(found.seconds.sum(0), spent, rtol=1e-9, atol=1e-9)
    again = Contacts.from_intervals(found.intervals, rounds=5, round_s=4.0)
    np.testing.assert_allclose(again.seconds, found.seconds, rtol=1e-9, atol=1e-9)
    reached = found.distance_m[found.present]
    assert np.all((reached >= 0) & (reached <= discs.radius_m))
    assert np.all((found.seconds >= 0) & (found.seconds <= 4.0))


# -- contacts without motion ----------------------------------------------------------------------


def test_from_intervals_by_hand() -> None:
    log = [[[-5.0, 3.0], [3.0, 4.0], [18.0, np.inf]], [], [[25.0, 26.0]]]
    found = Contacts.from_intervals(log, rounds=3, round_s=7.0, distance_m=80.0, names=list("abc"))
    np.testing.assert_allclose(found.seconds, [[4, 0, 0], [0, 0, 0], [3, 0, 0]])
    np.testing.assert_allclose(found.distance_m[:, 0], [80, np.inf, 80])
    np.testing.assert_allclose(found.intervals[0], [[0, 3], [3, 4], [18, 21]])
    assert found.intervals[1].shape == (0, 2) == found.intervals[2].shape
    np.testing.assert_allclose(found.durations_s[0], [1.0])
    np.testing.assert_allclose(found.gaps_s[0], [0.0, 14.0])
    np.testing.assert_allclose(found.share, [7 / 21, 0, 0])
    np.testing.assert_allclose(found.probability, [2 / 3, 0, 0])


def test_synchronous_training_has_everyone_all_the_time() -> None:
    found = Contacts.always(3, 2, round_s=10.0, distance_m=[50.0, 70.0])
    np.testing.assert_array_equal(found.seconds, 10.0)
    np.testing.assert_array_equal(found.distance_m, [[50.0, 70.0]] * 3)
    np.testing.assert_array_equal(found.share, 1.0)
    np.testing.assert_array_equal(found.intervals[1], [[0.0, 30.0]])
    assert Contacts.always(0, 2, round_s=10.0).rounds == 0


def test_path_gain_is_zero_out_of_contact() -> None:
    found = Contacts([[3.0, 0.0, 1.0]], [[200.0, 200.0, 2.0]], 4.0)
    expected = [[macro_3gpp(200.0), 0.0, macro_3gpp(10.0)]]
    np.testing.assert_allclose(found.path_gain(), expected)
    law = partial(free_space, carrier_hz=2.4e9)
    np.testing.assert_allclose(found.path_gain(law, min_distance_m=1.0)[0, 2], law(2.0))
    with pytest.raises(InvalidProblem, match=r"min_distance_m = 0\.0 m is outside \(0, inf\)"):
        found.path_gain(min_distance_m=0.0)


def test_results_do_not_change() -> None:
    found = Contacts([[1.0]], 5.0, 4.0, intervals=([[0.0, 1.0]],))
    for array in (found.seconds, found.distance_m, found.intervals[0]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 2.0
    given_time = np.array([0.0, 1.0])
    track = Track(given_time, [[0, 0], [3, 4]])
    given_time[1] = 9.0
    assert track.time_s[1] == 1.0
    np.testing.assert_allclose(track.speed_m_per_s, [5.0])


def test_parts_of_a_track() -> None:
    track = Track([0.0, 2.0, 4.0], [[0, 0], [2, 0], [2, 2]], "x")
    part = track.part(1.0, 3.0)
    np.testing.assert_allclose(part.time_s, [1, 2, 3])
    np.testing.assert_allclose(part.position_m, [[1, 0], [2, 0], [2, 1]])
    assert part.name == "x"
    assert track.part(4.0, 9.0) is None
    np.testing.assert_allclose(track.at([[1.0], [4.0]]), [[[1, 0]], [[2, 2]]])
    with pytest.raises(InvalidProblem, match=r"time_s = 5\.0 s is outside \[0\.0, 4\.0\] s"):
        track.at(5.0)


# -- refusals -------------------------------------------------------------------------------------

HERE = [[0.0, 0.0]] * 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Track([0.0], [[0.0, 0.0]], "a"), r"Track 'a': time_s has 1 point and needs"),
        (lambda: Track([], np.empty((0, 2)), "a"), r"has 0 point"),
        (lambda: Track([0.0, 5.0, 5.0], [[0, 0]] * 3), r"time_s\[2\] = 5\.0 s .*\(5\.0, inf\) s"),
        (lambda: Track([0.0, 5.0, 4.0], [[0, 0]] * 3), r"time_s\[2\] = 4\.0 s"),
        (lambda: Track([0.0, np.nan], HERE), r"time_s\[1\] = nan s is outside \(-inf, inf\) s"),
        (lambda: Track([0.0, 1.0], [[0, 0], [np.inf, 0]]), r"position_m\[1, 0\] = inf m"),
        (lambda: Track([0.0, 1.0], [[0, 0]]), r"time_s has shape \(2,\) and position_m \(1, 2\)"),
        (lambda: Track(["now", "then"], HERE), r"time_s holds .* real numbers in s"),
        (lambda: Discs(0.0), r"Discs\.radius_m = 0\.0 m is outside \(0, inf\) m"),
        (lambda: Discs([1.0, 2.0]), r"Discs\.radius_m has shape \(2,\)"),
        (lambda: Discs(1.0, [[0.0, np.nan]]), r"Discs\.centre_m\[0, 1\] = nan m"),
        (lambda: Discs(1.0, np.empty((0, 2))), r"Discs\.centre_m has shape \(0, 2\)"),
        (lambda: Contacts([[5.0]], 1.0, 4.0), r"seconds\[0, 0\] = 5\.0 s is outside \[0, 4\.0\] s"),
        (lambda: Contacts([1.0], 1.0, 4.0), r"seconds has shape \(1,\)"),
        (lambda: Contacts([[1.0]], np.inf, 4.0), r"distance_m\[0, 0\] = inf m is outside \[0, inf"),
        (lambda: Contacts([[1.0]], [1.0, 2.0], 4.0), r"distance_m has shape \(2,\)"),
        (lambda: Contacts([[1.0]], 1.0, 0.0), r"round_s = 0\.0 s is outside \(0, inf\) s"),
        (lambda: Contacts([[1.0]], 1.0, 4.0, names=("a", "b")), r"names has 2 different of 2"),
        (lambda: Contacts([[1.0] * 2], 1.0, 4.0, names=("a", "a")), r"names has 1 different of 2"),
        (lambda: Contacts([[1.0]], 1.0, 4.0, intervals=()), r"intervals has 0 entries"),
        (lambda: Contacts([[1.0]], 1.0, 4.0, intervals=([[0, 5]],)), r"intervals\[0\]\[0, 1\] = 5"),
        (lambda: Contacts([[1.0]], 1.0, 4.0).durations_s, r"intervals is None"),
        (lambda: Contacts.always(2, 3, round_s=1.0, distance_m=[1, 2]), r"distance_m has shape"),
        (lambda: Contacts.always(-1, 3, round_s=1.0), r"rounds = -1"),
        (lambda: Contacts.from_intervals([[[2, 1]]], rounds=1, round_s=9), r"\[0, 1\] = 1\.0 s"),
        (
            lambda: Contacts.from_intervals([[[0, 2], [1, 3]]], rounds=1, round_s=9),
            r"intervals\[0\]\[1, 0\] = 1\.0 s is outside \[2\.0, inf\) s",
        ),
        (lambda: Contacts.from_intervals([[1, 2]], rounds=1, round_s=9), r"be \(contacts, 2\)"),
        (lambda: study([Track([0, 1], HERE)], Discs(1.0), rounds=1.5), r"rounds = 1\.5"),
        (lambda: study([Track([0, 1], HERE)], Discs(1.0), round_s=np.nan), r"round_s = nan s"),
        (
            lambda: study([Track([0, 2], HERE), Track([1, 3], HERE)], Discs(1.0)),
            r"'device': time_s\[0\] = 1\.0 s is outside \[2\.0, inf\) s",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(make, words) -> None:
    with pytest.raises(InvalidProblem, match=words):
        make()
