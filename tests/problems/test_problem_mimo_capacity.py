"""MIMO capacity: spec rrm.md section 15 "Extras", a semidefinite program, bounds, edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import classics as oracle
from oracles import water_filling
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import MIMOCapacity, WaterFilling
from rralloc.testing import check

SPEC = [[2.0, 0.5], [0.3, 1.0]]


def drawn(seed, M, N, power=10.0):
    return MIMOCapacity.random(K=N, M=M, rng=seed, power_budget_w=power)


# -- the specification ----------------------------------------------------------------------------


def test_spec_15_extras():
    problem = MIMOCapacity(channel=SPEC, power_budget_w=2.0)
    sol = rr.solve(problem)
    assert shows(sol.objective, "3.439018150")
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-14
    assert np.trace(sol.covariance).real == pytest.approx(2, rel=1e-14)


def test_spec_15_extras_by_other_methods():
    """Semidefinite program; eigenvalues of H^H H and water by enumeration."""
    assert oracle.mimo_logdet(SPEC, 2.0) == pytest.approx(3.439018150, abs=1e-7)
    gain = np.linalg.eigvalsh(np.array(SPEC).T @ np.array(SPEC))
    assert shows(water_filling.solve(list(gain), 2.0)[2], "3.439018150")
    found = rr.solve(MIMOCapacity(channel=SPEC, power_budget_w=2.0), "cvxpy")
    assert found.objective == pytest.approx(3.439018150, abs=1e-6)
    assert found.status == rr.Status.GLOBAL


@pytest.mark.parametrize(("M", "N"), [(2, 3), (3, 2), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("power", [0.3, 20.0])
def test_equals_the_semidefinite_program(M, N, power):
    problem = drawn(M + 10 * N, M, N, power)
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(oracle.mimo_logdet(problem.channel, power), rel=1e-6)
    assert rr.solve(problem, "cvxpy").objective == pytest.approx(sol.objective, rel=1e-6)
    assert sol.objective == pytest.approx(
        oracle.mimo_rate(problem.channel, sol.covariance), rel=1e-12
    )


def test_one_antenna_at_an_end_sends_along_the_channel():
    h = np.array([[1.0, 2j, -2.0]])
    sol = rr.solve(MIMOCapacity(channel=h, power_budget_w=4.0))
    assert sol.objective == pytest.approx(math.log2(1 + 4 * 9), rel=1e-14)
    np.testing.assert_allclose(sol.covariance, 4 / 9 * h.conj().T @ h, atol=1e-14)
    heard = rr.solve(MIMOCapacity(channel=h.T, power_budget_w=4.0))
    assert heard.objective == pytest.approx(math.log2(37), rel=1e-14)


# -- evaluation -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), M=st.integers(1, 4), N=st.integers(1, 4))
def test_the_rate_of_any_covariance_is_the_determinant(seed, M, N):
    problem, rng = drawn(seed, M, N), np.random.default_rng(seed)
    x = problem.sample(rng)
    direct = oracle.mimo_rate(problem.channel, x["covariance"])
    assert problem.objective(x) == pytest.approx(direct, rel=1e-12)
    rank_one = np.outer(rng.standard_normal(N), np.ones(N))
    x = {"covariance": rank_one @ rank_one.T + 0j}
    direct = oracle.mimo_rate(problem.channel, x["covariance"])
    assert problem.objective(x) == pytest.approx(direct, rel=1e-11, abs=1e-14)


def test_weak_eigenchannels_keep_their_digits():
    """The exact determinant of a diagonal channel, beside a rotated one and with tiny rates."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 2)))[0]
    for gains in ((1e6, 1.0), (1e-8, 3e-9)):
        h = np.diag(gains) @ turn.T
        x = {"covariance": turn @ np.diag([2.0, 3.0]) @ turn.T + 0j}
        exact = sum(math.log1p(p * g * g) for p, g in zip((2.0, 3.0), gains)) / math.log(2)
        found = MIMOCapacity(channel=h, power_budget_w=5.0).objective(x)
        assert found == pytest.approx(exact, rel=1e-9, abs=0)


def test_one_stream_over_two_strong_eigenchannels():
    """Nothing but cancellation: log2(1 + P (a^2 + b^2)/2) as a difference of larger numbers."""
    for gain, rel in ((1e3, 1e-8), (1e6, 1e-4), (1e10, 0.3)):
        problem = MIMOCapacity(channel=np.diag([gain, gain / 10]), power_budget_w=2.0)
        exact = math.log2(1 + gain**2 * 1.01)
        assert problem.objective({"covariance": np.ones((2, 2)) + 0j}) == pytest.approx(
            exact, rel=rel
        )


def test_what_is_no_covariance_is_told_and_mended():
    problem = MIMOCapacity(channel=SPEC, power_budget_w=2.0)
    skew = np.array([[1.0, 0.5], [0.0, 1.0]], dtype=complex)
    negative = np.diag([2.5, -0.5]).astype(complex)
    large = np.eye(2, dtype=complex) * 3
    for q, name in ((skew, "Hermitian"), (negative, "least eigenvalue"), (large, "total power")):
        report = rr.verify(problem, {"covariance": q})
        assert [c.name for c in report.checks if c.violation > 1e-9] == [name]
        assert rr.verify(problem, problem.project({"covariance": q})).ok()
    assert problem.objective({"covariance": -large}) == -np.inf
    torn = np.array([[1.0, 5.0], [5.0, 1.0]], dtype=complex)  # det(I + Q) = 4 - 25
    assert problem.replace(channel=np.eye(2)).objective({"covariance": torn}) == -np.inf
    assert problem.objective({"covariance": np.full((2, 2), np.nan + 0j)}) == -np.inf
    assert rr.verify(problem, problem.project({"covariance": np.full((2, 2), np.nan + 0j)})).ok()


