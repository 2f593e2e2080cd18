"""Fading generators against the moments and limits of their laws.

Statistical bounds are 5 standard errors at a fixed seed: for a correct generator one check in two
million would fail, and the seed fixes which.
"""

import math

import numpy as np
import pytest
from scipy import stats

from rralloc.channel import (
    nakagami,
    rayleigh,
    rayleigh_coefficients,
    rician,
    rician_coefficients,
)

COUNT = 200_000

# Name, generator, variance of the fade from the table of the module.
LAWS = [
    ("rayleigh", rayleigh, 1.0),
    *(
        (f"rician {k}", lambda s, r, k=k: rician(s, r, k_factor=k), (2 * k + 1) / (k + 1) ** 2)
        for k in (0.0, 0.5, 3.0, 20.0)
    ),
    *(
        (f"nakagami {m}", lambda s, r, m=m: nakagami(s, r, m=m), 1.0 / m)
        for m in (0.5, 1.0, 2.5, 20.0)
    ),
]


@pytest.mark.parametrize(("draw", "variance"), [pytest.param(d, v, id=n) for n, d, v in LAWS])
def test_mean_is_one_and_variance_is_that_of_the_law(draw, variance) -> None:
    x = draw(COUNT, np.random.default_rng(11))
    assert np.all(x >= 0)
    assert abs(x.mean() - 1.0) < 5 * math.sqrt(variance / COUNT)
    # The standard error of (x - 1)² from the sample itself; a fourth moment is not worth a table.
    square = (x - 1.0) ** 2
    assert abs(square.mean() - variance) < 5 * square.std() / math.sqrt(COUNT)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(rayleigh, id="rayleigh"),
        pytest.param(lambda s, r: rician(s, r, k_factor=0.0), id="k_factor=0"),
        pytest.param(lambda s, r: nakagami(s, r, m=1.0), id="m=1"),
        pytest.param(lambda s, r: np.abs(rayleigh_coefficients(s, r)) ** 2, id="coefficients"),
    ],
)
def test_rayleigh_and_its_limits_are_exponential(draw) -> None:
    # Kolmogorov's asymptotic bound: P(sqrt(n) D > 2.7) < 1e-6.
    x = draw(COUNT, np.random.default_rng(12))
    assert stats.kstest(x, "expon").statistic < 2.7 / math.sqrt(COUNT)


def test_nakagami_of_whole_order_is_a_mean_of_rayleigh_branches() -> None:
    single = nakagami(COUNT, np.random.default_rng(13), m=4.0)
    branches = rayleigh((COUNT, 4), np.random.default_rng(14)).mean(axis=1)
    # Two samples of n each: P(sqrt(n/2) D > 2.7) < 1e-6.
    assert stats.ks_2samp(single, branches).statistic < 2.7 * math.sqrt(2 / COUNT)


def test_a_large_ratio_leaves_no_fading() -> None:
    rng = np.random.default_rng(15)
    # Standard deviations sqrt(2/κ) = 1.4e-4 and sqrt(1/m) = 1e-4; 10 of them as the bound.
    np.testing.assert_allclose(rician(1000, rng, k_factor=1e8), 1.0, atol=1.4e-3)
    np.testing.assert_allclose(nakagami(1000, rng, m=1e8), 1.0, atol=1e-3)


def test_rayleigh_coefficients_are_circular() -> None:
    h = rayleigh_coefficients(COUNT, np.random.default_rng(16))
    error = 5 / math.sqrt(COUNT)
    # Var Re h = Var Im h = 1/2, E|h|² = 1, and E h² = 0 says that no phase is preferred.
    assert abs(h.mean()) < error
    assert abs((np.abs(h) ** 2).mean() - 1.0) < error
    assert abs((h**2).mean()) < error * math.sqrt(2)
    assert abs(h.real.var() - 0.5) < error
    assert abs((h.real * h.imag).mean()) < error


def test_rician_coefficients_have_the_direct_path_as_their_mean() -> None:
    kappa = np.array([0.0, 1.0, 9.0])
    h = rician_coefficients((COUNT, 3), np.random.default_rng(17), k_factor=kappa)
    error = 5 / math.sqrt(COUNT)
    np.testing.assert_allclose(h.mean(axis=0), np.sqrt(kappa / (kappa + 1)), atol=error)
    np.testing.assert_allclose(h.var(axis=0), 1 / (kappa + 1), atol=2 * error)
    np.testing.assert_allclose((np.abs(h) ** 2).mean(axis=0), 1.0, atol=error)


def test_rician_fade_is_the_power_of_its_coefficient() -> None:
    fade = rician((5, 2), np.random.default_rng(18), k_factor=3.0)
    h = rician_coefficients((5, 2), np.random.default_rng(18), k_factor=3.0)
    np.testing.assert_allclose(fade, np.abs(h) ** 2, rtol=1e-14)


GENERATORS = [
    pytest.param(rayleigh, np.float64, id="rayleigh"),
    pytest.param(lambda s, r: rician(s, r, k_factor=2.0), np.float64, id="rician"),
    pytest.param(lambda s, r: nakagami(s, r, m=2.0), np.float64, id="nakagami"),
    pytest.param(rayleigh_coefficients, np.complex128, id="rayleigh_coefficients"),
    pytest.param(
        lambda s, r: rician_coefficients(s, r, k_factor=2.0),
        np.complex128,
        id="rician_coefficients",
    ),
]


@pytest.mark.parametrize(("draw", "dtype"), GENERATORS)
@pytest.mark.parametrize("shape", [3, (3,), (2, 3), (0,), (4, 0, 2), (), [2, 3], np.int64(3)])
def test_shape_type_and_seed(draw, dtype, shape) -> None:
    x = draw(shape, np.random.default_rng(19))
    assert x.shape == np.empty(shape).shape
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, draw(shape, np.random.default_rng(19)))


@pytest.mark.parametrize(("draw", "dtype"), GENERATORS)
def test_shape_and_generator_are_checked(draw, dtype) -> None:
    rng = np.random.default_rng(0)
    for bad in (-1, (2, -3), 2.5, "3"):
        with pytest.raises(ValueError, match="whole number"):
            draw(bad, rng)
    for bad in (0, None, np.random.RandomState(0)):
        with pytest.raises(TypeError, match=r"rng is a .*default_rng"):
            draw(3, bad)


def test_one_parameter_for_each_device() -> None:
    rng = np.random.default_rng(20)
    # Infinite steadiness for the second device only.
    x = nakagami((50, 2), rng, m=[0.5, 1e8])
    assert np.ptp(x[:, 1]) < 1e-3 < np.ptp(x[:, 0])
    with pytest.raises(ValueError, match=r"k_factor has shape \(3,\).*\(5, 2\)"):
        rician((5, 2), rng, k_factor=np.ones(3))
    with pytest.raises(ValueError, match=r"m has shape \(3,\).*\(5, 2\)"):
        nakagami((5, 2), rng, m=np.ones(3))


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, 1e9])
def test_k_factor_is_checked(bad: float) -> None:
    rng = np.random.default_rng(0)
    for draw in (rician, rician_coefficients):
        with pytest.raises(ValueError, match=r"k_factor = .* is outside \[0, 1e\+08\].*ratio"):
            draw(3, rng, k_factor=bad)


@pytest.mark.parametrize("bad", [0.49, 0.0, -1.0, math.nan, math.inf])
def test_m_is_checked(bad: float) -> None:
    with pytest.raises(ValueError, match=r"m = .* is outside \[0\.5, 1e\+08\]"):
        nakagami(3, np.random.default_rng(0), m=bad)
