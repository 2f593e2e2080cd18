"""Path-loss laws against the numbers of the standard and against direct formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.channel import (
    SPEED_OF_LIGHT_M_PER_S,
    free_space,
    log_distance,
    macro_3gpp,
    with_shadowing,
)

metres = st.floats(1.0, 1e5)


def loss_db(gain):
    return -10.0 * np.log10(gain)


def test_macro_has_the_numbers_of_the_standard() -> None:
    assert macro_3gpp(1000.0) == pytest.approx(10.0**-12.81, rel=1e-14, abs=0)
    assert loss_db(macro_3gpp(1000.0)) == pytest.approx(128.1, abs=1e-12)
    assert loss_db(macro_3gpp(100.0)) == pytest.approx(90.5, abs=1e-12)
    assert loss_db(macro_3gpp(500.0)) == pytest.approx(128.1 - 37.6 * math.log10(2.0), abs=1e-12)


def test_macro_agrees_with_the_general_formula_of_tr_36942() -> None:
    # L = 40 (1 - 0.004 h) log10(R) - 18 log10(h) + 21 log10(f) + 80, h = 15 m, f = 2000 MHz, R km.
    # The standard rounds 128.15 to 128.1.
    for km in (0.035, 0.1, 0.5, 1.0, 5.0):
        general = (
            40 * (1 - 0.06) * math.log10(km) - 18 * math.log10(15) + 21 * math.log10(2000) + 80
        )
        assert loss_db(macro_3gpp(1000 * km)) == pytest.approx(general, abs=0.06)


@given(metres)
def test_macro_is_a_log_distance_law(d: float) -> None:
    same = log_distance(d, exponent=3.76, reference_loss_db=128.1, reference_m=1000.0)
    assert macro_3gpp(d) == pytest.approx(same, rel=1e-12, abs=0)


@given(metres, st.floats(1e8, 1e11))
def test_free_space_is_the_formula_of_friis(d: float, f: float) -> None:
    friis = (SPEED_OF_LIGHT_M_PER_S / (4 * math.pi * d * f)) ** 2
    assert free_space(d, carrier_hz=f) == pytest.approx(friis, rel=1e-12, abs=0)


def test_free_space_spreads_power_over_a_sphere() -> None:
    # An isotropic antenna has effective area lambda² / 4π; the sphere has area 4π d².
    wavelength = SPEED_OF_LIGHT_M_PER_S / 1e9
    share = (wavelength**2 / (4 * math.pi)) / (4 * math.pi * 250.0**2)
    assert free_space(250.0, carrier_hz=1e9) == pytest.approx(share, rel=1e-12, abs=0)


@given(metres, st.floats(1.0, 6.0), st.floats(0.0, 120.0))
def test_log_distance_is_a_power_law(d: float, n: float, loss: float) -> None:
    gain = log_distance(d, exponent=n, reference_loss_db=loss, reference_m=10.0)
    assert gain == pytest.approx(10.0 ** (-loss / 10.0) * (d / 10.0) ** -n, rel=1e-11, abs=0)


@given(metres, st.floats(1.0, 6.0))
def test_log_distance_does_not_depend_on_the_unit_of_length(d: float, n: float) -> None:
    in_metres = log_distance(d, exponent=n, reference_loss_db=40.0, reference_m=1.0)
    in_kilometres = log_distance(d / 1e3, exponent=n, reference_loss_db=40.0, reference_m=1e-3)
    assert in_metres == pytest.approx(in_kilometres, rel=1e-12, abs=0)


@given(st.lists(metres, min_size=2, max_size=6, unique=True))
def test_farther_is_weaker_and_a_batch_equals_a_loop(distances) -> None:
    d = np.sort(distances)
    laws = (
        macro_3gpp,
        lambda x: log_distance(x, exponent=3.0, reference_loss_db=30.0),
        lambda x: free_space(x, carrier_hz=2e9),
    )
    for law in laws:
        assert np.all(np.diff(law(d)) <= 0)
        # SIMD and scalar code may differ in the last digits.
        np.testing.assert_allclose(law(d), [law(x) for x in d], rtol=1e-13)
        np.testing.assert_array_equal(law(d[:, None])[:, 0], law(d))


def test_parameters_broadcast_over_devices() -> None:
    gain = log_distance(np.full((5, 3), 10.0), exponent=[2.0, 3.0, 4.0], reference_loss_db=0.0)
    np.testing.assert_allclose(gain, np.tile([1e-2, 1e-3, 1e-4], (5, 1)), rtol=1e-13)


def test_extreme_distances_stay_numbers() -> None:
    assert macro_3gpp(1e300) == 0.0
    assert free_space(1e300, carrier_hz=1e300) == 0.0
    with pytest.raises(ValueError, match=r"path loss = .* dB is outside .*metres"):
        macro_3gpp(1e-300)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, -math.inf, math.nan])
def test_distance_must_be_positive_and_finite(bad: float) -> None:
    laws = (
        macro_3gpp,
        lambda d: log_distance(d, exponent=2.0, reference_loss_db=0.0),
        lambda d: free_space(d, carrier_hz=1e9),
    )
    for law in laws:
        with pytest.raises(
            ValueError, match=r"distance_m\[1\] = .* m is outside \(0, inf\) m: give"
        ):
            law([1.0, bad, 2.0])


def test_the_worst_index_is_named() -> None:
    with pytest.raises(ValueError, match=r"distance_m\[1, 2\] = -30\.0 m"):
        macro_3gpp([[1.0, -2.0, 3.0], [0.0, 5.0, -30.0]])
    with pytest.raises(ValueError, match=r"distance_m\[0, 1\] = nan m"):
        macro_3gpp([[1.0, math.nan, 3.0], [0.0, 5.0, -30.0]])


def test_the_other_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="exponent = -2"):
        log_distance(1.0, exponent=-2.0, reference_loss_db=0.0)
    with pytest.raises(ValueError, match="reference_loss_db = nan dB"):
        log_distance(1.0, exponent=2.0, reference_loss_db=math.nan)
    with pytest.raises(ValueError, match=r"reference_m = 0\.0 m"):
        log_distance(1.0, exponent=2.0, reference_loss_db=0.0, reference_m=0.0)
    with pytest.raises(ValueError, match=r"carrier_hz = 0\.0 Hz"):
        free_space(1.0, carrier_hz=0.0)
    with pytest.raises(ValueError, match=r"distance_m \(3,\), exponent \(2,\)"):
        log_distance(np.ones(3), exponent=np.ones(2), reference_loss_db=0.0)


def test_shadowing_is_normal_in_decibels_with_median_one() -> None:
    count, sigma = 200_000, 8.0
    x = 10 * np.log10(with_shadowing(np.full(count, 1e-9), sigma, np.random.default_rng(1)) / 1e-9)
    # 5 standard errors: sigma/sqrt(n) for the mean, sigma²·sqrt(2/n) for the variance.
    assert abs(x.mean()) < 5 * sigma / math.sqrt(count)
    assert abs(x.var() - sigma**2) < 5 * sigma**2 * math.sqrt(2 / count)


def test_shadowing_of_zero_decibels_changes_nothing() -> None:
    gain = macro_3gpp([100.0, 200.0])
    np.testing.assert_array_equal(with_shadowing(gain, 0.0, np.random.default_rng(0)), gain)


def test_shadowing_draws_one_value_for_each_entry_and_is_reproducible() -> None:
    first = with_shadowing(np.ones(3), np.full((4, 1), 6.0), np.random.default_rng(7))
    again = with_shadowing(np.ones(3), np.full((4, 1), 6.0), np.random.default_rng(7))
    assert first.shape == (4, 3)
    assert np.unique(first).size == 12
    np.testing.assert_array_equal(first, again)


def test_shadowing_checks_its_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"gain\[0\] = -1\.0"):
        with_shadowing([-1.0], 8.0, rng)
    with pytest.raises(ValueError, match=r"sigma_db = -8\.0 dB is outside \[0, 100\] dB"):
        with_shadowing([1.0], -8.0, rng)
    with pytest.raises(TypeError, match="default_rng"):
        with_shadowing([1.0], 8.0, 0)  # type: ignore[arg-type]
