"""log-expm1 kernels against 60-digit decimals, over 300 decades."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.numerics import (
    expm1_over_x,
    inverse_log1p_excess,
    log1p_excess,
    log_expm1_over_x,
    xlog2_1p,
)

SMALL = [10.0**e for e in range(-300, 1, 7)]
NEAR = [0.019, 0.0199999, 0.02, 0.0200001, 0.03, 0.5, 1.0, 3.0, 30.0, 700.0]
DIGITS = 700  # e^x - 1 at x = 1e-300 needs 600 digits to keep 60


def exactly(rule, value):
    """``rule`` of the double ``value``, in decimals."""
    with localcontext() as context:
        context.prec = DIGITS
        context.Emin, context.Emax = -(10**6), 10**6
        return float(rule(Decimal(float(value))))


def close(found, wanted, rel):
    assert found == pytest.approx(wanted, rel=rel, abs=0)


@pytest.mark.parametrize("x", SMALL[::3] + NEAR)
def test_expm1_over_x(x):
    close(expm1_over_x(x), exactly(lambda d: (d.exp() - 1) / d, x), 1e-15)


@pytest.mark.parametrize("x", [*SMALL[::3], *NEAR, 1e5])
def test_log_expm1_over_x(x):
    # A large x is asked in the form that does not overflow: x + ln((1 - e^-x)/x).
    close(log_expm1_over_x(x), exactly(lambda d: d + ((1 - (-d).exp()) / d).ln(), x), 2e-14)


@pytest.mark.parametrize("u", [*SMALL[::3], *NEAR, 1e5])
def test_log1p_excess(u):
    if u < 1e-150:  # u^2/2 is below the smallest double
        assert 0 <= log1p_excess(u) <= 5e-301
    else:
        close(log1p_excess(u), exactly(lambda d: d - 1 + (-d).exp(), u), 2e-14)


def test_values_at_the_ends():
    assert expm1_over_x(0.0) == 1.0
    assert expm1_over_x(1e4) == math.inf
    assert log_expm1_over_x(0.0) == 0.0
    assert log1p_excess(0.0) == 0.0
    assert inverse_log1p_excess(np.array([0.0, np.inf])).tolist() == [0.0, np.inf]
    assert xlog2_1p(0.0, 3.0) == 0.0


@pytest.mark.parametrize("y", [*SMALL, 3.0, 1e20, 1e150, 1e160, 1e300])
def test_inverse_log1p_excess(y):
    u = float(inverse_log1p_excess(np.array(y)))
    back = exactly(lambda d: d - 1 + (-d).exp(), u) if u < 1e5 else u - 1
    close(back, y, 1e-13)


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=5))
def test_inverse_log1p_excess_keeps_shape_and_order(values):
    y = np.sort(np.array(values))
    u = inverse_log1p_excess(y[None])
    assert u.shape == (1, y.size)
    assert (np.diff(u[0]) >= -1e-15 * u[0, 1:]).all()


def test_no_bandwidth_carries_no_rate_even_where_the_ratio_overflows():
    # b log2(1 + q/b) < 1100 b while q/b is a double: far below any rate that matters.
    assert xlog2_1p(1e-305, 1e10) <= 1e-290
    close(
        xlog2_1p(1e-280, 1e10),
        exactly(lambda b: b * (1 + Decimal(10**10) / b).ln(), 1e-280) / math.log(2),
        1e-14,
    )


def test_xlog2_1p_at_two_hertz():
    assert xlog2_1p(2.0, 6.0) == pytest.approx(4.0, rel=1e-15)
    assert np.imag(xlog2_1p(2.0 + 1e-30j, 6.0)) * 1e30 == pytest.approx(
        2 - 0.75 / math.log(2), rel=1e-15
    )


def test_log1p_excess_takes_complex_steps():
    for u in (1e-5, 0.01, 0.5, 5.0):
        slope = np.imag(log1p_excess(np.array(u + 1e-30j))) * 1e30
        close(slope, -math.expm1(-u), 1e-12)
