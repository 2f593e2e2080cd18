"""Cars that follow each other and turn, looked at from outside: by their positions alone."""

import math

import numpy as np
import pytest

from rralloc.channel import Discs, Mobility, contacts_of
from rralloc.channel.traffic import CityTraffic
from rralloc.errors import InvalidProblem
from rralloc.fl.streams import Streams
from rralloc.fl.trajectories import windows


def rng(*indices):
    return Streams(7).rng("traffic", *indices)


def driven(model, duration_s=120.0, devices=30, seed=0):
    """Positions (N, P, 2) without noise and the speeds (N, P - 1) of the steps."""
    tracks = model.tracks(duration_s, devices, rng(seed), noisy=False)
    where = np.stack([track.position_m for track in tracks])
    return where, np.hypot(*np.moveaxis(np.diff(where, axis=1), -1, 0)) / model.step_s


def away(model, where):
    """East and north from the nearest crossing, and the way from the nearest street, m."""
    offset = where - model.block_m * np.round(where / model.block_m)
    return offset, np.abs(offset).min(axis=-1)


def on_streets(model, where):
    """For each position a number of the directed street, -1 in a turn, and the place along it."""
    offset, off = away(model, where)
    straight = (off < 1e-6) & (np.abs(offset).max(axis=-1) > model.turn_radius_m + 1e-6)
    axis = np.abs(offset).argmax(axis=-1)
    along = np.take_along_axis(where, axis[..., None], -1)[..., 0]
    across = np.take_along_axis(where, 1 - axis[..., None], -1)[..., 0]
    step = np.diff(where, axis=1, append=where[:, -1:])
    sign = np.sign(np.take_along_axis(step, axis[..., None], -1)[..., 0])
    for k in range(1, sign.shape[1]):  # a car that stands looks where it came from
        sign[:, k] = np.where(np.abs(step[:, k]).max(-1) > 1e-9, sign[:, k], sign[:, k - 1])
    cell = np.floor(along / model.block_m)
    place = np.where(sign > 0, along - cell * model.block_m, (cell + 1) * model.block_m - along)
    line = np.round(across / model.block_m)
    name = ((cell * 100 + line) * 2 + axis) * 2 + (sign > 0)
    return np.where(straight & (sign != 0), name, -1), place


def pairs(name, place, k):
    """Follower, car ahead and gap of each pair of neighbours on one directed street at time k."""
    order = np.lexsort((place[:, k], name[:, k]))
    behind, ahead = order[:-1], order[1:]
    same = (name[behind, k] == name[ahead, k]) & (name[behind, k] >= 0)
    behind, ahead = behind[same], ahead[same]
    return behind, ahead, place[ahead, k] - place[behind, k]


MODELS = [
    pytest.param(CityTraffic(), 50, id="default"),
    pytest.param(CityTraffic(blocks=2), 150, id="dense"),
    pytest.param(CityTraffic(blocks=1, block_m=100.0, turn_radius_m=8.0), 60, id="jam"),
    pytest.param(
        CityTraffic(
            blocks=2,
            block_m=150.0,
            desired_m_per_s=(5.0, 20.0),
            headway_s=0.2,
            acceleration_m_per_s2=3.0,
            braking_m_per_s2=4.0,
            turn_radius_m=25.0,
            gap_m=0.5,
            step_s=0.25,
        ),
        80,
        id="hasty",
    ),
    pytest.param(  # bold: only the bounds of safety hold them back
        CityTraffic(
            blocks=2,
            block_m=250.0,
            headway_s=0.0,
            acceleration_m_per_s2=3.0,
            braking_m_per_s2=1.0,
            gap_m=0.2,
        ),
        150,
        id="bold",
    ),
    pytest.param(
        CityTraffic(blocks=2, headway_s=0.0, acceleration_m_per_s2=5.0, step_s=0.5, gap_m=0.2),
        150,
        id="coarse",
    ),
]


@pytest.mark.parametrize(("model", "devices"), MODELS)
def test_no_car_comes_near_the_one_ahead(model, devices) -> None:
    where, _ = driven(model, devices=devices)
    name, place = on_streets(model, where)
    gaps = np.concatenate([pairs(name, place, k)[2] for k in range(where.shape[1])])
    assert gaps.size > 1000
    # The bound: braking by b in whole steps loses up to b Δ²/8.
    assert gaps.min() >= model.gap_m - model.braking_m_per_s2 * model.step_s**2 / 8 - 1e-6


