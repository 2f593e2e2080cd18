"""Intervals against scipy's t-tests, curve reading against loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rralloc.fl.statistics import (
    accuracy_at,
    at,
    first_reaching,
    mean_interval,
    paired_difference,
    rounds_to,
)

steps = st.floats(0, 10).map(lambda v: round(v, 1))  # rounded, so that ties happen
values = st.one_of(st.just(math.nan), st.floats(0, 1))
curves = st.lists(st.tuples(steps, values), min_size=1, max_size=12).filter(
    lambda points: not all(math.isnan(y) for _, y in points)
)


def unzip(points):
    return np.cumsum([dx for dx, _ in points]), np.array([y for _, y in points])


def at_by_loop(x_curve, y_curve, x):
    known = [(a, b) for a, b in zip(x_curve, y_curve) if not math.isnan(b)]
    result = known[0][1]
    for a, b in known:
        if a <= x:
            result = b
    return result


@pytest.mark.parametrize("count", [2, 5, 30])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_paired_difference_equals_the_paired_t_test(count, confidence):
    rng = np.random.default_rng(count)
    a, b = rng.normal(1.0, 2.0, count), rng.normal(size=count)
    got = paired_difference(a, b, confidence)
    want = stats.ttest_rel(a, b).confidence_interval(confidence)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=1e-12)
    assert got.mean == pytest.approx(np.mean(a) - np.mean(b), rel=1e-12)
    assert got.count == count


def test_mean_interval_equals_the_one_sample_t_test():
    a = np.random.default_rng(0).normal(3.0, 1.0, 8)
    got = mean_interval(a, 0.9)
    want = stats.ttest_1samp(a, 0.0).confidence_interval(0.9)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=1e-12)
    assert got.mean == pytest.approx(sum(a) / 8, rel=1e-14)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    runs = 2000
    intervals = [mean_interval(rng.normal(5.0, 2.0, 4), 0.8) for _ in range(runs)]
    covered = sum(i.low <= 5.0 <= i.high for i in intervals)
    assert abs(covered - 0.8 * runs) < 5 * math.sqrt(runs * 0.8 * 0.2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=10))
def test_identical_pairs_have_no_width(a):
    got = paired_difference(a, a)
    assert (got.mean, got.low, got.high) == (0.0, 0.0, 0.0)


@given(st.floats(-1e6, 1e6), st.integers(2, 10))
def test_equal_values_have_no_width(value, count):
    got = mean_interval([value] * count)
    assert got.low == got.mean == got.high == pytest.approx(value, rel=1e-14)


def test_one_seed_says_nothing_about_the_spread():
    got = paired_difference([0.9], [0.7])
    assert (got.low, got.high, got.count) == (-math.inf, math.inf, 1)
    assert got.mean == pytest.approx(0.2)


@given(curves, st.floats(-1, 130))
def test_at_equals_a_loop_and_is_never_nan(points, x):
    x_curve, y_curve = unzip(points)
    assert at(x_curve, y_curve, x) == at_by_loop(x_curve, y_curve, x)


def test_at_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0], [0.1, math.nan, 0.3, math.nan]
    assert [at(x, y, t) for t in (0.0, 1.0, 2.9, 3.0, 9.0)] == [0.1, 0.1, 0.1, 0.3, 0.3]
    assert at([1.0, 1.0], [0.2, 0.5], 1.0) == 0.5
    assert at([1.0, math.inf], [0.2, 0.5], 1e300) == 0.2


def test_accuracy_at_equals_a_loop_over_runs_and_budgets():
    rng = np.random.default_rng(0)
    seconds = rng.random((2, 3, 7)).cumsum(axis=-1)
    accuracy = np.where(rng.random((2, 3, 7)) < 0.4, np.nan, rng.random((2, 3, 7)))
    accuracy[..., 2] = 0.5
    budget = np.array([0.0, 1.0, 2.5, 99.0])
    got = accuracy_at(seconds, accuracy, budget)
    assert got.shape == (2, 3, 4)
    for i, j, b in np.ndindex(got.shape):
        assert got[i, j, b] == at_by_loop(seconds[i, j], accuracy[i, j], budget[b])
    np.testing.assert_array_equal(accuracy_at(seconds, accuracy, 2.5), got[..., 2])


def test_accuracy_at_shares_one_time_axis():
    accuracy = np.array([[0.1, 0.2], [0.3, 0.4]])
    assert accuracy_at([1.0, 2.0], accuracy, 1.5).tolist() == [0.1, 0.3]


@given(curves, st.floats(0, 1))
def test_reaching_a_target_equals_a_loop(points, target):
    cost, accuracy = unzip(points)
    reached = [r for r, y in enumerate(accuracy) if y >= target]
    assert rounds_to(accuracy, target) == (reached[0] if reached else None)
    assert first_reaching(cost, accuracy, target) == (cost[reached[0]] if reached else math.inf)


@given(curves)
def test_at_the_cost_of_a_target_the_best_value_is_paid_for(points):
    cost, accuracy = unzip(points)
    best = float(np.nanmax(accuracy))
    assert accuracy[cost <= first_reaching(cost, accuracy, best)].tolist().count(best) >= 1


def test_inputs_stay():
    x, y = np.array([1.0, 2.0]), np.array([np.nan, 0.5])
    copies = x.copy(), y.copy()
    accuracy_at(x, y, [1.0])
    first_reaching(x, y, 0.5)
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(y, copies[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_difference([1.0, 2.0], [1.0]), "b has 1 values and a has 2"),
        (lambda: paired_difference([1.0], [math.inf]), "b=.*finite"),
        (lambda: mean_interval([]), "a=.*non-empty"),
        (lambda: mean_interval([math.nan]), "a=.*finite"),
        (lambda: mean_interval([[1.0]]), "a=.*list"),
        (lambda: mean_interval([1.0], 1.0), "confidence=1.0"),
        (lambda: mean_interval([1.0], 0.0), "confidence=0.0"),
        (lambda: at([1.0], [math.nan], 1.0), "only NaN"),
        (lambda: at([1.0, 2.0], [0.1], 1.0), "same number of points"),
        (lambda: at([], [], 1.0), "same number of points R >= 1"),
        (lambda: at(1.0, 0.5, 1.0), "same number of points R >= 1"),
        (lambda: at([2.0, 1.0], [0.1, 0.2], 1.0), "falls or is NaN"),
        (lambda: at([math.nan], [0.1], 1.0), "falls or is NaN"),
        (lambda: at([1.0], [0.1], math.nan), "budget is NaN"),
        (lambda: rounds_to([0.1], math.nan), "target=nan"),
        (lambda: rounds_to([[0.1]], 0.1), "accuracy has shape"),
        (lambda: first_reaching([1.0], [0.1, 0.2], 0.1), "same number of points"),
        (lambda: first_reaching([2.0, 1.0], [0.1, 0.2], 0.1), "falls or is NaN"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
