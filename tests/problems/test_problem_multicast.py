"""Multicast: closed forms, bounds, solvers against each other and against SLSQP, edges."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import ota as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.forms import Surrogate
from rralloc.numerics.beams import normal
from rralloc.numerics.pair import pair_beam
from rralloc.problems import Multicast, OTASelection
from rralloc.testing import check

SOLVERS = ["sca", "low-rank-sdr", "sdr"]


def drawn(seed=0, N=4, K=7, **more):
    return Multicast.random(K=K, N=N, rng=seed, **more)


# -- two devices ----------------------------------------------------------------------------------


def pairs(count=200):
    """Pairs of all kinds: independent, nearly parallel, of unequal size."""
    rng = np.random.default_rng(0)
    for i in range(count):
        a, b = normal(rng, (2, 3))
        kind = i % 4
        if kind == 1:
            b = a * np.exp(1j) + 0.05 * b
        if kind == 2:
            b = b * 10 ** rng.uniform(-3, 3)
        if kind == 3:
            b = 3 * a + 0.3 * b
        yield a, b


def test_the_pair_formula_is_the_dual_optimum():
    """Acceptance (B): against min_y lambda_max by a scalar search, and against its own beam."""
    kinds = set()
    for a, b in pairs():
        found = pair_beam(a, b)
        assert found.gain == pytest.approx(oracle.pair_dual(a, b), rel=1e-9)
        assert found.gain == pytest.approx(oracle.pair(a, b), rel=1e-9)
        y = found.weight
        top = np.linalg.eigvalsh(y * np.outer(a, a.conj()) + (1 - y) * np.outer(b, b.conj()))[-1]
        assert top == pytest.approx(found.gain, rel=1e-9)
        assert np.linalg.norm(found.m) == pytest.approx(1)
        kinds.add("first" if y == 1 else "second" if y == 0 else "both")
    assert kinds == {"first", "second", "both"}


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_parallel_and_equal_pairs(size):
    a = np.array([1.0, 2.0j, 0.0]) * size
    for b in (a, 1j * a, 3 * a, a / 3):
        found = pair_beam(a, b)
        weaker = min(np.linalg.norm(a), np.linalg.norm(b))
        assert found.gain / size / size == pytest.approx((weaker / size) ** 2, rel=1e-12)


@pytest.mark.parametrize("K", [1, 2])
def test_up_to_two_devices_are_solved_and_proven(K):
    problem = Multicast.random(K=K, N=3, batch=40, rng=1)
    sol = rr.solve(problem)
    assert sol.solver == "pair"
    assert (sol.status == rr.Status.GLOBAL).all()
    for i in range(40):
        columns = problem[i].channel.T
        best = oracle.pair(columns[0], columns[-1])
        assert sol.objective[i] == pytest.approx(1 / best, rel=1e-9)


# -- more devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_solvers_find_what_many_starts_of_another_method_find(seed):
    problem = drawn(seed, K=6)
    best = 1 / oracle.least_gain(problem.channel, starts=20)
    found = {name: rr.solve(problem, name, rng=0) for name in SOLVERS}
    for sol in found.values():
        assert sol.status >= rr.Status.FEASIBLE
        assert sol.objective >= sol.bound * (1 - 1e-9)
        assert sol.objective >= best * (1 - 1e-6)
    assert found["low-rank-sdr"].objective <= best * (1 + 1e-4)


def test_the_relaxations_agree_and_the_bound_is_theirs():
    """Acceptance (G): 2e-3 between the two, the bound never above what is reached."""
    problem = Multicast.random(K=7, N=4, batch=6, rng=5)
    sdp, low = rr.solve(problem, "sdr"), rr.solve(problem, "low-rank-sdr", rng=0)
    np.testing.assert_allclose(low.bound, sdp.bound, rtol=2e-3)
    assert (low.bound <= low.objective * (1 + 1e-12)).all()
    assert (low.objective <= sdp.objective * (1 + 1e-6)).all()


def test_the_relaxation_is_exact_for_three_devices():
    problem = Multicast.random(K=3, N=4, batch=10, rng=2)
    sol = rr.solve(problem, "low-rank-sdr", rng=0)
    assert sol.gap.max() < 1e-5


def test_any_weights_prove_a_bound_and_bad_ones_are_harmless():
    problem, rng = drawn(3), np.random.default_rng(0)
    best = 1 / oracle.least_gain(problem.channel, starts=20)
    for y in [*rng.exponential(size=(20, 7)), np.full(7, np.nan), -np.ones(7), np.zeros(7)]:
        assert problem.bound(witness={"dual_weight": y}) <= best * (1 + 1e-9)


def test_phases_frozen_are_a_tight_inner_problem():
    problem = drawn(4)
    x = problem.initial()
    inner = problem.view(Surrogate).at(x)
    assert inner.objective(x) == pytest.approx(problem.objective(x))
    assert rr.verify(inner, x).ok()
    better = rr.solve(inner)
    assert better.objective <= problem.objective(x) * (1 + 1e-12)
    assert rr.verify(problem, better.x).ok()
    import cvxpy as cp

    m = cp.Variable(4, complex=True)
    rules = [cp.real(inner.channel.conj().T @ m) >= 1]
    cp.Problem(cp.Minimize(cp.sum_squares(m)), rules).solve("CLARABEL")
    assert better.objective == pytest.approx(np.linalg.norm(m.value) ** 2, rel=1e-6)


def test_its_answer_decides_whether_a_set_can_be_served():
    problem = drawn(6, N=3, K=5)
    sol = rr.solve(problem, "low-rank-sdr", rng=0)
    t = float(problem.least_gain(sol.x))
    assert t == pytest.approx(1 / sol.objective)
    for tau, everybody in ((t * (1 - 1e-6), True), (t * (1 + 1e-3), False)):
        served = OTASelection(problem.channel, mse_target=1 / tau).served(sol.x["beamformer"])
        assert served.all() == everybody


# -- invariance, conformance, edges ---------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1e8])
@pytest.mark.parametrize("name", SOLVERS)
def test_the_unit_of_the_channel_does_not_matter(size, name):
    problem = drawn(7, K=5)
    here = rr.solve(problem, name, rng=0)
    there = rr.solve(Multicast(problem.channel * size), name, rng=0)
    assert there.objective * size**2 == pytest.approx(here.objective, rel=1e-5)
    assert there.bound * size**2 == pytest.approx(here.bound, rel=1e-5)


def test_gains_over_many_decades():
    rng = np.random.default_rng(0)
    problem = Multicast(normal(rng, (4, 6)) * 10.0 ** np.arange(-6, 0))
    sol = rr.solve(problem, "low-rank-sdr", rng=0)
    assert sol.status == rr.Status.GLOBAL  # the weakest rules alone
    assert sol.objective >= np.linalg.norm(problem.channel[:, 0]) ** -2.0 * (1 - 1e-12)


@pytest.mark.parametrize(
    "problem", [drawn(0, N=3, K=2), Multicast.random(K=4, N=2, batch=3, rng=1)]
)
def test_conformance(problem):
    check(problem)


def test_a_batch_is_a_loop():
    problem = Multicast.random(K=5, N=3, batch=4, rng=3)
    together = rr.solve(problem, "sca")
    alone = [rr.solve(problem[i], "sca").objective for i in range(4)]
    np.testing.assert_allclose(together.objective, alone, rtol=1e-9)


def test_one_antenna_serves_the_weakest():
    problem = Multicast(np.array([[1.0, 2j, -0.5]]))
    for name in SOLVERS:
        sol = rr.solve(problem, name, rng=0)
        assert sol.objective == pytest.approx(4.0, rel=1e-6)


def test_a_silent_device_is_refused():
    channel = np.ones((3, 4), dtype=complex)
    channel[:, 2] = 0
    with pytest.raises(InvalidProblem, match=r"device \[2\] is zero throughout"):
        Multicast(channel)
    with pytest.raises(InvalidProblem, match="channel"):
        Multicast(np.full((2, 2), np.nan))


def test_a_start_to_which_somebody_is_deaf_is_turned():
    crossed = Multicast(np.array([[1, -1, 0], [0, 0, 1]]))  # the sum of matched filters cancels
    sol = rr.solve(crossed, "sca")
    assert sol.status >= rr.Status.FEASIBLE
    assert sol.objective == pytest.approx(2.0, rel=1e-6)
    for start in (np.zeros(4, complex), np.full(4, np.nan + 0j)):
        told = rr.solve(drawn(0, K=5), "sca", start={"beamformer": start})
        assert told.status >= rr.Status.FEASIBLE
    everybody = OTASelection(crossed.channel, mse_target=3.0)
    assert rr.solve(everybody, "baseline:all-devices").objective == 3


def test_a_witness_of_another_shape_proves_nothing():
    problem = drawn(3)
    assert problem.bound(witness={"dual_weight": np.ones(3)}) == problem.bound()
    selection = OTASelection.random(K=5, N=3, rng=0)
    assert selection.bound(None, {"dual_weight": np.ones(3)}) == selection.bound()