@pytest.mark.parametrize(("model", "devices"), MODELS)
def test_speed_and_acceleration_keep_their_bounds(model, devices) -> None:
    _, speed = driven(model, devices=devices)
    assert speed.max() <= model.desired_m_per_s[1] + 1e-9
    change = np.diff(speed, axis=1) / model.step_s
    # From chords: in an arc they are short by (v Δ)³/(24 ρ²).
    turn = math.sqrt(model.lateral_m_per_s2 * model.turn_radius_m)
    chord = (turn * model.step_s) ** 3 / (24 * model.turn_radius_m**2 * model.step_s**2)
    assert -model.braking_m_per_s2 - 2 * chord - 1e-6 <= change.min()
    assert change.max() <= model.acceleration_m_per_s2 + 2 * chord + 1e-6
    # Nobody waits for ever.
    assert speed.mean(axis=1).min() > 0.2


@pytest.mark.parametrize("seed", range(6))
def test_any_setting_is_safe_and_smooth(seed) -> None:
    drawn = np.random.default_rng(seed)
    fastest, braking, radius = drawn.uniform(4, 20), drawn.uniform(0.8, 6), drawn.uniform(2, 30)
    step = drawn.choice([0.05, 0.1, 0.25, 0.5, 1.0])
    least = 2 * radius + fastest**2 / (2 * braking) + 2 * fastest * step
    model = CityTraffic(
        blocks=int(drawn.integers(1, 4)),
        block_m=least * drawn.uniform(1.001, 2),
        desired_m_per_s=(fastest * drawn.uniform(0.2, 1), fastest),
        headway_s=drawn.uniform(0, 2),
        acceleration_m_per_s2=drawn.uniform(0.5, 5),
        braking_m_per_s2=braking,
        lateral_m_per_s2=drawn.uniform(0.3, 5),
        turn_radius_m=radius,
        gap_m=drawn.uniform(0.1, 4),
        step_s=step,
    )
    where, speed = driven(model, 400 * step, 60, seed)
    name, place = on_streets(model, where)
    gaps = np.concatenate([pairs(name, place, k)[2] for k in range(where.shape[1])])
    assert gaps.min() >= model.gap_m - braking * step**2 / 8 - 1e-6
    change = np.diff(speed, axis=1) / step
    chord = 2 * (model.lateral_m_per_s2 * radius) ** 1.5 * step / (24 * radius**2)
    assert change.min() >= -braking - chord - 1e-6
    assert change.max() <= model.acceleration_m_per_s2 + chord + 1e-6
    assert 0.1 < speed.mean() <= speed.max() <= fastest + 1e-9


@pytest.mark.parametrize(("model", "devices"), MODELS)
def test_cars_are_on_streets_or_on_quarter_circles(model, devices) -> None:
    where, speed = driven(model, devices=devices)
    radius, side = model.turn_radius_m, model.blocks * model.block_m
    assert where.min() >= -1e-9
    assert where.max() <= side + 1e-9
    offset, off = away(model, where)
    assert off.max() <= radius * (1 - math.sqrt(0.5)) + 1e-9
    turning = off > 1e-6
    assert 0.005 < turning.mean() < 0.5
    centre = radius * np.sign(offset[turning])
    away_m = np.hypot(*(offset[turning] - centre).T)
    np.testing.assert_allclose(away_m, radius, atol=1e-6)
    # Slow enough there, and braking before: v² <= v_t² + 2 b d over the way d to the arc.
    limit = math.sqrt(model.lateral_m_per_s2 * radius)
    inside = turning[:, :-1] & turning[:, 1:]
    assert speed[inside].max() <= limit * (1 + 1e-9)
    assert speed[inside].max() > 0.9 * limit
    way = np.cumsum(np.pad(speed * model.step_s, ((0, 0), (1, 0))), axis=1)
    for n, first in np.argwhere(turning[:, 1:] & ~turning[:, :-1]):
        before = np.arange(max(first - 60, 0), first + 1)
        to_arc = way[n, first + 1] - way[n, before]
        bound = limit**2 + 2 * model.braking_m_per_s2 * to_arc
        assert np.all(speed[n, before] ** 2 <= bound + 1e-6)


