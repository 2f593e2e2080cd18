"""Windows of motion against a loop over points, symmetries, and the real vessels."""

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rralloc as rr
from rralloc import fl
from rralloc.channel import ManhattanGrid, RandomWaypoint, Track
from rralloc.content import content
from rralloc.errors import InvalidProblem, MissingData
from rralloc.fl.learners import MLPRegression
from rralloc.fl.trajectories import Trajectories, load_vessels, windows

SHORT = {"step_s": 10.0, "past": 3, "future": 2, "gap_s": 50.0, "least_windows": 1, "unit_m": 20.0}


def curve(name="a", points=80, spacing=7.0, start=0.0, seed=0, gaps=()):
    """A wavering track; behind the points in `gaps` nothing is recorded for 100 s."""
    rng = np.random.default_rng(seed)
    apart = spacing * rng.uniform(0.6, 1.4, points)
    for i in gaps:
        apart[i % points] = 100.0
    time = start + np.cumsum(apart)
    turning = np.cumsum(rng.normal(0, 0.3, points))
    steps = rng.uniform(1, 8, points) * apart
    where = np.cumsum(steps[:, None] * np.stack([np.cos(turning), np.sin(turning)], -1), axis=0)
    return Track(time, where, name)


def by_hand(track, *, step_s, past, future, gap_s, least_speed=1.5, stride=1, unit_m, **_):
    """All moving windows of a track, point by point: (first moment, last moment, x, y)."""
    pieces, piece = [], [0]
    for i in range(1, len(track.time_s)):
        if track.time_s[i] - track.time_s[i - 1] > gap_s:
            pieces.append(piece)
            piece = []
        piece.append(i)
    found = []
    pieces.append(piece)
    for piece in pieces:
        began, points = float(track.time_s[piece[0]]), []
        clock = began
        while clock <= track.time_s[piece[-1]]:
            east = np.interp(clock, track.time_s[piece], track.position_m[piece, 0])
            north = np.interp(clock, track.time_s[piece], track.position_m[piece, 1])
            points.append((clock, complex(east, north)))
            clock = began + len(points) * step_s
        for c in range(past, len(points) - future, stride):
            here, before = points[c][1], points[c - past][1]
            if abs(here - before) < least_speed * past * step_s:
                continue
            step = here - points[c - 1][1]
            step = step if abs(step) > 0 else here - before
            turned = [(p - here) * step.conjugate() / abs(step) / unit_m for _, p in points]
            x = [part for p in turned[c - past : c] for part in (p.real, p.imag)]
            y = [part for p in turned[c + 1 : c + future + 1] for part in (p.real, p.imag)]
            found.append((points[c - past][0], points[c + future][0], x, y))
    return found


def split_by_hand(found, share=0.2):
    first, last = min(f[0] for f in found), max(f[1] for f in found)
    cut = last - share * (last - first)
    train = [f for f in found if f[1] <= cut]
    test = [f for f in found if f[0] >= cut]
    return train, test, len(found) - len(train) - len(test)


def assert_same(a, b, within=1e-9):
    assert a.names == b.names
    assert a.purged == b.purged
    assert [part.tolist() for part in a.clients] == [part.tolist() for part in b.clients]
    for part in ("train_x", "train_y", "test_x", "test_y"):
        np.testing.assert_allclose(getattr(a, part), getattr(b, part), rtol=0, atol=within)


# -- what the windows are --------------------------------------------------------------------------


