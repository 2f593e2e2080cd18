"""Arrow steps against a dense KKT solve, golden section against known minima."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rralloc.numerics.arrow import arrow_direction, held, inverse_blocks, times
from rralloc.numerics.minimum import bracketed_minimum


@pytest.mark.parametrize("size", [1, 2, 3])
@given(seed=st.integers(0, 10_000))
def test_direction_is_the_dense_kkt_solution(size, seed):
    rng = np.random.default_rng(seed)
    devices = 4
    root = rng.standard_normal((1, devices, size, size)) + 2 * np.eye(size)
    hessian = root @ np.swapaxes(root, -1, -2)
    gradient = rng.standard_normal((1, devices, size))
    row = rng.uniform(0.5, 1.0, size)
    slack = rng.standard_normal(1)
    fixed = np.zeros(gradient.shape, dtype=bool)
    fixed[0, 1, -1] = size > 1
    move, price = arrow_direction(gradient, hessian, row, slack, fixed)
    free = ~fixed.reshape(-1)
    dense = np.zeros((devices * size, devices * size))
    for k in range(devices):
        dense[k * size : (k + 1) * size, k * size : (k + 1) * size] = hessian[0, k]
    a = np.tile(row, devices)[free]
    kkt = np.block([[dense[np.ix_(free, free)], a[:, None]], [a[None], np.zeros((1, 1))]])
    right = np.append(-gradient.reshape(-1)[free], slack)
    want = np.linalg.solve(kkt, right)
    np.testing.assert_allclose(move.reshape(-1)[free], want[:-1], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(price, want[-1], rtol=1e-7, atol=1e-9)
    assert np.all(move.reshape(-1)[~free] == 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_indefinite_blocks_are_replaced_by_their_absolute_value(size):
    rng = np.random.default_rng(size)
    a = rng.standard_normal((200, size, size))
    hessian = a + np.swapaxes(a, -1, -2)
    inverse = inverse_blocks(hessian, np.zeros((200, size), dtype=bool))
    assert np.linalg.eigvalsh(inverse).min() > 0
    good = np.linalg.eigvalsh(hessian).min(-1) > 0.3
    np.testing.assert_allclose(inverse[good], np.linalg.inv(hessian[good]), rtol=1e-6, atol=1e-8)


def test_times_is_matmul():
    rng = np.random.default_rng(0)
    blocks, vectors = rng.standard_normal((5, 3, 3)), rng.standard_normal((5, 3))
    np.testing.assert_allclose(times(blocks, vectors), (blocks @ vectors[..., None])[..., 0])


def test_held_at_a_bound_only_when_leaving_the_box():
    x, slope = np.array([0.0, 0.0, 1.0, 1.0, 0.5]), np.array([1.0, -1.0, -1.0, 1.0, 9.0])
    assert held(x, slope, np.zeros(5), np.ones(5)).tolist() == [True, False, True, False, False]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_golden_section_finds_kinks_and_parabolas(centres):
    c = np.array(centres)
    ends = np.full(c.shape, -4.0), np.full(c.shape, 4.0)
    np.testing.assert_allclose(bracketed_minimum(lambda x: np.abs(x - c), *ends), c, atol=1e-7)
    x = bracketed_minimum(lambda x: (x - c) ** 2, *ends)
    assert np.all((x - c) ** 2 <= 1e-15)
