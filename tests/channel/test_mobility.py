"""Models of motion against their laws.

Bounds are 4 standard errors at a fixed seed, from devices that are independent of one another, or
Kolmogorov's: P(sqrt(n) D > 2.7) < 1e-6.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from rralloc.channel import Discs, Track
from rralloc.channel.mobility import (
    MEAN_DISTANCE_IN_UNIT_SQUARE,
    ExponentialContacts,
    ManhattanGrid,
    Mobility,
    RandomWaypoint,
    RecordedMotion,
    StraightRoad,
)
from rralloc.errors import InvalidProblem
from rralloc.fl.streams import Streams


def rng(*indices):
    return Streams(7).rng("mobility", *indices)


def drawn(model, rounds, devices, round_s=10.0, seed=0):
    return model.contacts(rounds=rounds, round_s=round_s, devices=devices, rng=rng(seed))


def near(values, expected, sigmas=4.0):
    """The mean of independent values is the expected one, within so many standard errors."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / math.sqrt(values.size)
    assert abs(values.mean() - expected) < sigmas * error + 1e-12, (values.mean(), expected, error)


def follows(values, law):
    values = np.asarray(values)
    assert stats.kstest(values, law).statistic < 2.7 / math.sqrt(values.size)


def early(contacts):
    """Lengths of contacts and gaps that begin in the first half: as good as never cut."""
    middle = contacts.round_s * contacts.rounds / 2
    lengths = [
        np.diff(each[(each[:, 0] > 0) & (each[:, 0] < middle)], axis=1)[:, 0]
        for each in contacts.intervals
    ]
    gaps = [
        (each[1:, 0] - each[:-1, 1])[each[:-1, 1] < middle] if len(each) else np.empty(0)
        for each in contacts.intervals
    ]
    return np.concatenate(lengths), np.concatenate(gaps)


def entries(contacts):
    """How often each device comes into contact, after time 0."""
    return np.array([(each[:, 0] > 0).sum() for each in contacts.intervals])


# -- exponential ----------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [5.0, 40.0])
def test_exponential_contacts_have_their_means(speed: float) -> None:
    found = drawn(ExponentialContacts(speed), 1000 if speed < 9 else 300, 300)
    lengths, gaps = early(found)
    follows(lengths, stats.expon(scale=200 / speed).cdf)
    follows(gaps, stats.expon(scale=1800 / speed).cdf)
    near(found.share, 0.1)
    near(entries(found) / found.end_s, speed / 2000)
    # Stationary from the first moment.
    near(drawn(ExponentialContacts(speed), 1, 4000, 1.0).seconds[0], 0.1)


def test_exponential_distances_are_uniform_by_area() -> None:
    model = ExponentialContacts(20.0, contact_m=1e9, gap_m=1.0)
    away = drawn(model, 100, 100).distance_m.ravel()
    follows(away, lambda d: (d**2 - 10.0**2) / (300.0**2 - 10.0**2))


def test_expected_seconds_of_a_round_with_contact() -> None:
    # E[tau | tau > 0] = p T/P with P = 1 - (1 - p) exp(-T v/l): no contact at the start, none
    # begins. The specification prints 9.08, 7.99, 6.71, 5.12, 3.56 s.
    for speed, printed in [(2, 9.08), (5, 7.99), (10, 6.71), (20, 5.12), (40, 3.56)]:
        chance = 1 - 0.9 * math.exp(-10 * speed / 1800)
        assert abs(0.1 * 10 / chance - printed) < 0.035  # measured there
        found = drawn(ExponentialContacts(float(speed)), 300, 300)
        near(found.probability, chance)


def test_rounds_much_longer_than_contacts_are_warned_of() -> None:
    drawn(ExponentialContacts(40.0), 1, 2)  # twice the mean contact exactly
    with pytest.warns(UserWarning, match=r"round_s = 10\.0 s is more than twice .* 4\.88 s"):
        drawn(ExponentialContacts([5.0, 41.0]), 1, 2)


# -- straight road --------------------------------------------------------------------------------