@pytest.mark.parametrize("wanted", [8.0, 16.0])
def test_a_lone_car_follows_the_free_road_law(wanted) -> None:
    model = CityTraffic(desired_m_per_s=(wanted, wanted), blocks=3, block_m=1000.0)
    where, speed = driven(model, 600.0, 1)
    assert 0.999 * wanted < speed.max() <= wanted * (1 + 1e-12)
    # Where it does not brake: dv/dt = a [1 - (v/v_0)^4].
    _, off = away(model, where)
    straight = (off[:, :-3] < 1e-9) & (off[:, 1:-2] < 1e-9) & (off[:, 2:-1] < 1e-9)
    change = np.diff(speed, axis=1)[:, :-1] / model.step_s
    v = speed[:, :-2]
    rising = straight & (change > 1e-6)
    assert rising.sum() > 50
    law = 1.4 * (1 - (v / wanted) ** 4)
    # Steps that touch an arc or end a climb are fewer than one in ten.
    assert np.mean(np.abs(change - law)[rising] < 1e-6) > 0.9


def test_followers_keep_the_law_of_the_driver_model() -> None:
    model = CityTraffic(desired_m_per_s=(12.0, 12.0), blocks=2, block_m=400.0)
    where, speed = driven(model, 120.0, 100)
    name, place = on_streets(model, where)
    a, b = 1.4, 2.0
    errors = []
    for k in range(1, where.shape[1] - 1):
        behind, ahead, gap = pairs(name, place, k)
        free = (place[behind, k] > 40) & (place[behind, k] < 340 - 50)
        behind, ahead, gap = behind[free], ahead[free], gap[free]
        v, lead = speed[behind, k - 1], speed[ahead, k - 1]
        wish = 2.0 + np.maximum(1.5 * v + v * (v - lead) / (2 * math.sqrt(a * b)), 0)
        law = np.clip(a * (1 - (v / 12) ** 4 - (wish / gap) ** 2), -b, a)
        found = (speed[behind, k] - v) / model.step_s
        assert np.all(found <= law + 1e-6)
        errors.append((found - law)[v > b * model.step_s])
    every = np.concatenate(errors)
    assert every.size > 10_000
    assert np.mean(np.abs(every) < 1e-6) > 0.99  # the rest: kept safe by more braking


def test_half_of_the_cars_go_straight_on() -> None:
    model = CityTraffic(blocks=20)
    where, _ = driven(model, 300.0, 60)
    name, _ = on_streets(model, where)
    straight = turned = 0
    for n in range(len(where)):
        # Away from the rim, where there is no choice.
        seen = name[n][(name[n] >= 0) & (np.abs(where[n] - 2000) < 1700).all(-1)]
        legs = seen[np.flatnonzero(np.diff(seen, prepend=-2))].astype(int)
        same = (legs[1:] & 3) == (legs[:-1] & 3)
        straight, turned = straight + int(same.sum()), turned + int((~same).sum())
    total = straight + turned
    assert total > 500
    assert abs(straight / total - 0.5) < 4 * 0.5 / math.sqrt(total)


def test_the_first_minute_is_forgotten() -> None:
    _, speed = driven(CityTraffic(), 300.0, 100)
    early, late = speed[:, :100].mean(), speed[:, -100:].mean()
    assert abs(early / late - 1) < 0.1


# -- tracks, noise, contacts ----------------------------------------------------------------------


def test_the_same_generator_gives_the_same_cars_and_longer_runs_go_on() -> None:
    model = CityTraffic(blocks=3)
    first, again = model.tracks(20.0, 5, rng()), model.tracks(20.0, 5, rng())
    longer, other = model.tracks(50.0, 5, rng()), model.tracks(20.0, 5, rng(1))
    assert [track.name for track in first] == list("01234")
    for a, b, c, d in zip(first, again, longer, other, strict=True):
        np.testing.assert_array_equal(a.position_m, b.position_m)
        np.testing.assert_array_equal(a.position_m, c.position_m[: len(a.position_m)])
        assert not np.array_equal(a.position_m, d.position_m)
        np.testing.assert_allclose(np.diff(a.time_s), 0.1)
        assert (a.time_s[0], len(a.time_s)) == (0.0, 201)


def test_noise_is_white_and_leaves_the_motion() -> None:
    model = CityTraffic(blocks=3, noise_m=0.3)
    noisy = model.tracks(100.0, 20, rng())
    clean = model.tracks(100.0, 20, rng(), noisy=False)
    noise = np.stack([a.position_m - b.position_m for a, b in zip(noisy, clean, strict=True)])
    count = noise.size
    assert abs(noise.mean()) < 4 * 0.3 / math.sqrt(count)
    assert abs(noise.std() / 0.3 - 1) < 4 / math.sqrt(2 * count)
    flat = noise / 0.3
    for a, b in (
        (flat[:, 1:], flat[:, :-1]),
        (flat[1:], flat[:-1]),
        (flat[..., :1], flat[..., 1:]),
    ):
        assert abs((a * b).mean()) < 4 / math.sqrt(a.size)
    silent = CityTraffic(blocks=3, noise_m=0.0).tracks(100.0, 20, rng())
    np.testing.assert_array_equal(silent[3].position_m, clean[3].position_m)