@given(
    st.lists(st.integers(5, 75), max_size=3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([0.0, 1.5, 3.0]),
    st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=40)
def test_windows_and_purge_equal_the_loop(gaps, past, future, stride, least_speed, seed):
    told = SHORT | {"past": past, "future": future, "stride": stride}
    track = curve(gaps=gaps, seed=seed)
    found = by_hand(track, least_speed=least_speed, **told)
    assume(found)
    train, test, purged = split_by_hand(found)
    assume(train and test)
    made = windows([track], least_speed_m_per_s=least_speed, **told)
    assert (len(made.train_x), len(made.test_x), made.purged) == (len(train), len(test), purged)
    for part, known in (("train", train), ("test", test)):
        for axis, column in (("x", 2), ("y", 3)):
            got = getattr(made, f"{part}_{axis}")
            np.testing.assert_allclose(got, [k[column] for k in known], rtol=0, atol=1e-8)


@given(st.lists(st.integers(1, 90), min_size=0, max_size=4), st.floats(0.05, 0.9))
@settings(deadline=None, max_examples=40)
def test_no_window_shows_both_sides_of_the_cut(gaps, share):
    """On the track e(t) = t^2 / 100 the last past step tells when a window is."""
    spacing = np.full(100, 10.0)
    for i in gaps:
        spacing[i] = 130.0
    time = np.cumsum(spacing)
    track = Track(time, np.stack([time**2 / 100, np.zeros(100)], axis=-1))
    try:
        made = windows([track], test_share=share, least_speed_m_per_s=0.0, **SHORT)
    except InvalidProblem:
        return  # nothing was left on one side
    step = {part: -20 * getattr(made, f"{part}_x")[:, -2] for part in ("train", "test")}
    now = {part: (100 * step[part] + 10.0**2) / (2 * 10.0) for part in step}
    ends, starts = now["train"] + 2 * 10.0, now["test"] - 3 * 10.0
    every = [(a, b) for a, b, _, _ in by_hand(track, least_speed=0.0, **SHORT)]
    first, last = min(a for a, _ in every), max(b for _, b in every)
    cut = last - share * (last - first)
    assert ends.max() <= cut + 1e-6
    assert starts.min() >= cut - 1e-6
    assert len(ends) + len(starts) + made.purged == len(every)
    across = [1 for a, b in every if a < cut - 1e-6 and b > cut + 1e-6]
    assert made.purged == pytest.approx(len(across), abs=2)  # ties are a matter of rounding


def test_windows_do_not_reach_across_gaps():
    track = curve(gaps=[20, 40])
    borders = [(0, 20), (20, 40), (40, 80)]
    pieces = [Track(track.time_s[a:b], track.position_m[a:b], "a") for a, b in borders]
    made, joined = windows([track], **SHORT), windows([track], **(SHORT | {"gap_s": math.inf}))
    assert_same(made, windows(pieces, **SHORT), within=0)
    assert _count(joined) > _count(made)


def _count(made):
    return len(made.train_x) + len(made.test_x) + made.purged


def test_places_and_headings_are_not_in_the_data():
    tracks = [curve("a", seed=1), curve("b", seed=2, gaps=[30])]
    turn = np.array([[math.cos(2.0), math.sin(2.0)], [-math.sin(2.0), math.cos(2.0)]])
    moved = [Track(t.time_s, t.position_m @ turn + [400.0, -900.0], t.name) for t in tracks]
    assert_same(windows(tracks, **SHORT), windows(moved, **SHORT))


def test_a_straight_constant_speed_is_predicted_without_error():
    time = np.arange(0.0, 9000.0, 45.0)
    track = Track(time, time[:, None] * [3.0, -4.0], "straight")
    made = windows([track])
    assert made.constant_velocity() == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(
        made.test_x[:, ::2], [-0.6 * np.arange(10, 0, -1)] * len(made.test_x)
    )
    np.testing.assert_allclose(made.train_x[:, 1::2], 0.0, atol=1e-12)
    np.testing.assert_allclose(made.test_y[:, ::2], [0.6 * np.arange(1, 11)] * len(made.test_y))


def test_constant_velocity_equals_the_loop():
    made = windows([curve(seed=3)], **SHORT)
    total, count = 0.0, 0
    for x, y in zip(made.test_x, made.test_y):
        for h in range(2):
            far = -(h + 1) * x[-2:] - y[2 * h : 2 * h + 2]
            total, count = total + 20.0 * math.hypot(*far), count + 1
    assert made.constant_velocity() == pytest.approx(total / count, rel=1e-12)


def test_a_device_that_just_stopped_heads_where_it_came_from():
    time = np.arange(0.0, 200.0, 10.0)
    north = np.minimum(time, 100.0) * 5.0
    track = Track(time, np.stack([np.zeros(20), north], axis=-1))
    made = windows([track], **(SHORT | {"test_share": 0.5}))
    both = np.concatenate([made.train_x, made.test_x])
    assert (made.test_x[:, -2:] == 0.0).all(axis=1).any()  # some end at rest
    assert (both[:, ::2] <= 1e-12).all()  # behind, whether it moves or has just stopped
    np.testing.assert_allclose(both[:, 1::2], 0.0, atol=1e-12)
    still = Track(time, np.zeros((20, 2)))
    made = windows([still], least_speed_m_per_s=0.0, **(SHORT | {"test_share": 0.5}))
    assert not made.train_x.any()
    assert not made.train_y.any()


# -- devices ---------------------------------------------------------------------------------------


def test_each_device_is_a_client_with_its_own_cut():
    tracks = [curve("a", seed=1), curve("b", points=50, start=5000.0, seed=2), curve("c", points=8)]
    tracks.append(curve("a", seed=3, start=900.0))
    made = windows(tracks, **(SHORT | {"least_windows": 20}))
    alone = [windows([t for t in tracks if t.name == name], **SHORT) for name in ("a", "b")]
    assert made.names == ("a", "b")
    assert [len(part) for part in made.clients] == [len(a.train_x) for a in alone]
    assert made.purged == sum(a.purged for a in alone)
    for part, own in zip(made.clients, alone):
        np.testing.assert_array_equal(made.train_x[part], own.train_x)
        np.testing.assert_array_equal(made.train_y[part], own.train_y)
    np.testing.assert_array_equal(made.test_x, np.concatenate([a.test_x for a in alone]))


def test_the_task_is_made_of_the_windows():
    made = windows([curve("a", seed=1), curve("b", seed=2)], **SHORT)
    task = made.task(hidden=(5,), learning_rate=0.1, local_steps=2, l2=0.01)
    assert task.learner == MLPRegression(6, 4, (5,), 0.01, 20.0)
    assert (made.features, made.outputs, made.classes) == (6, 4, 0)
    assert (task.clients_count, task.batch_size, task.local_steps) == (2, 16, 2)
    w = task.learner.init(np.random.default_rng(0))
    score, loss = task.evaluate(w)
    assert score == -task.learner.displacement(w, made.test_x, made.test_y)
    assert loss == pytest.approx(task.learner.loss(w, made.train_x, made.train_y), rel=1e-12)
    assert task.updates(w, np.random.default_rng(0)).shape == (2, task.learner.size)
    single = made.task(hidden=(5,), precision="single")
    assert single.updates(w, np.random.default_rng(0)).dtype == np.float32


def test_the_digest_tells_windows_apart():
    made = windows([curve()], **SHORT)
    again, other = windows([curve()], **SHORT), windows([curve(seed=1)], **SHORT)
    assert made.digest == again.digest != other.digest
    assert made.digest != replace(made, unit_m=21.0).digest
    assert content(made.task()) == content(again.task()) != content(other.task())
    with pytest.raises(ValueError, match="read-only"):
        made.train_x[0, 0] = 1.0


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mobility", [RandomWaypoint(5.0, 15.0), ManhattanGrid(12.0)], ids=["waypoint", "streets"]
)
def test_training_over_a_link_lowers_the_loss(mobility):
    rng = np.random.default_rng(0)
    tracks = mobility.contacts(rounds=60, round_s=20.0, devices=4, rng=rng).tracks
    made = windows(tracks, step_s=5.0, past=4, future=4, unit_m=100.0)
    assert made.names == ("0", "1", "2", "3")
    task = made.task(hidden=(16,), learning_rate=0.05)
    policy = rr.policy.Optimised(rr.problems.MinMaxLatency)
    history = fl.train(task, fl.Link.cell(4, radius_m=200.0), policy, rounds=60)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.accuracy[0] < history.accuracy[-1] < 0.0


