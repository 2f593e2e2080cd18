"""Rate and least bandwidth: inverse of each other, against 50-digit bisection and differences."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import sync

from rralloc.numerics import rates

LN2 = math.log(2)


def close(found, wanted, rel):
    assert found == pytest.approx(wanted, rel=rel, abs=0)


@pytest.mark.parametrize("rate_bps", [1e4, 1e6, 5e6])
def test_spec_5_round_trip(rate_bps):
    a = np.array([7.6e8, 5.6e7, 1.2e7, 4.9e6])  # the four links of the acceptance block, in Hz
    band = rates.min_bandwidth(np.array(rate_bps), a)
    assert np.abs(rates.rate(band, a) / rate_bps - 1).max() < 1e-12


@given(st.floats(-12, 0.155), st.floats(-150, 150))
def test_round_trip_over_300_decades(log_rate, log_a):
    a = 10.0**log_a
    ask = 10.0**log_rate * a
    band = rates.min_bandwidth(np.array(ask), np.array(a))
    close(rates.rate(band, a), ask, 1e-12)


@given(st.floats(-12, 3), st.floats(-100, 100))
def test_bandwidth_comes_back(log_snr, log_a):
    a = 10.0**log_a
    band = a / 10.0**log_snr
    # Near the ceiling the rate forgets the bandwidth: db/b = dr/r (1 + s)/... ~ 2/s.
    blur = 1e-14 * (1 + 2 / 10.0**log_snr)
    found = rates.min_bandwidth(rates.rate(np.array(band), np.array(a)), np.array(a))
    assert found == pytest.approx(band, rel=max(1e-12, blur), abs=0) or blur > 0.1


@pytest.mark.parametrize("load", [1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999])
def test_least_bandwidth_against_50_digits(load):
    rate_bps = load * 3e6 / LN2
    close(
        rates.min_bandwidth(np.array(rate_bps), np.array(3e6)),
        sync.min_bandwidth(rate_bps, 3e6),
        1e-15 / (1 - load) + 2e-15,
    )


@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-9, 1e-12])
def test_correction_2_near_the_ceiling(gap):
    # The answer is as ill-conditioned as eps/gap; the Lambert form is wrong by a factor 2 or NaN.
    rate_bps = (1 - gap) / LN2
    exact = sync.min_bandwidth(rate_bps, 1.0)
    close(rates.min_bandwidth(np.array(rate_bps), np.array(1.0)), exact, 4e-16 / gap)


def test_ceiling_and_zero():
    a = np.array([1e6, 1e6, 1e6, 0.0, 0.0])
    ask = np.array([1e6 / LN2 * (1 + 1e-12), np.inf, 0.0, 1.0, 0.0])
    assert rates.min_bandwidth(ask, a).tolist() == [np.inf, np.inf, 0.0, np.inf, 0.0]


@given(st.floats(-6, 6), st.floats(-8, 8))
def test_slope_against_differences(log_snr, log_band):
    band = 10.0**log_band
    a = band * 10.0**log_snr
    found = float(rates.rate_slope(np.array(band), np.array(a)))

    def exact(b):
        return b * (1 + Decimal(a) / b).ln() / Decimal(2).ln()

    with localcontext() as context:
        context.prec = 60
        h = Decimal(band) * Decimal("1e-15")
        slope = (exact(Decimal(band) + h) - exact(Decimal(band) - h)) / (2 * h)
    close(found, float(slope), 1e-13)


def test_slope_at_the_ends():
    band, a = np.array([0.0, 1.0, 0.0, 1e-300]), np.array([1.0, 0.0, 0.0, 1e10])
    assert rates.rate_slope(band, a).tolist()[:3] == [np.inf, 0.0, 0.0]
    assert rates.rate_slope(band, a)[3] > 900


def test_least_bandwidth_slope_is_the_inverse_of_the_slope():
    ask, a, h = np.array([0.01, 0.5, 1.0]), np.array(1.0), 1e-6
    band = rates.min_bandwidth(ask, a)
    near = rates.min_bandwidth(ask + h, a), rates.min_bandwidth(ask - h, a)
    assert rates.min_bandwidth_slope(band, a) == pytest.approx((near[0] - near[1]) / (2 * h), 1e-6)
    assert rates.min_bandwidth_slope(np.array(0.0), a) == 0


def test_broadcasts():
    band = rates.min_bandwidth(np.array([[0.1], [0.2]]), np.array([1.0, 2.0, 3.0]))
    assert band.shape == (2, 3)
    assert band[1, 2] == rates.min_bandwidth(np.array(0.2), np.array(3.0))
