"""Arrays: a plane wave's phases, and the law of a channel with a direct path."""

import math

import numpy as np
import pytest

from rralloc.channel import array_response, rician_array
from rralloc.errors import InvalidProblem


def test_the_phase_grows_by_the_way_between_antennas():
    """Half a wavelength apart, the wave has sin(theta)/2 turns more to go."""
    for theta in (-1.2, 0.0, 0.3, math.pi / 6):
        a = array_response([theta], 5)[:, 0]
        for n in range(5):
            turns = n * math.sin(theta) / 2
            assert a[n] == pytest.approx(np.exp(2j * math.pi * turns))
    assert array_response([[0.1, 0.2, 0.3]] * 4, 6).shape == (4, 6, 3)


def test_from_broadside_all_antennas_agree_and_at_thirty_degrees_every_fourth():
    np.testing.assert_allclose(array_response(0.0 * np.ones(2), 3), 1)
    a = array_response([math.pi / 6], 8)[:, 0]
    np.testing.assert_allclose(a[4:], a[:4], atol=1e-12)


@pytest.mark.parametrize("kappa", [0.0, 1.0, 4.0, 1e6])
def test_mean_power_is_one_and_the_direct_part_is_what_was_asked(kappa):
    angle = np.full((20_000, 1), 0.7)
    h = rician_array(angle, 3, np.random.default_rng(0), k_factor=kappa)
    assert h.shape == (20_000, 3, 1)
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1, rel=0.02)
    a = array_response([0.7], 3)
    along = np.mean(np.abs((a.conj() * h).sum(1)) ** 2) / 9  # kappa/(kappa+1) + 1/(3 (kappa+1))
    assert along == pytest.approx((kappa + 1 / 3) / (kappa + 1), rel=0.03)
    assert abs(h.mean()) < 0.02  # the phase is uniform


def test_one_angle_is_a_row_of_one():
    assert array_response(0.3, 4).shape == (4, 1)


def test_bad_input_is_refused():
    with pytest.raises(InvalidProblem, match="0 antennas"):
        array_response([0.1], 0)
    with pytest.raises(InvalidProblem, match="finite angles"):
        array_response([np.nan], 2)
    with pytest.raises(ValueError, match="k_factor"):
        rician_array([0.1], 2, np.random.default_rng(0), k_factor=-1.0)
