"""Outage laws against their generators, a second formula, exact arithmetic and limits."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from rralloc.channel import (
    nakagami,
    nakagami_outage,
    outage_threshold,
    rayleigh,
    rayleigh_log_success,
    rayleigh_outage,
    rician,
    rician_outage,
)

COUNT = 400_000

thresholds = st.floats(0.0, 1e3) | st.sampled_from([1e-300, 5e-324, 1e300, math.inf])
k_factors = st.floats(0.0, 200.0)
orders = st.floats(0.5, 200.0)

# Fade, its outage law; the two are written independently of each other.
LAWS = [
    pytest.param(rayleigh, rayleigh_outage, id="rayleigh"),
    *(
        pytest.param(
            lambda s, r, k=k: rician(s, r, k_factor=k),
            lambda t, k=k: rician_outage(t, k_factor=k),
            id=f"rician-{k}",
        )
        for k in (0.0, 0.3, 4.0, 30.0)
    ),
    *(
        pytest.param(
            lambda s, r, m=m: nakagami(s, r, m=m),
            lambda t, m=m: nakagami_outage(t, m=m),
            id=f"nakagami-{m}",
        )
        for m in (0.5, 1.0, 2.5, 30.0)
    ),
]


@pytest.mark.parametrize(("fade", "outage"), LAWS)
def test_law_is_the_share_of_lost_packets(fade, outage) -> None:
    # Packets are counted through Shannon's formula, not through the threshold.
    bandwidth, snr = 1e6, 2.0
    rate = np.array([0.05, 0.5, 1.0, 1.58, 2.0]) * 1e6
    capacity = bandwidth * np.log2(1 + snr * fade(COUNT, np.random.default_rng(21)))
    lost = (capacity[:, None] < rate).mean(axis=0)
    p = outage(outage_threshold(rate, bandwidth, snr))
    # 5 standard errors of a binomial share, plus one packet for very small p.
    assert np.all(np.abs(lost - p) <= 5 * np.sqrt(p * (1 - p) / COUNT) + 1 / COUNT)


@given(thresholds)
def test_both_families_contain_rayleigh(t: float) -> None:
    p = rayleigh_outage(t)
    assert rician_outage(t, k_factor=0.0) == pytest.approx(p, rel=1e-12, abs=1e-300)
    assert nakagami_outage(t, m=1.0) == pytest.approx(p, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("k", [0.1, 1.0, 8.0, 60.0])
@pytest.mark.parametrize("t", [1e-9, 1e-2, 0.3, 0.9, 1.0, 1.7, 6.0])
def test_rician_is_a_poisson_mixture_of_gamma_laws(k: float, t: float) -> None:
    # Given N ~ Poisson(κ), (κ+1) X is Gamma(N + 1, 1): the series of the non-central chi-square.
    n = np.arange(400)
    weight = np.exp(special.xlogy(n, k) - k - special.gammaln(n + 1))
    mixture = math.fsum(weight * special.gammainc(n + 1, (k + 1) * t))
    assert rician_outage(t, k_factor=k) == pytest.approx(mixture, rel=1e-11, abs=0)


@pytest.mark.parametrize("t", [1e-300, 1e-20, 1e-9])
def test_rician_tail_is_linear(t: float) -> None:
    # The density of X at 0 is (κ+1) exp(-κ); the next term of the series is smaller by a factor t.
    for k in (0.0, 1.0, 10.0):
        tail = (k + 1) * math.exp(-k) * t
        assert rician_outage(t, k_factor=k) == pytest.approx(tail, rel=1e-12 + 100 * t, abs=0)


def test_nakagami_of_one_half_is_a_squared_gaussian() -> None:
    t = np.array([1e-12, 0.1, 1.0, 4.0, 9.0])
    expected = [math.erf(math.sqrt(x / 2)) for x in t]
    np.testing.assert_allclose(nakagami_outage(t, m=0.5), expected, rtol=1e-13)


@pytest.mark.parametrize("t", [0.05, 0.5, 1.0, 2.0])
def test_nakagami_of_whole_order_is_erlang(t: float) -> None:
    # P(Gamma(3, 1/3) > t) = exp(-3t) (1 + 3t + (3t)²/2).
    success = math.exp(-3 * t) * (1 + 3 * t + (3 * t) ** 2 / 2)
    assert nakagami_outage(t, m=3.0) == pytest.approx(1 - success, rel=1e-11, abs=0)


@pytest.mark.parametrize("t", [5e-324, 1e-300, 1e-100, 1e-20, 1e-17, 1e-8, 1e-3])
def test_rayleigh_tail_keeps_relative_accuracy(t: float) -> None:
    # 1 - exp(-t) = t - t²/2 + t³/6 - ..., summed exactly.
    x = Fraction(t)
    exact = sum((-1) ** (n + 1) * x**n / math.factorial(n) for n in range(1, 9))
    assert rayleigh_outage(t) == pytest.approx(float(exact), rel=4e-16, abs=0)


def test_ends_are_exact() -> None:
    t = np.array([0.0, np.inf])
    for p in (
        rayleigh_outage(t),
        *(rician_outage(t, k_factor=k) for k in (0.0, 1.0, 1e4, 1e8)),
        *(nakagami_outage(t, m=m) for m in (0.5, 1.0, 1e4, 1e8)),
    ):
        np.testing.assert_array_equal(p, [0.0, 1.0])
    np.testing.assert_array_equal(rayleigh_log_success(t), [0.0, -np.inf])
    assert not np.signbit(rayleigh_log_success(0.0))


def test_a_large_ratio_is_a_step_at_the_mean() -> None:
    for p in (rician_outage([0.99, 1.01], k_factor=1e8), nakagami_outage([0.99, 1.01], m=1e8)):
        np.testing.assert_allclose(p, [0.0, 1.0], atol=1e-12)
    # Half of a nearly Gaussian fade lies below its mean; the skewness moves that by 1e-4 at most.
    assert rician_outage(1.0, k_factor=1e8) == pytest.approx(0.5, abs=1e-4)
    assert nakagami_outage(1.0, m=1e8) == pytest.approx(0.5, abs=1e-4)


def test_no_corner_of_the_domain_gives_nan() -> None:
    t = np.array([0.0, 5e-324, 1e-300, 1e-9, 0.5, 1 - 1e-9, 1.0, 1.1, 1e3, 1e300, 1.7e308, np.inf])
    ratio = np.array([0.5, 1.0, 7.0, 1e3, 1e6, 1e8])[:, None]
    for p in (rician_outage(t, k_factor=ratio), nakagami_outage(t, m=ratio)):
        assert p.shape == (6, 12)
        assert np.all((p >= 0) & (p <= 1))


@given(thresholds, thresholds, k_factors, orders)
def test_outage_grows_with_the_threshold(s: float, t: float, k: float, m: float) -> None:
    low, high = min(s, t), max(s, t)
    assert rayleigh_outage(low) <= rayleigh_outage(high)
    assert rayleigh_log_success(low) >= rayleigh_log_success(high)
    # The series of the other two round differently on either side of a branch.
    for p in (rician_outage([low, high], k_factor=k), nakagami_outage([low, high], m=m)):
        assert 0.0 <= p[0] <= p[1] * (1 + 1e-11) + 1e-300
        assert p[1] <= 1.0


@given(thresholds)
def test_success_and_outage_add_to_one(t: float) -> None:
    # Each is rounded once, so the sum is within two roundings of numbers up to 1.
    assert np.exp(rayleigh_log_success(t)) + rayleigh_outage(t) == pytest.approx(1.0, abs=5e-16)


@given(st.lists(thresholds, min_size=1, max_size=5), k_factors, orders)
def test_a_batch_equals_a_loop(ts, k: float, m: float) -> None:
    for law in (
        rayleigh_outage,
        rayleigh_log_success,
        lambda t: rician_outage(t, k_factor=k),
        lambda t: nakagami_outage(t, m=m),
    ):
        batch = law(np.array([ts, ts]))
        assert batch.shape == (2, len(ts))
        np.testing.assert_allclose(batch, [[law(t) for t in ts]] * 2, rtol=1e-14)
        assert isinstance(law(0.5), float)


# --- the threshold -------------------------------------------------------------------------------


def test_threshold_has_whole_numbers_where_the_formula_has() -> None:
    t = outage_threshold([0.0, 1e6, 2e6, 3e6], 1e6, 7.0)
    np.testing.assert_allclose(t, [0.0, 1 / 7, 3 / 7, 1.0], rtol=1e-15)


@given(st.floats(0.01, 30.0), st.floats(1e-6, 1e6))
def test_at_the_threshold_the_channel_just_carries_the_rate(bits: float, snr: float) -> None:
    t = outage_threshold(bits * 1e6, 1e6, snr)
    assert 1e6 * math.log1p(snr * t) / math.log(2) == pytest.approx(bits * 1e6, rel=1e-12, abs=0)


@given(st.floats(0.0, 1e9), st.floats(1.0, 1e9), st.floats(1e-3, 1e6))
def test_threshold_does_not_depend_on_the_unit(rate: float, band: float, snr: float) -> None:
    # bit/s and Hz to kbit/s and kHz; at large exponents x the rounding of x is magnified x-fold.
    size = 1 + rate / band
    t, scaled = outage_threshold(rate, band, snr), outage_threshold(rate / 1e3, band / 1e3, snr)
    # Below 1e-300 the quotient of subnormal numbers has few digits left.
    assert scaled == t or scaled == pytest.approx(t, rel=1e-14 * size, abs=1e-300)


def test_threshold_of_a_wide_band_keeps_relative_accuracy() -> None:
    # r/b = 1e-20: (2^(r/b) - 1) / γ = ln(2) · 1e-20 / γ to first order, and 1 + that rounds to 1.
    assert outage_threshold(1e-14, 1e6, 0.5) == pytest.approx(
        2 * math.log(2) * 1e-20, rel=1e-15, abs=0
    )


def test_threshold_where_the_exponential_overflows() -> None:
    # 2^1500 / 2^1000 = 2^500, though neither 2^1500 nor its exponent's exp is a double.
    assert outage_threshold(1500.0, 1.0, 2.0**1000) == pytest.approx(2.0**500, rel=1e-12, abs=0)
    # Both sides of the switch between the two formulas, at exponent 700 nats.
    bits = 700 / math.log(2)
    below, above = outage_threshold([bits * (1 - 1e-12), bits * (1 + 1e-12)], 1.0, 1e300)
    assert above / below == pytest.approx(1 + 1400e-12, rel=1e-11, abs=0)
    assert outage_threshold(1e9, 1.0, 1.0) == math.inf


@pytest.mark.parametrize(
    ("rate", "band", "snr", "expected"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, math.inf, 0.0),
        (0.0, 1e6, 0.0, 0.0),
        (1.0, 0.0, 1.0, math.inf),
        (1.0, 0.0, math.inf, math.inf),
        (1.0, 1e6, 0.0, math.inf),
        (1e-300, 1e300, 0.0, math.inf),
        (1.0, 1e6, math.inf, 0.0),
        (1e300, 1e-300, math.inf, math.inf),
        (1e300, 1e-300, 1.0, math.inf),
        (5e-324, 1e6, 5e-324, 0.0),
    ],
)
def test_threshold_at_the_ends(rate, band, snr, expected) -> None:
    assert outage_threshold(rate, band, snr) == expected


def test_threshold_broadcasts_devices_over_a_batch() -> None:
    t = outage_threshold(np.full((5, 1), 1e6), [1e6, 0.0, 2e6], 1.0)
    assert t.shape == (5, 3)
    np.testing.assert_allclose(t[0], [1.0, np.inf, math.sqrt(2) - 1], rtol=1e-14)
    with pytest.raises(ValueError, match=r"rate_bps \(3,\), bandwidth_hz \(2,\), mean_snr \(\)"):
        outage_threshold(np.ones(3), np.ones(2), 1.0)


def test_inputs_are_left_alone() -> None:
    rate = np.array([0.0, 1e6])
    outage_threshold(rate, 1e6, 1.0)
    np.testing.assert_array_equal(rate, [0.0, 1e6])


@pytest.mark.parametrize("bad", [-1.0, math.nan, -math.inf])
def test_numbers_outside_the_domain_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"rate_bps\[1\] = .* bit/s is outside \[0, inf\) bit/s"):
        outage_threshold([1.0, bad], 1.0, 1.0)
    with pytest.raises(ValueError, match=r"bandwidth_hz\[1\] = .* Hz is outside \[0, inf\) Hz"):
        outage_threshold(1.0, [1.0, bad], 1.0)
    with pytest.raises(ValueError, match=r"mean_snr\[1\] = .*is outside \[0, inf\].*not dB"):
        outage_threshold(1.0, 1.0, [1.0, bad])
    for law in (
        rayleigh_outage,
        rayleigh_log_success,
        lambda t: rician_outage(t, k_factor=1.0),
        lambda t: nakagami_outage(t, m=1.0),
    ):
        with pytest.raises(ValueError, match=r"threshold\[2\] = .*outage_threshold"):
            law([0.0, math.inf, bad])
    with pytest.raises(ValueError, match="k_factor"):
        rician_outage(1.0, k_factor=bad)
    with pytest.raises(ValueError, match="m = "):
        nakagami_outage(1.0, m=bad)


def test_an_infinite_rate_or_band_is_refused() -> None:
    with pytest.raises(ValueError, match="rate_bps = inf"):
        outage_threshold(math.inf, 1.0, 1.0)
    with pytest.raises(ValueError, match="bandwidth_hz = inf"):
        outage_threshold(1.0, math.inf, 1.0)
