"""Message passing: the spec's table, exact recovery, l1 solvers, and a guard against noise."""

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.linear_model import Lasso

from rralloc.errors import InvalidProblem
from rralloc.numerics.amp import Amp, amp, guarded

D = 2000


def instance(share, density, snr_db, seed, d=D):
    """A, y and the k-sparse Gaussian x0 of ota.md §5."""
    rng = np.random.default_rng(seed)
    s = round(share * d)
    k = round(density * s)
    x0 = np.zeros(d)
    x0[rng.permutation(d)[:k]] = rng.standard_normal(k)
    A = rng.standard_normal((s, d)) / np.sqrt(s)
    noise = np.sqrt(x0 @ x0 / s / 10 ** (snr_db / 10)) if np.isfinite(snr_db) else 0.0
    return A, A @ x0 + noise * rng.standard_normal(s), x0


def db(pairs):
    """Mean of |x - x0|^2/|x0|^2, dB."""
    return 10 * np.log10(np.mean([((x - x0) ** 2).sum() / (x0 @ x0) for x, x0 in pairs]))


def played(share, density, snr_db, draws=5, **options):
    """Unguarded and guarded error, dB."""
    plain, safe = [], []
    for seed in range(draws):
        A, y, x0 = instance(share, density, snr_db, seed)
        found = amp(A, y, **options)
        plain.append((found.x, x0))
        safe.append((guarded(found), x0))
    return db(plain), db(safe)


# -- how good it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snr_db", "share", "density", "wanted"),
    [
        (20, 0.5, 0.1, -22),
        (20, 0.5, 0.3, -13),
        (20, 0.25, 0.05, -22),
        (20, 0.1, 0.05, -16),
        (10, 0.25, 0.2, -7),
        (10, 0.1, 0.05, -6),
        (0, 0.5, 0.05, -6),
    ],
)
def test_error_is_that_of_the_spec_and_the_guard_leaves_it(snr_db, share, density, wanted):
    plain, safe = played(share, density, snr_db)
    assert plain == pytest.approx(wanted, abs=2)
    assert safe == pytest.approx(plain, abs=0.5)


@pytest.mark.parametrize(("share", "density"), [(0.5, 0.05), (0.5, 0.2), (0.25, 0.1)])
def test_without_noise_a_sparse_vector_comes_back(share, density):
    A, y, x0 = instance(share, density, np.inf, 3)
    found = amp(A, y, steps=400, tol=1e-12)
    np.testing.assert_allclose(guarded(found), x0, atol=1e-8)


def test_a_threshold_too_high_spoils_a_high_snr():
    """a = 1.2, 2.5 at 20 dB: -17.9 and -6.9 dB where the spec looked; the order is what counts."""
    low, high = (played(0.25, 0.2, 20, draws=2, threshold=a)[0] for a in (1.2, 2.5))
    assert low < high - 5


# -- other ways to the same point -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_without_noise_it_is_basis_pursuit(seed):
    A, y, _ = instance(0.5, 0.1, np.inf, seed, d=200)
    d = A.shape[1]
    lp = linprog(np.ones(2 * d), A_eq=np.hstack([A, -A]), b_eq=y, bounds=(0, None))
    found = amp(A, y, steps=500, tol=1e-13)
    np.testing.assert_allclose(found.x, lp.x[:d] - lp.x[d:], atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_with_noise_it_is_the_lasso_of_the_multiplier_it_ends_at(seed):
    A, y, _ = instance(0.5, 0.1, 15, seed, d=600)
    found = amp(A, y, steps=500, tol=1e-13)
    multiplier = np.abs(A.T @ (y - A @ found.x)).max()
    lasso = Lasso(multiplier / len(y), fit_intercept=False, tol=1e-12, max_iter=100_000).fit(A, y)
    apart = np.linalg.norm(found.x - lasso.coef_) / np.linalg.norm(lasso.coef_)
    assert apart < 0.02


# -- when it is worse than nothing ----------------------------------------------------------------


@pytest.mark.parametrize("density", [0.05, 0.1, 0.3])
def test_guard_where_the_answer_is_worse_than_zero(density):
    plain, safe = played(0.1, density, 0)
    assert plain > 1
    assert safe < 0.3


@pytest.mark.parametrize(("share", "snr_db"), [(0.1, 0), (0.25, 0), (0.25, 10), (0.5, 20)])
def test_noise_is_what_steins_lemma_says(share, snr_db):
    """<x, x - x0> lies below ``noise``, one standard error up, in most draws; and not far below."""
    misses, energies, truths = [], [], []
    for seed in range(20):
        A, y, x0 = instance(share, 0.1, snr_db, seed, d=800)
        found = amp(A, y)
        truths.append(found.x @ (found.x - x0))
        misses.append(found.noise - truths[-1])
        energies.append(found.x @ found.x)
    assert np.mean(np.array(misses) > 0) >= 0.6
    assert abs(np.mean(misses)) < 0.3 * np.mean(energies)


def test_guard_by_hand():
    x = np.array([3.0, 0.0, 4.0])
    np.testing.assert_allclose(guarded(Amp(x, 5.0, 1)), 0.8 * x)
    np.testing.assert_array_equal(guarded(Amp(x, 30.0, 1)), 0.0)
    np.testing.assert_array_equal(guarded(Amp(x, -5.0, 1)), x)
    np.testing.assert_array_equal(guarded(Amp(0 * x, 0.0, 1)), 0.0)


# -- corners --------------------------------------------------------------------------------------


def test_nothing_received_is_nothing_found():
    A, y, _ = instance(0.5, 0.1, np.inf, 0, d=40)
    found = amp(A, 0 * y)
    np.testing.assert_array_equal(found.x, 0.0)
    assert found.steps == 0


@pytest.mark.parametrize("power", [-400, 400])
def test_scale_does_not_matter(power):
    A, y, _ = instance(0.5, 0.1, 10, 0, d=100)
    scale = 2.0**power
    np.testing.assert_allclose(amp(A, y * scale).x / scale, amp(A, y).x, rtol=1e-12)


def test_divergence_ends_and_stays_finite():
    A, y, _ = instance(0.1, 0.5, 0, 0, d=400)
    found = amp(5 * A, y, steps=10_000, threshold=0.01)
    assert np.isfinite(found.x).all()
    assert found.steps < 1000


def test_steps_end_it():
    A, y, _ = instance(0.25, 0.2, 10, 0, d=400)
    assert amp(A, y, steps=3, tol=0.0).steps == 3


@pytest.mark.parametrize(
    ("rows", "options"),
    [(5, {}), (4, {"threshold": 0.0}), (4, {"threshold": np.inf}), (4, {"steps": 0})],
)
def test_refusals(rows, options):
    with pytest.raises(InvalidProblem):
        amp(np.ones((4, 8)), np.ones(rows), **options)


def test_refuses_what_is_not_finite():
    with pytest.raises(InvalidProblem, match="not finite"):
        amp(np.ones((4, 8)), np.array([1.0, np.nan, 0.0, 0.0]))
