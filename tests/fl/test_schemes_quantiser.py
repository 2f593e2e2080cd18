"""The quantiser: on the grid, right on average, with the error it says."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rralloc.fl.schemes.quantiser import error_energy, grid, negative, quantise, signed


def moduli(seed=0, shape=(3, 7)):
    return np.abs(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_values_are_the_two_neighbours_on_the_grid(bits):
    m = moduli()
    on = grid(m, bits)
    np.testing.assert_allclose(on.step, (m.max(1) - m.min(1)) / (2**bits - 1), rtol=1e-15)
    for seed in range(20):
        v = quantise(m, on, np.random.default_rng(seed).random(m.shape))
        level = (v - on.lo[:, None]) / on.step[:, None]
        np.testing.assert_allclose(level, np.round(level), atol=1e-9)
        assert level.min() >= -1e-9
        assert level.max() <= 2**bits - 1 + 1e-9
        assert (np.abs(v - m) <= on.step[:, None] * (1 + 1e-9)).all()


@pytest.mark.parametrize("bits", [1, 3])
def test_rounding_is_unbiased_and_its_error_is_the_exact_sum(bits):
    """20000 draws; 4 standard errors."""
    m, trials = moduli(1, (2, 5)), 20000
    on = grid(m, bits)
    rng = np.random.default_rng(2)
    drawn = np.array([quantise(m, on, rng.random(m.shape)) for _ in range(trials)])
    error = drawn.std(0, ddof=1) / np.sqrt(trials)
    assert (np.abs(drawn.mean(0) - m) <= 4 * error + 1e-12).all()
    energy = ((drawn - m) ** 2).sum(-1)
    spread = energy.std(0, ddof=1) / np.sqrt(trials)
    assert (np.abs(energy.mean(0) - error_energy(m, on)) <= 4 * spread).all()


def test_the_error_by_enumeration():
    """Every entry rounds up with probability f, down otherwise: all outcomes of four entries."""
    m = np.array([[0.3, 1.7, 0.9, 1.1]])
    on = grid(m, 2)
    step, f = on.step[0], ((m[0] - 0.3) / on.step[0]) % 1.0
    f[1] = 0.0  # the top of the grid, whatever rounding says
    low = np.floor((m[0] - 0.3) / step + 1e-12)
    total = 0.0
    for up in itertools.product([0, 1], repeat=4):
        chance = np.prod(np.where(np.array(up) == 1, f, 1 - f))
        total += chance * ((0.3 + step * (low + up) - m[0]) ** 2).sum()
    assert error_energy(m, on)[0] == pytest.approx(total, rel=1e-9)


@given(
    arrays(float, (2, 6), elements=st.floats(0, 1e6, allow_subnormal=False)),
    st.integers(1, 16),
)
def test_the_error_is_never_above_a_quarter_step_per_entry(m, bits):
    on = grid(m, bits)
    found = error_energy(m, on)
    assert (found >= 0).all()
    assert (found <= 6 * on.step**2 / 4 * (1 + 1e-9)).all()
    v = quantise(m, on, np.full(m.shape, 0.5))
    assert (v <= m.max(1, keepdims=True) * (1 + 1e-12)).all()
    assert (v >= m.min(1, keepdims=True)).all()


@pytest.mark.parametrize("level", [0.0, 0.1, 1e-320, 1e300])
def test_equal_moduli_have_no_error_and_no_division(level):
    m = np.full((2, 5), level)
    on = grid(m, 3)
    np.testing.assert_array_equal(on.step, 0.0)
    np.testing.assert_array_equal(error_energy(m, on), 0.0)
    np.testing.assert_array_equal(quantise(m, on, np.full(m.shape, 0.999)), m)


def test_rows_are_quantised_for_themselves():
    m, u = moduli(3), np.random.default_rng(4).random((3, 7))
    whole = quantise(m, grid(m, 3), u)
    for k in range(3):
        alone = quantise(m[k : k + 1], grid(m[k : k + 1], 3), u[k : k + 1])
        np.testing.assert_array_equal(alone[0], whole[k])


def test_zero_has_the_sign_plus():
    u = np.array([[0.0, -0.0, 2.0, -3.0]])
    minus = negative(u)
    assert minus.tolist() == [[False, False, False, True]]
    np.testing.assert_array_equal(signed(np.ones((1, 4)), minus), [[1.0, 1.0, 1.0, -1.0]])
    np.testing.assert_array_equal(signed(np.abs(u), minus), u)