def test_road_contacts_are_chords() -> None:
    found = drawn(StraightRoad(20.0), 200, 100)
    lengths, _ = early(found)
    near(lengths, math.pi * 300 / (2 * 20))
    near((lengths - math.pi * 7.5) ** 2, (8 / 3 - math.pi**2 / 4) * 15**2)
    follows(lengths, lambda s: 1 - np.sqrt(np.maximum(1 - (20 * s / 600) ** 2, 0)))
    near(found.share, math.pi * 300 / (2 * 2000))
    # In contact a device is uniform by area: mean square distance r²/2.
    square = np.where(found.present, found.distance_m, 0) ** 2
    near((found.seconds * (square - 300**2 / 2)).sum(0), 0.0)


def test_road_is_stationary_from_the_start() -> None:
    found = drawn(StraightRoad(20.0), 1, 5000, 1.0)
    near(found.seconds[0], math.pi * 300 / (2 * 2000))
    start = np.array([t.position_m[0] for t in found.tracks if t.time_s[0] == 0])
    follows(start[:, 0], stats.uniform(-1000, 2000).cdf)
    follows(start[:, 1], stats.uniform(-300, 600).cdf)


# -- Manhattan ------------------------------------------------------------------------------------


def streets(model, looks=20_000):
    """Street length in the discs and in all, and crossings with circles, by looking."""
    side = model.blocks * model.block_m
    along = (np.arange(looks) + 0.5) * side / looks
    inside_m, crossings = 0.0, 0
    for i in range(model.blocks + 1):
        across = np.full(looks, i * model.block_m)
        for xy in (np.stack([along, across], 1), np.stack([across, along], 1)):
            away = np.min([np.linalg.norm(xy - c, axis=1) for c in model.discs.centre_m], axis=0)
            inside = away <= model.discs.radius_m
            inside_m += inside.mean() * side
            crossings += int((inside[1:] != inside[:-1]).sum())
    return inside_m, 2 * (model.blocks + 1) * side, crossings


@pytest.mark.parametrize(
    "model",
    [
        ManhattanGrid(10.0),
        ManhattanGrid(20.0, Discs(130.0, [[0.0, 10.0], [90.0, 200.0]]), blocks=3, block_m=70.0),
        ManhattanGrid(20.0, Discs(30.0, [50.0, 0.0]), blocks=1, block_m=50.0),
    ],
)
def test_grid_contacts_follow_street_lengths(model) -> None:
    found = drawn(model, 200, 200)
    inside, whole, crossings = streets(model)
    near(found.share, inside / whole)
    near(entries(found) / found.end_s, crossings / 2 * float(model.speed_m_per_s) / whole)
    # The last round alone: uniform over the streets at any time.
    near(found.seconds[-1] / 10, inside / whole)


def test_the_mean_contact_of_the_specification() -> None:
    # Street offsets of 100 m from both servers: four chords of 2 sqrt(250² - 100²) = 458.26 m
    # each; measured there 455, 453, 445, 456 m.
    inside, _, crossings = streets(ManhattanGrid(10.0))
    assert 2 * inside / crossings == pytest.approx(2 * math.sqrt(250**2 - 100**2), abs=0.2)
    lengths, gaps = early(drawn(ManhattanGrid(20.0), 1000, 100))
    assert 0.32 < lengths.std() / lengths.mean() < 0.38
    assert 0.94 < gaps.std() / gaps.mean() < 1.08


def test_the_grid_is_stationary_from_the_start() -> None:
    model = ManhattanGrid(20.0)
    found = drawn(model, 1, 3000, 1.0)
    inside, whole, _ = streets(model)
    near(found.seconds[0], inside / whole)
    xy = np.array([t.position_m[0] for t in found.tracks]) / model.block_m
    assert np.all((xy >= 0) & (xy <= 10))
    offset = np.abs(xy - np.round(xy))
    assert np.all(offset.min(axis=1) < 1e-9)
    # Uniform along the street, which is one of 11 in either direction.
    row = offset.argmax(axis=1)
    follows(np.take_along_axis(xy, row[:, None], 1)[:, 0], stats.uniform(0, 10).cdf)
    near(row, 0.5)
    lane = np.round(np.take_along_axis(xy, 1 - row[:, None], 1)[:, 0])
    assert stats.chisquare(np.bincount(lane.astype(int), minlength=11)).pvalue > 1e-4