# -- bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-1.0, 0.0, 1e-300, 1e-3, 1.0, 5.0, 1e300, math.inf])
def test_any_level_proves_a_valid_bound(level):
    problem = MIMOCapacity(channel=SPEC, power_budget_w=2.0)
    bound = problem.bound(None, {"water_level_w": np.array(level)})
    assert not bound < 3.439018149  # spec 15


def test_any_point_proves_a_valid_bound_and_none_beats_it():
    problem, rng = drawn(4, 3, 4), np.random.default_rng(0)
    best = oracle.mimo_logdet(problem.channel, 10.0)
    for _ in range(50):
        x = problem.sample(rng)
        assert problem.bound(x) >= best * (1 - 1e-6)
        assert problem.objective(x) <= best * (1 + 1e-6)


# -- properties -----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    M=st.integers(1, 4),
    N=st.integers(1, 4),
    size=st.floats(-9, 9),
    spread=st.floats(0, 5),
)
def test_channels_over_many_decades(seed, M, N, size, spread):
    rng = np.random.default_rng(seed)
    channel = drawn(seed, M, N).channel * 10 ** (size + rng.uniform(-spread, spread, N))
    sol = rr.solve(MIMOCapacity(channel=channel, power_budget_w=3.0))
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-9


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), unit=st.floats(-9, 9), more=st.floats(1, 100))
def test_units_rotations_order_and_more_power(seed, unit, more):
    problem, scale = drawn(seed, 3, 3), 10.0**unit
    here = rr.solve(problem).objective
    scaled = MIMOCapacity(channel=problem.channel / math.sqrt(scale), power_budget_w=10 * scale)
    assert rr.solve(scaled).objective == pytest.approx(here, rel=1e-10)
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    turned = problem.replace(channel=left @ problem.channel @ right)
    assert rr.solve(turned).objective == pytest.approx(here, rel=1e-10)
    moved = problem.select(M=[2, 0, 1], N=[1, 2, 0])
    assert rr.solve(moved).objective == pytest.approx(here, rel=1e-10)
    richer = rr.solve(problem.replace(power_budget_w=10 * more)).objective
    assert richer >= here * (1 - 1e-13)


def test_a_batch_is_a_loop():
    problem = MIMOCapacity.random(K=3, M=2, batch=(2, 2), rng=1, power_budget_w=[1.0, 9.0])
    together = rr.solve(problem)
    for i in np.ndindex(2, 2):
        alone = rr.solve(problem[i])
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-13)
        np.testing.assert_allclose(alone.covariance, together.covariance[i], atol=1e-12)


@pytest.mark.parametrize(
    "problem",
    [
        MIMOCapacity.random(K=3, batch=2, rng=1),
        MIMOCapacity.random(K=4, M=2, batch=(2, 2), rng=2),
        MIMOCapacity.random(K=1, M=1, rng=3),
    ],
)
def test_conformance(problem):
    assert {"projection", "bound", "closed_form", "model:cvxpy"} <= set(check(problem))


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "power", "rate"),
    [
        (np.zeros((2, 2)), 1.0, 0.0),
        (np.eye(2), 0.0, 0.0),
        (np.eye(3), 6.0, 3 * math.log2(3)),
        (np.diag([0.0, 1.0]), 3.0, 2.0),
        ([[0.5j]], 12.0, 2.0),
    ],
)
def test_dead_and_equal_eigenchannels(channel, power, rate):
    sol = rr.solve(MIMOCapacity(channel=channel, power_budget_w=power))
    assert sol.objective == pytest.approx(rate, rel=1e-14)
    assert sol.status == rr.Status.GLOBAL


def test_baselines_are_what_their_names_say():
    problem = MIMOCapacity(channel=np.diag([2.0, 1.0]), power_budget_w=2.0)
    isotropic, strongest = (rr.solve(problem, f"baseline:{n}") for n in ("isotropic", "strongest"))
    assert isotropic.objective == pytest.approx(math.log2(5) + math.log2(2))
    assert strongest.objective == pytest.approx(math.log2(9))
    np.testing.assert_allclose(isotropic.covariance, np.eye(2))
    np.testing.assert_allclose(strongest.covariance, np.diag([2.0, 0.0]))


def test_what_remains_is_water_filling():
    problem = MIMOCapacity(channel=np.diag([2.0, 1.0]), power_budget_w=2.0)
    assert problem.parallel == WaterFilling(gain=[4.0, 1.0], power_budget_w=2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"power_budget_w": -1.0}, "power_budget_w = -1 W .* not in dB"),
        ({"channel": [[1.0, np.nan]]}, "channel"),
        ({"channel": [1.0, 2.0]}, "lacks axes"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        MIMOCapacity(**{"channel": SPEC, "power_budget_w": 1.0} | changes)