@pytest.mark.skipif(find_spec("tracktable_data") is None, reason="tracktable-data is missing")
@pytest.mark.parametrize("stride", [1, 5])
def test_real_vessels(stride):
    made = load_vessels(stride=stride)
    # Measured: 106 vessels with stride 1 and 66 with stride 5; 1059 m and 1078 m.
    assert 50 <= len(made.clients) <= 140
    assert len(made.train_x) > 2.5 * len(made.test_x) > 5000
    assert 0 < made.purged <= len(made.clients) * (20 // stride + 1)
    assert 900.0 < made.constant_velocity() < 1200.0
    net = np.hypot(*made.test_x[:, :2].T) * made.unit_m
    assert net.min() >= 1.5 * 600.0 * (1 - 1e-9)


def test_vessels_without_the_package(monkeypatch):
    monkeypatch.setattr("rralloc.channel.tracks.find_spec", lambda name: None)
    with pytest.raises(MissingData, match="pip install"):
        load_vessels()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_s": 0.0}, "step_s = 0.0 s is outside"),
        ({"past": 0}, "past = 0"),
        ({"future": 1.5}, "future = 1.5"),
        ({"stride": 0}, "stride = 0"),
        ({"gap_s": -1.0}, "gap_s = -1.0 s is outside"),
        ({"least_speed_m_per_s": -1.0}, "least_speed_m_per_s = -1.0 m/s is outside"),
        ({"least_windows": 0}, "least_windows = 0"),
        ({"test_share": 1.0}, "test_share = 1.0"),
        ({"unit_m": math.inf}, "unit_m = inf m is outside"),
        ({"least_windows": 500}, "none has least_windows = 500 .* lower least_windows"),
        ({"least_speed_m_per_s": 1000.0}, "the most is 0"),
        ({"test_share": 0.01}, "no test window .* raise test_share"),
        ({"test_share": 0.99}, "no training window .* lower test_share"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(InvalidProblem, match=message):
        windows([curve()], **(SHORT | change))


def test_no_track_at_all():
    with pytest.raises(InvalidProblem, match="of 0 devices none"):
        windows([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": np.zeros((3, 5))}, "train_x has shape"),
        ({"test_x": np.zeros((0, 4))}, "test_x has shape"),
        ({"test_y": np.full((2, 2), np.nan)}, r"test_y\[0, 0\] = nan"),
        ({"train_y": np.zeros((4, 2))}, "differ in length"),
        ({"test_x": np.zeros((2, 6))}, "same steps"),
        ({"names": ()}, "one name"),
        ({"unit_m": 0.0}, "unit_m"),
    ],
)
def test_bad_windows(change, message):
    good = {
        "name": "own",
        "train_x": np.zeros((3, 4)),
        "train_y": np.zeros((3, 2)),
        "test_x": np.zeros((2, 4)),
        "test_y": np.zeros((2, 2)),
        "clients": (np.arange(3),),
        "names": ("a",),
        "unit_m": 1.0,
    }
    assert Trajectories(**good).outputs == 2
    with pytest.raises(InvalidProblem, match=message):
        Trajectories(**(good | change))
