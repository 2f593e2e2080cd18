"""Decibels against their definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.channel import (
    NOISE_PSD_W_PER_HZ,
    db_to_linear,
    dbm_to_watt,
    linear_to_db,
    watt_to_dbm,
)

# 1e-15 relative in the ratio is 4e-15 dB; 1e-12 leaves room for the size of the dB itself.
DB_ROUNDING = 1e-12


def test_round_figures_are_exact() -> None:
    np.testing.assert_array_equal(db_to_linear([0.0, 10.0, 20.0, -np.inf]), [1.0, 10.0, 100.0, 0.0])
    np.testing.assert_array_equal(linear_to_db([1.0, 10.0, 100.0, 0.0]), [0.0, 10.0, 20.0, -np.inf])
    assert dbm_to_watt(30.0) == 1.0
    assert watt_to_dbm(1.0) == 30.0


def test_three_decibels_is_not_quite_a_factor_of_two() -> None:
    assert db_to_linear(3.0) == pytest.approx(math.exp(0.3 * math.log(10.0)), rel=1e-14, abs=0)


def test_noise_density_is_minus_174_dbm_per_hertz() -> None:
    assert watt_to_dbm(NOISE_PSD_W_PER_HZ) == pytest.approx(-174.0, abs=DB_ROUNDING)
    # k_B T at 290 K with the exact Boltzmann constant of the SI; the custom rounds by 0.02 dB.
    assert 10 * math.log10(1.380649e-23 * 290 / 1e-3) == pytest.approx(-174.0, abs=0.03)


@given(st.floats(-300.0, 300.0))
def test_there_and_back(db: float) -> None:
    assert linear_to_db(db_to_linear(db)) == pytest.approx(db, abs=DB_ROUNDING)
    assert watt_to_dbm(dbm_to_watt(db)) == pytest.approx(db, abs=DB_ROUNDING)


@given(st.floats(-300.0, 300.0), st.floats(-300.0, 300.0))
def test_decibels_add_where_ratios_multiply(a: float, b: float) -> None:
    assert db_to_linear(a + b) == pytest.approx(db_to_linear(a) * db_to_linear(b), rel=1e-12, abs=0)


def test_shape_is_kept_and_a_scalar_stays_one() -> None:
    for convert in (db_to_linear, linear_to_db, dbm_to_watt, watt_to_dbm):
        assert convert(np.ones((4, 3))).shape == (4, 3)
        assert convert(np.ones((0,))).shape == (0,)
        assert isinstance(convert(1.0), float)


@pytest.mark.parametrize("convert", [db_to_linear, linear_to_db, dbm_to_watt, watt_to_dbm])
@pytest.mark.parametrize("bad", [math.nan, math.inf, [1.0, math.nan], None, "ten", 1j, [1.0 + 2j]])
def test_what_is_no_number_is_refused(convert, bad) -> None:
    with pytest.raises(ValueError, match="give"):
        convert(bad)


def test_a_message_says_which_how_much_the_unit_the_range_and_the_remedy() -> None:
    with pytest.raises(ValueError, match="watt") as caught:
        watt_to_dbm([[1.0, -2.0], [-5.0, 3.0]])
    assert str(caught.value) == (
        "watt[1, 0] = -5.0 W is outside [0, inf) W: "
        "give watts; if it is in dBm already, leave out the conversion."
    )
