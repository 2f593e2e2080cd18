"""Placement of devices against the law of areas."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rralloc.channel import Cell, Placement, macro_3gpp

COUNT = 100_000
# Kolmogorov's asymptotic bound: P(sqrt(n) D > 2.7) < 1e-6.
KS_BOUND = 2.7 / math.sqrt(COUNT)


@pytest.mark.parametrize(("low", "high"), [(10.0, 500.0), (300.0, 400.0), (1e-6, 1.0)])
def test_drop_is_uniform_by_area(low: float, high: float) -> None:
    placement = Cell(high, low).drop(COUNT, np.random.default_rng(31))
    # Share of the annulus nearer than d, by area: this is uniform on [0, 1].
    share = (placement.distance_m**2 - low**2) / (high**2 - low**2)
    assert stats.kstest(share, "uniform").statistic < KS_BOUND
    x, y = placement.positions_m.T
    turn = np.arctan2(y, x) / (2 * math.pi) + 0.5
    assert stats.kstest(turn, "uniform").statistic < KS_BOUND
    # Distance and angle are independent: correlation below 5 standard errors.
    assert abs(np.corrcoef(share, turn)[0, 1]) < 5 / math.sqrt(COUNT)


def test_any_patch_receives_devices_in_proportion_to_its_area() -> None:
    # A square off centre, a shape that polar coordinates do not favour.
    xy = Cell(500.0, 10.0).drop(COUNT, np.random.default_rng(32)).positions_m
    inside = np.all((xy > [100.0, -250.0]) & (xy < [300.0, -50.0]), axis=1).mean()
    p = 200.0**2 / (math.pi * (500.0**2 - 10.0**2))
    assert abs(inside - p) < 5 * math.sqrt(p * (1 - p) / COUNT)


@given(st.floats(1e-3, 1e6), st.floats(1e-6, 1.0), st.integers(0, 20), st.integers(0, 2**32 - 1))
def test_drop_stays_in_the_annulus(radius: float, hole: float, count: int, seed: int) -> None:
    cell = Cell(radius, radius * hole)
    placement = cell.drop(count, np.random.default_rng(seed))
    assert placement.cell is cell
    assert placement.positions_m.shape == (count, 2)
    assert placement.distance_m.shape == (count,)
    assert np.all(placement.distance_m >= cell.min_distance_m)
    assert np.all(placement.distance_m <= cell.radius_m)


def test_drop_repeats_with_its_seed_and_feeds_a_path_loss() -> None:
    first = Cell(500.0).drop(6, np.random.default_rng(33))
    again = Cell(500.0).drop(6, np.random.default_rng(33))
    np.testing.assert_array_equal(first.positions_m, again.positions_m)
    assert np.all(macro_3gpp(first.distance_m) > 0)


def test_a_ring_has_one_distance() -> None:
    placement = Cell(50.0, 50.0).drop(5, np.random.default_rng(0))
    np.testing.assert_array_equal(placement.distance_m, 50.0)


@given(st.lists(st.floats(10.0, 500.0), max_size=30))
def test_equispaced_keeps_distances_in_order(distances) -> None:
    placement = Cell(500.0).equispaced(distances)
    np.testing.assert_allclose(placement.distance_m, distances, rtol=1e-15 * 4)


def test_equispaced_turns_by_the_golden_angle() -> None:
    x, y = Cell(500.0).equispaced(np.full(40, 100.0)).positions_m.T
    step = np.diff(np.unwrap(np.arctan2(y, x)))
    # The golden ratio divides the full turn; unwrap reports steps within half a turn.
    golden = 2 * math.pi / ((1 + math.sqrt(5)) / 2) ** 2
    np.testing.assert_allclose(step, golden, rtol=1e-12)
    # Legible: 40 devices on one circle stay apart by at least a third of the even spacing.
    gaps = np.diff(np.sort(np.arctan2(y, x)))
    assert gaps.min() > 2 * math.pi / 40 / 3


def test_placement_computes_distances_of_known_positions() -> None:
    placement = Placement(Cell(500.0), [[3.0 * 10, 4.0 * 10], [-300.0, 400.0], [0.0, -10.0]])
    np.testing.assert_allclose(placement.distance_m, [50.0, 500.0, 10.0], rtol=1e-15)


def test_placement_does_not_change() -> None:
    given_xy = np.array([[30.0, 40.0]])
    placement = Placement(Cell(500.0), given_xy)
    given_xy[0] = 0.0
    np.testing.assert_array_equal(placement.positions_m, [[30.0, 40.0]])
    with pytest.raises(ValueError, match="read-only"):
        placement.positions_m[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        placement.cell = Cell(1.0, 0.5)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        placement.cell.radius_m = 1.0  # type: ignore[misc]


def test_cells_compare_by_value_and_placements_by_identity() -> None:
    assert Cell(500.0) == Cell(500.0, 10.0)
    a, b = (Placement(Cell(500.0), [[30.0, 40.0]]) for _ in range(2))
    assert a == a
    assert a != b
    assert len({a, b}) == 2


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_radius_is_checked(bad: float) -> None:
    with pytest.raises(ValueError, match=r"radius_m = .* m is outside \(0, inf\) m: give"):
        Cell(bad)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, 501.0])
def test_minimum_distance_is_checked(bad: float) -> None:
    with pytest.raises(ValueError, match=r"min_distance_m = .* m is outside \(0, 500\.0\] m"):
        Cell(500.0, bad)


def test_a_small_cell_needs_a_small_hole() -> None:
    with pytest.raises(ValueError, match=r"min_distance_m = 10\.0 m is outside \(0, 5\.0\] m"):
        Cell(5.0)


def test_a_radius_is_one_number() -> None:
    with pytest.raises(ValueError, match=r"radius_m has shape \(2,\)"):
        Cell(np.array([1.0, 2.0]))  # type: ignore[arg-type]


def test_count_and_generator_are_checked() -> None:
    for bad in (-1, 2.5, "3", None):
        with pytest.raises(ValueError, match=r"count = .*whole number"):
            Cell(500.0).drop(bad, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rng is a int"):
        Cell(500.0).drop(3, 0)  # type: ignore[arg-type]


def test_distances_outside_the_cell_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"distance_m\[2\] = 900\.0 m is outside \[10\.0, 500\.0\]"
    ):
        Cell(500.0).equispaced([5.0, 100.0, 900.0])
    with pytest.raises(ValueError, match=r"distance_m\[1\] = nan m"):
        Cell(500.0).equispaced([50.0, math.nan])
    with pytest.raises(ValueError, match=r"distance_m has shape \(\)"):
        Cell(500.0).equispaced(100.0)
    with pytest.raises(ValueError, match="distance_m holds"):
        Cell(500.0).equispaced(["far"])


def test_positions_outside_the_cell_are_named() -> None:
    with pytest.raises(ValueError, match=r"distance of positions_m\[1\] = 500\.5.* m is outside"):
        Placement(Cell(500.0), [[100.0, 0.0], [0.0, -500.5]])
    with pytest.raises(ValueError, match=r"positions_m\[0, 1\] = nan m"):
        Placement(Cell(500.0), [[100.0, math.nan]])
    with pytest.raises(ValueError, match=r"positions_m has shape \(2,\)"):
        Placement(Cell(500.0), [100.0, 100.0])
