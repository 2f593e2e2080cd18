"""level: one scalar root for each lane, by Newton or bisection, with its proof."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import fdma, feel, sync, water_filling

import rralloc as rr
from rralloc.problems import FDMARate, FEELScheduling, MinMaxLatency, WaterFilling

METHODS = pytest.mark.parametrize("method", ["newton", "bisection"])


@METHODS
def test_water_filling_against_the_oracle(method):
    problem = WaterFilling.random(K=6, batch=20, rng=0)
    sol = rr.solve(problem, "level", method=method)
    assert (sol.status == rr.Status.GLOBAL).all()
    for i, one in enumerate(problem):
        power, level, rate = water_filling.solve(one.gain, float(one.power_budget_w))
        np.testing.assert_allclose(sol.power_w[i], power, atol=1e-12)
        assert sol.objective[i] == pytest.approx(rate, rel=1e-13)
        assert sol.duals["water_level_w"][i] == pytest.approx(level, rel=1e-12)


@METHODS
def test_weighted_bandwidth_against_the_oracle(method):
    q = np.array([3.0, 0.5, 8.0, 1.0])
    sol = rr.solve(FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=2.0), "level", method=method)
    band, rate = fdma.solve(q, 2.0)
    np.testing.assert_allclose(sol.bandwidth_hz, band, rtol=1e-9)
    assert sol.objective == pytest.approx(rate, rel=1e-12)
    assert sol.status == rr.Status.GLOBAL


@METHODS
def test_scheduling_law_against_the_oracle(method):
    a, latency = [0.3, 0.1, 0.7], [0.2, 1.0, 3.0]
    problem = FEELScheduling(importance=a, latency_s=latency, tradeoff=0.6)
    sol = rr.solve(problem, "level", method=method)
    law, multiplier = feel.solve(a, latency, 0.6)
    np.testing.assert_allclose(sol.probability, law, rtol=1e-10)
    assert sol.duals["multiplier"] == pytest.approx(multiplier, rel=1e-9)


@METHODS
def test_latency_against_the_oracle(method):
    problem = MinMaxLatency.random(K=4, rng=5)
    sol = rr.solve(problem, "level", method=method)
    time, band = sync.solve_precise(problem.snr_bandwidth_hz, problem.compute_s, 1e6, 1e6)
    assert sol.objective == pytest.approx(time, rel=1e-10)
    np.testing.assert_allclose(sol.bandwidth_hz, band, rtol=1e-6)
    assert sol.status == rr.Status.GLOBAL


def test_newton_needs_fewer_steps_and_finds_the_same():
    problem = FDMARate.random(K=8, batch=50, rng=1, weight=np.arange(1.0, 9.0))
    newton, halving = (rr.solve(problem, "level", method=m) for m in ("newton", "bisection"))
    assert newton.iterations.max() < halving.iterations.min()
    np.testing.assert_allclose(newton.objective, halving.objective, rtol=1e-13)


def test_a_tolerance_is_a_promise_about_the_budget():
    problem = WaterFilling.random(K=5, batch=10, rng=2)
    rough, fine = (
        rr.solve(problem, "level", method="bisection", tol=1e-3),
        rr.solve(problem, "level"),
    )
    assert (rough.iterations < 20).all()
    spent = rough.power_w.sum(-1)
    np.testing.assert_allclose(spent, problem.power_budget_w, rtol=2e-2)
    np.testing.assert_allclose(fine.power_w.sum(-1), problem.power_budget_w, rtol=1e-14)


@given(st.integers(1, 6), st.integers(-18, 6), st.integers(0, 9999))
def test_every_lane_ends_alone(lanes, decade, seed):
    """Lanes of very different size: each result equals that of the lane by itself."""
    rng = np.random.default_rng(seed)
    gain = 10.0 ** rng.uniform(decade - 3, decade + 3, size=(lanes, 4))
    problem = WaterFilling(gain=gain, power_budget_w=10.0 ** rng.uniform(-3, 3, size=lanes))
    sol = rr.solve(problem, "level")
    assert (sol.status == rr.Status.GLOBAL).all()
    for i, one in enumerate(problem):
        np.testing.assert_array_equal(rr.solve(one, "level").power_w, sol.power_w[i])