def test_contacts_are_those_of_the_clean_tracks() -> None:
    model = CityTraffic(Discs(150.0, [300.0, 300.0]), blocks=3)
    assert isinstance(model, Mobility)
    found = model.contacts(rounds=7, round_s=9.97, devices=8, rng=rng())
    assert found.names == tuple("01234567")
    tracks = model.tracks(80.0, 8, rng(), noisy=False)
    expected = contacts_of(tracks, model.discs, rounds=7, round_s=9.97)
    np.testing.assert_allclose(found.seconds, expected.seconds, atol=1e-9)
    np.testing.assert_allclose(found.distance_m, expected.distance_m, rtol=1e-9)
    assert 0 < found.share.mean() < 1
    for rounds, devices in ((0, 3), (3, 0)):
        empty = model.contacts(rounds=rounds, round_s=10.0, devices=devices, rng=rng())
        assert empty.seconds.shape == (rounds, devices)
    assert model.tracks(10.0, 0, rng()) == []


def test_windows_of_cars_are_harder_than_constant_velocity() -> None:
    cut = {"step_s": 0.1, "past": 20, "future": 30, "gap_s": 1.0, "stride": 5}
    settings = {**cut, "unit_m": 20.0, "least_speed_m_per_s": 1.0}
    model = CityTraffic(blocks=3)
    made = windows(model.tracks(120.0, 6, rng()), **settings)
    clean = windows(model.tracks(120.0, 6, rng(), noisy=False), **settings)
    assert made.names == tuple("012345")
    assert (made.features, made.outputs) == (40, 60)
    assert made.constant_velocity() > clean.constant_velocity() > 0.2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CityTraffic(blocks=0), r"blocks = 0 is outside 1, 2"),
        (lambda: CityTraffic(blocks=2.5), r"blocks = 2\.5 is outside"),
        (lambda: CityTraffic(block_m=50.0), r"block_m = 50\.0 m is outside \[87\.[0-9]+, inf\) m"),
        (lambda: CityTraffic(desired_m_per_s=(0.0, 9.0)), r"desired_m_per_s\[0\] = 0\.0 m/s"),
        (lambda: CityTraffic(desired_m_per_s=(9.0, 8.0)), r"desired_m_per_s = \[9\.0, 8\.0\]"),
        (lambda: CityTraffic(desired_m_per_s=8.0), r"desired_m_per_s = 8\.0 m/s is no range"),
        (lambda: CityTraffic(headway_s=-1.0), r"headway_s = -1\.0 s is outside \[0, inf\)"),
        (lambda: CityTraffic(acceleration_m_per_s2=0.0), r"acceleration_m_per_s2 = 0\.0 m/s\^2"),
        (lambda: CityTraffic(braking_m_per_s2=np.nan), r"braking_m_per_s2 = nan"),
        (lambda: CityTraffic(lateral_m_per_s2=-2.0), r"lateral_m_per_s2 = -2\.0"),
        (lambda: CityTraffic(turn_radius_m=0.0), r"turn_radius_m = 0\.0 m"),
        (lambda: CityTraffic(gap_m=np.inf), r"gap_m = inf m is outside \(0, inf\)"),
        (lambda: CityTraffic(step_s=1.5), r"step_s = 1\.5 s is outside \(0, 1\]"),
        (lambda: CityTraffic(noise_m=-0.1), r"noise_m = -0\.1 m is outside \[0, inf\)"),
        (lambda: CityTraffic().tracks(0.05, 2, rng()), r"duration_s = 0\.05 s is outside \[0\.1"),
        (lambda: CityTraffic().tracks(5.0, -2, rng()), r"-2 is outside 0, 1, 2"),
        (
            lambda: CityTraffic().contacts(rounds=1, round_s=0.0, devices=2, rng=rng()),
            r"round_s = 0\.0 s",
        ),
    ],
)
def test_what_is_wrong_is_named(make, words) -> None:
    with pytest.raises(InvalidProblem, match=words):
        make()


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(TypeError, match=r"numpy\.random\.Generator"):
        CityTraffic().tracks(5.0, 2, 7)
