"""The low-rank relaxation against a semidefinite program, the pair formula, and itself."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import ota as oracle

from rralloc.numerics.beams import normal
from rralloc.numerics.low_rank_sdr import low_rank_sdr


def by_program(g):
    """max t s.t. g_k^H M g_k >= t, tr M = 1, M >= 0, written with a Hermitian variable."""
    import cvxpy as cp

    M, t = cp.Variable((len(g), len(g)), hermitian=True), cp.Variable()
    gains = [cp.real(c.conj() @ M @ c) >= t for c in g.T]
    problem = cp.Problem(cp.Maximize(t), [M >> 0, cp.real(cp.trace(M)) == 1, *gains])
    problem.solve("CLARABEL", tol_gap_abs=1e-6, tol_gap_rel=1e-6, tol_feas=1e-6)
    return float(t.value)


@pytest.mark.parametrize(("N", "K"), [(2, 5), (3, 8), (4, 7), (6, 12), (6, 20)])
@pytest.mark.parametrize("seed", range(2))
def test_both_ends_meet_the_program(N, K, seed):
    """Acceptance (G)."""
    g = normal(np.random.default_rng([seed, N, K]), (N, K))
    found, value = low_rank_sdr(g), by_program(g)
    assert found.gain == pytest.approx(value, rel=2e-3)
    assert found.bound == pytest.approx(value, rel=2e-3)
    assert found.gain <= value * (1 + 1e-5)
    assert found.bound >= value * (1 - 1e-5)


def test_what_it_claims_is_so():
    g = normal(np.random.default_rng(3), (5, 11))
    found = low_rank_sdr(g)
    assert np.linalg.norm(found.V) == pytest.approx(1)
    assert found.gain == pytest.approx((np.abs(g.conj().T @ found.V) ** 2).sum(1).min())
    assert found.y.sum() == pytest.approx(1)
    assert (found.y >= 0).all()
    assert found.bound == pytest.approx(np.linalg.eigvalsh((g * found.y) @ g.conj().T)[-1])


@pytest.mark.parametrize("seed", range(20))
def test_for_two_it_is_the_formula(seed):
    a, b = normal(np.random.default_rng(seed), (2, 3))
    found = low_rank_sdr(np.stack([a, b], 1))
    assert found.gain == pytest.approx(oracle.pair(a, b), rel=1e-5)
    assert found.bound == pytest.approx(oracle.pair(a, b), rel=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-8, 1e8, 1e20])
def test_units_do_not_matter(scale):
    g = normal(np.random.default_rng(1), (6, 12))
    here, there = low_rank_sdr(g), low_rank_sdr(g * scale)
    assert there.gain == pytest.approx(here.gain * scale**2, rel=1e-5)
    assert there.bound == pytest.approx(here.bound * scale**2, rel=1e-5)


def test_the_bound_is_never_below_the_gain():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        g = normal(rng, (int(rng.integers(1, 7)), int(rng.integers(1, 13))))
        for steps in (1, 3, 100):
            found = low_rank_sdr(g, steps=steps)
            assert found.bound >= found.gain * (1 - 1e-12)


def test_no_beam_is_above_its_bound():
    for seed in range(10):
        g = normal(np.random.default_rng(seed), (3, 6))
        assert oracle.least_gain(g, starts=6) <= low_rank_sdr(g).bound * (1 + 1e-9)


def test_uneven_columns():
    g = normal(np.random.default_rng(0), (4, 6)) * 10.0 ** np.arange(6)
    found = low_rank_sdr(g)
    assert found.gain == pytest.approx(np.linalg.norm(g[:, 0]) ** 2, rel=1e-6)
    assert found.bound == pytest.approx(np.linalg.norm(g[:, 0]) ** 2, rel=1e-6)
    one = low_rank_sdr(g[:1] * 0 + 1.0)
    assert one.gain == pytest.approx(1)