def test_cars_keep_their_speed_and_to_the_streets() -> None:
    for track in drawn(ManhattanGrid(30.0, blocks=2), 3, 60).tracks:
        assert np.all((track.position_m > -1e-9) & (track.position_m < 400 + 1e-9))
    found = drawn(ManhattanGrid([3.0, 30.0]), 500, 2)
    for track, speed in zip(found.tracks, (3.0, 30.0)):
        np.testing.assert_allclose(track.speed_m_per_s, speed, rtol=1e-9)
        assert track.time_s[[0, -1]].tolist() == [0.0, 5000.0]
        xy = track.position_m / 200.0
        assert np.all((xy > -1e-12) & (xy < 10 + 1e-12))
        assert np.all(np.abs(xy - np.round(xy)).min(axis=1) < 1e-9)


def test_turns_have_their_probabilities() -> None:
    found = drawn(ManhattanGrid(30.0), 1000, 30)
    counts = {"straight": 0, "left": 0, "right": 0, "edge straight": 0, "edge turn": 0}
    for track in found.tracks:
        corners = np.round(track.position_m[1:-1] / 200).astype(int)
        heading = np.diff(corners, axis=0)
        for at, (a, b) in zip(corners[1:-1], pairwise(heading)):
            turn, ahead = a[0] * b[1] - a[1] * b[0], a @ b
            assert ahead >= 0  # nobody turns round
            inner = np.all((at > 0) & (at < 10))
            if inner:
                counts["straight" if ahead else "left" if turn > 0 else "right"] += 1
            elif np.all((at + a >= 0) & (at + a <= 10)):
                counts["edge straight" if ahead else "edge turn"] += 1
    inner = counts["straight"] + counts["left"] + counts["right"]
    for name, p in [("straight", 0.5), ("left", 0.25), ("right", 0.25)]:
        assert abs(counts[name] - p * inner) < 4 * math.sqrt(p * (1 - p) * inner)
    edge = counts["edge straight"] + counts["edge turn"]
    assert abs(counts["edge straight"] - edge / 2) < 4 * math.sqrt(edge / 4)


# -- random waypoint ------------------------------------------------------------------------------


def at(contacts, time_s):
    """Positions and speeds at a time."""
    places = np.array([t.at(time_s) for t in contacts.tracks])
    speeds = [
        t.speed_m_per_s[np.searchsorted(t.time_s, time_s + 1e-9) - 1] for t in contacts.tracks
    ]
    return places, np.array(speeds)


def warmed_up(count, side, trips, seed):
    """The plain simulation from a uniform start, at a time after many trips; no rests, one speed.

    The time is 0.5214 trips sides of way, the same for all: a renewal process forgets its start.
    """
    draw = np.random.default_rng(seed)
    corners = side * draw.random((count, 2 * trips, 2))
    way = np.cumsum(np.linalg.norm(np.diff(corners, axis=1), axis=2), axis=1)
    target = MEAN_DISTANCE_IN_UNIT_SQUARE * side * trips
    places = []
    for n in range(count):
        i = int(np.searchsorted(way[n], target))
        left = (way[n, i] - target) / (way[n, i] - (way[n, i - 1] if i else 0.0))
        places.append(corners[n, i + 1] + left * (corners[n, i] - corners[n, i + 1]))
    return np.array(places)


@pytest.mark.parametrize("time_s", [0.0, 400.0])
def test_waypoint_speeds_and_rests_are_stationary(time_s: float) -> None:
    model = RandomWaypoint(2.0, 20.0, rest_s=60.0)
    found = drawn(model, 1, 3000, 500.0)
    _, speeds = at(found, time_s)
    slowness = math.log(10) / 18
    resting = 60 / (60 + MEAN_DISTANCE_IN_UNIT_SQUARE * 2000 * slowness)
    assert model.resting == pytest.approx(resting)
    near(speeds < 1e-9, resting)
    if time_s == 0:  # what remains of a rest is uniform
        left = [t.time_s[1] for t in found.tracks if t.speed_m_per_s[0] < 1e-9]
        follows(left, stats.uniform(0, 60).cdf)
    moving = speeds[speeds > 1e-9]
    near(moving, 18 / math.log(10))
    follows(moving, lambda v: np.log(v / 2) / math.log(10))


