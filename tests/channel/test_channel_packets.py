"""The fade a packet needs: spec references, derivatives, inverse, Monte Carlo, extremes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.channel.packets import (
    fade_threshold,
    fade_threshold_slopes,
    log_fade_threshold,
    roughly_least_band,
)
from rralloc.numerics.rates import min_bandwidth

ONE = np.ones(())
positive = st.floats(-3, 1).map(lambda e: 10.0**e)


def test_spec_references():
    """Section 3.4: theta = gamma = r = 1."""
    for band, want in ((1e-3, 686.23942528), (1e-6, 693133.36504939), (1e-12, 6.93147181e11)):
        got = log_fade_threshold(np.array(band), ONE, ONE)
        assert float(got) == pytest.approx(want, rel=2e-9)


def test_worked_thresholds():
    """Section 7: make(11,5,3) at b = 1/5."""
    gamma = np.array([1.14332685, 6.30355753, 10.09314961, 0.72178527, 1.24991985])
    theta = 0.2460629921
    sign = fade_threshold(np.full(5, theta / 5), gamma, np.array(0.1476377953))
    modulus = fade_threshold(np.full(5, (1 - theta) / 5), gamma, np.array(0.4523622047))
    np.testing.assert_allclose(
        sign, [0.30130333, 0.0546498, 0.03413089, 0.4772724, 0.27560822], rtol=3e-7
    )
    np.testing.assert_allclose(
        modulus, [0.92319341, 0.167447, 0.10457705, 1.46236265, 0.8444636], rtol=3e-7
    )


@given(x=positive, snr=positive, rate=positive)
def test_slopes_logarithm_and_inverse(x, snr, rate):
    band, h = np.array(x), 1e-30
    phi, slope, bend = fade_threshold_slopes(band, np.array(snr), np.array(rate))
    again = fade_threshold(band, np.array(snr), np.array(rate))
    np.testing.assert_allclose(phi, again, rtol=1e-14)
    if rate * np.log(2) / x > 600:
        assert phi > 1e200
        return
    np.testing.assert_allclose(
        log_fade_threshold(band, np.array(snr), np.array(rate)), np.log(phi), rtol=1e-12, atol=1e-12
    )
    exact = np.imag(fade_threshold(band + 1j * h, np.array(snr), np.array(rate))) / h
    np.testing.assert_allclose(slope, exact, rtol=1e-6)
    e = 1e-5 * x
    up, down = (fade_threshold_slopes(band + d, np.array(snr), np.array(rate))[1] for d in (e, -e))
    np.testing.assert_allclose(bend, (up - down) / (2 * e), rtol=1e-4)
    assert slope < 0 < bend
    u = rate * np.log(2) / x
    if 1e-3 < u < 300:  # elsewhere phi hardly depends on the band, or the band on phi
        np.testing.assert_allclose(min_bandwidth(np.array(rate), snr * phi), x, rtol=1e-8)
        np.testing.assert_allclose(roughly_least_band(rate, snr * phi), x, rtol=1e-4)


def test_probability_by_monte_carlo():
    """Section 2.3: P(b log2(1 + ...) carries the packet) = exp(-phi/a), within 4 sigma."""
    rng = np.random.default_rng(0)
    x, snr, rate, share = 0.2, 3.0, 0.4, 0.6
    fade = rng.exponential(size=400_000)
    carried = x * np.log2(1 + share * snr * fade / x) >= rate
    want = np.exp(-fade_threshold(np.array(x), np.array(snr), np.array(rate)) / share)
    assert abs(carried.mean() - want) <= 4 * np.sqrt(want * (1 - want) / fade.size)


def test_extremes_are_limits_not_nan():
    x = np.array([0.0, 1e-9, 0.5, 0.5])
    snr, rate = np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(fade_threshold(x, snr, rate), [np.inf, np.inf, np.inf, 0.0])
    phi, slope, bend = fade_threshold_slopes(x, snr, rate)
    np.testing.assert_array_equal(phi, [np.inf, np.inf, np.inf, 0.0])
    assert not np.isnan(slope[1:]).any()
    assert not np.isnan(bend[1:]).any()