@pytest.mark.parametrize("time_s", [0.0, 300.0])
def test_waypoint_places_are_those_after_a_long_warm_up(time_s: float) -> None:
    found, _ = at(drawn(RandomWaypoint(10.0, 10.0), 1, 4000, 310.0), time_s)
    oracle = warmed_up(4000, 2000.0, 20, 1)
    bound = 2.7 * math.sqrt(2 / 4000)
    for axis in (0, 1):
        assert stats.ks_2samp(found[:, axis], oracle[:, axis]).statistic < bound
    middle = [np.linalg.norm(xy - 1000.0, axis=1) for xy in (found, oracle)]
    assert stats.ks_2samp(*middle).statistic < bound
    # They crowd in the middle: less than the 2 side²/12 of a uniform place.
    assert (middle[0] ** 2).mean() < 0.9 * 2000**2 / 6


def test_waypoint_ways_are_long_ones() -> None:
    # From a moment on the way on, the rest of a way has mean E L²/(2 E L), with E L² = side²/3.
    found = drawn(RandomWaypoint(10.0, 10.0), 1, 4000, 300.0)
    ahead = [np.hypot(*(t.position_m[1] - t.position_m[0])) for t in found.tracks]
    near(ahead, 2000 / 3 / (2 * MEAN_DISTANCE_IN_UNIT_SQUARE))
    assert pytest.approx(0.521405433) == MEAN_DISTANCE_IN_UNIT_SQUARE


def test_waypoints_stay_in_the_square() -> None:
    found = drawn(RandomWaypoint(1.0, 30.0, side_m=100.0, rest_s=1.0), 50, 5)
    for track in found.tracks:
        assert np.all((track.position_m >= 0) & (track.position_m <= 100.0))
        assert track.speed_m_per_s.max() <= 30.0 * (1 + 1e-9)
        assert track.time_s[[0, -1]].tolist() == [0.0, 500.0]


# -- recorded -------------------------------------------------------------------------------------


def recorded(count=4):
    return [
        Track([100.0, 160.0], [[-300.0 + 100 * n, 0.0], [300.0, 0.0]], f"boat {n}")
        for n in range(count)
    ]


def test_recorded_motion_starts_with_the_record_and_draws_devices() -> None:
    model = RecordedMotion(recorded(), Discs(100.0))
    assert model.names == ("boat 0", "boat 1", "boat 2", "boat 3")
    every = drawn(model, 6, 4)
    assert every.names == model.names
    np.testing.assert_allclose(every.seconds[:, 0], [0, 0, 10, 10, 0, 0], atol=1e-9)
    assert every.start_s == 100.0
    few = drawn(model, 6, 2)
    assert set(few.names) < set(model.names)
    np.testing.assert_array_equal(few.seconds[:, 0], every.seconds[:, int(few.names[0][-1])])
    seen = {drawn(model, 1, 1, seed=s).names[0] for s in range(40)}
    assert len(seen) == 4
    late = RecordedMotion(recorded(), Discs(100.0), start_s=120.0)
    np.testing.assert_array_equal(drawn(late, 4, 4).seconds, every.seconds[2:])


# -- all models -----------------------------------------------------------------------------------

MOVING = [
    pytest.param(lambda v: ExponentialContacts(v, contact_m=900.0), id="exponential"),
    pytest.param(lambda v: StraightRoad(v), id="road"),
    pytest.param(lambda v: ManhattanGrid(v), id="manhattan"),
    pytest.param(lambda v: RandomWaypoint(v / 2, v), id="waypoint"),
]


@pytest.mark.parametrize("make", MOVING)
def test_repeats_with_its_generator_and_grows_without_change(make) -> None:
    model = make(20.0)
    assert isinstance(model, Mobility)
    first = drawn(model, 30, 6)
    assert first.seconds.shape == first.distance_m.shape == (30, 6)
    assert first.names == tuple("012345")
    assert first.seconds.sum() > 0
    assert np.all((first.seconds >= 0) & (first.seconds <= 10))
    again = drawn(model, 30, 6)
    np.testing.assert_array_equal(again.seconds, first.seconds)
    np.testing.assert_array_equal(again.distance_m, first.distance_m)
    assert not np.array_equal(drawn(model, 30, 6, seed=1).seconds, first.seconds)
    # More rounds or devices leave what is there, also past many blocks of numbers.
    more = drawn(model, 700, 9)
    np.testing.assert_allclose(more.seconds[:30, :6], first.seconds, atol=1e-9)
    np.testing.assert_allclose(more.distance_m[:30, :6], first.distance_m)
    for rounds, devices in ((0, 3), (3, 0)):
        assert drawn(model, rounds, devices).seconds.shape == (rounds, devices)


@pytest.mark.parametrize("make", MOVING)
def test_twice_the_speed_is_half_the_contact(make) -> None:
    slow, fast = drawn(make(10.0), 60, 5, round_s=10.0), drawn(make(20.0), 60, 5, round_s=5.0)
    np.testing.assert_allclose(2 * fast.seconds, slow.seconds, atol=1e-8)
    for a, b in zip(fast.intervals, slow.intervals):
        np.testing.assert_allclose(2 * a, b, atol=1e-8)


@pytest.mark.parametrize("make", MOVING[:3])
def test_each_device_has_its_own_speed(make) -> None:
    mixed = drawn(make(np.array([5.0, 40.0])), 300, 2)
    same = drawn(make(5.0), 300, 2)
    np.testing.assert_array_equal(mixed.seconds[:, 0], same.seconds[:, 0])
    assert not np.array_equal(mixed.seconds[:, 1], same.seconds[:, 1])
    with pytest.raises(InvalidProblem, match=r"speed_m_per_s has shape \(2,\)"):
        drawn(make(np.array([5.0, 40.0])), 30, 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StraightRoad(0.0), r"speed_m_per_s = 0\.0 m/s is outside \(0, inf\) m/s"),
        (lambda: ManhattanGrid([1.0, -2.0]), r"speed_m_per_s\[1\] = -2\.0 m/s"),
        (lambda: ExponentialContacts(np.nan), r"speed_m_per_s = nan m/s"),
        (lambda: ExponentialContacts(1.0, contact_m=0.0), r"contact_m = 0\.0 m is outside"),
        (lambda: ExponentialContacts(1.0, gap_m=np.inf), r"gap_m = inf m is outside \(0, inf\)"),
        (lambda: ExponentialContacts(1.0, radius_m=5.0), r"min_distance_m = 10\.0 m is outside"),
        (lambda: StraightRoad(1.0, 300.0, 599.0), r"length_m = 599\.0 m is outside \[600\.0, inf"),
        (lambda: ManhattanGrid(1.0, blocks=0), r"blocks = 0 is outside 1, 2"),
        (lambda: ManhattanGrid(1.0, block_m=0.0), r"block_m = 0\.0 m"),
        (lambda: RandomWaypoint(0.0, 3.0), r"slowest_m_per_s = 0\.0 m/s is outside \(0, inf\)"),
        (lambda: RandomWaypoint(4.0, 3.0), r"fastest_m_per_s = 3\.0 m/s is outside \[4\.0, inf\)"),
        (lambda: RandomWaypoint(1.0, 3.0, rest_s=-1.0), r"rest_s = -1\.0 s is outside \[0, inf\)"),
        (lambda: RandomWaypoint(1.0, 3.0, side_m=0.0), r"side_m = 0\.0 m"),
        (lambda: RecordedMotion([], Discs(1.0)), r"tracks is empty"),
        (lambda: drawn(RecordedMotion(recorded(), Discs(1.0)), 6, 5), r"devices = 5 is outside"),
        (
            lambda: drawn(RecordedMotion(recorded(), Discs(1.0)), 7, 2),
            r"from 100\.0 to 170\.0 s are outside \[100\.0, 160\.0\] s",
        ),
        (lambda: drawn(RecordedMotion(recorded(), Discs(1.0), 90.0), 1, 2), r"from 90\.0"),
        (lambda: drawn(StraightRoad(1.0), -1, 2), r"rounds = -1"),
        (lambda: drawn(StraightRoad(1.0), 1, 2.5), r"devices = 2\.5"),
        (lambda: drawn(StraightRoad(1.0), 1, 2, round_s=0.0), r"round_s = 0\.0 s"),
    ],
)
def test_what_is_wrong_is_named(make, words) -> None:
    with pytest.raises(InvalidProblem, match=words):
        make()


@pytest.mark.parametrize("make", MOVING)
def test_a_seed_is_not_a_generator(make) -> None:
    with pytest.raises(TypeError, match="rng is a int"):
        make(20.0).contacts(rounds=1, round_s=1.0, devices=1, rng=0)
