"""FDMA sum rate: spec rrm.md section 15 item 10, oracle, and a slow method for weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from oracles import fdma
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import FDMARate


@pytest.mark.parametrize("solver", ["closed-form", "level"])
def test_spec_15_10(solver):
    sol = rr.solve(FDMARate(snr_bandwidth_hz=[4, 1, 0.5], bandwidth_budget_hz=2), solver)
    assert shows(sol.bandwidth_hz, "1.454545 .363636 .181818")
    assert shows(sol.objective, "3.813781191")
    assert sol.objective == pytest.approx(2 * math.log2(1 + 5.5 / 2), rel=1e-14)
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-13


@given(pick=st.data())
def test_equal_weights_equal_the_oracle(pick):
    q = pick.draw(strategies.rows(strategies.decades(-2, 4), 4))
    total = pick.draw(strategies.decades(-2, 3))
    _, value = fdma.solve(list(q), total)
    for solver in ("closed-form", "level"):
        problem = FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=total, weight=3.0)
        sol = rr.solve(problem, solver)
        assert sol.objective == pytest.approx(3 * value, rel=1e-9, abs=0)
        assert sol.bandwidth_hz == pytest.approx(total * q / q.sum(), rel=1e-6)


def weighted(q, total, weight):
    """Best split by coordinate exchange: golden-section between two devices until nothing moves."""

    def value(k, b):
        return weight[k] * b * math.log2(1 + q[k] / b) if b > 0 else 0.0

    def split(i, j, pot):
        low, high, ratio = 0.0, pot, (math.sqrt(5) - 1) / 2
        for _ in range(80):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            better = value(i, a) + value(j, pot - a) > value(i, b) + value(j, pot - b)
            low, high = (low, b) if better else (a, high)
        return (low + high) / 2

    band = [total / len(q)] * len(q)
    for _ in range(60):
        for i in range(len(q)):
            for j in range(i):
                pot = band[i] + band[j]
                band[i] = split(i, j, pot)
                band[j] = pot - band[i]
    return sum(value(k, b) for k, b in enumerate(band))


@pytest.mark.parametrize("seed", range(6))
def test_weights_equal_pairwise_exchange(seed):
    rng = np.random.default_rng(seed)
    q, weight = 10 ** rng.uniform(-1, 2, 3), rng.uniform(0.2, 3.0, 3)
    sol = rr.solve(FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=2.0, weight=weight))
    assert sol.solver == "level"
    assert sol.objective == pytest.approx(weighted(q, 2.0, weight), rel=1e-9)
    assert sol.status == rr.Status.GLOBAL


def test_price_is_the_common_marginal_rate():
    problem = FDMARate.random(K=6, batch=10, rng=2, weight=np.arange(1.0, 7.0))
    sol = rr.solve(problem)
    h = 1e-4 * sol.bandwidth_hz
    up, down = (
        problem.weight
        * (sol.bandwidth_hz + s)
        * np.log2(1 + problem.snr_bandwidth_hz / (sol.bandwidth_hz + s))
        for s in (h, -h)
    )
    marginal = (up - down) / (2 * h)
    used = sol.bandwidth_hz > 1.0
    price = np.broadcast_to(sol.duals["price"][:, None], used.shape)
    assert marginal[used] == pytest.approx(price[used], rel=1e-6)


@given(strategies.fdma_rate(st.just(())), st.floats(1.0, 100.0))
def test_more_band_is_never_worse(problem, more):
    wider = problem.replace(bandwidth_budget_hz=problem.bandwidth_budget_hz * more)
    assert rr.solve(wider).objective >= rr.solve(problem).objective * (1 - 1e-12)


@given(pick=st.data())
def test_units_do_not_matter(pick):
    q = pick.draw(strategies.rows(strategies.decades(-3, 3), 4))
    unit = pick.draw(strategies.decades(-12, 12))
    weight = np.array([1.0, 2.0, 0.5, 1.0])
    here = rr.solve(FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=2, weight=weight))
    there = rr.solve(
        FDMARate(snr_bandwidth_hz=q * unit, bandwidth_budget_hz=2 * unit, weight=weight)
    )
    assert there.bandwidth_hz / unit == pytest.approx(here.bandwidth_hz, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("q", "weight", "band", "value"),
    [
        ((0, 3), (1, 1), (0, 2), 2 * math.log2(2.5)),
        ((0, 3), (5, 1), (0, 2), 2 * math.log2(2.5)),
        ((3, 3), (0, 1), (0, 2), 2 * math.log2(2.5)),
        ((3,), (2,), (2,), 4 * math.log2(2.5)),
        ((3, 3), (1, 1), (1, 1), 2 * math.log2(4)),
    ],
)
def test_who_cannot_gain_gets_no_band(q, weight, band, value):
    sol = rr.solve(FDMARate(snr_bandwidth_hz=q, bandwidth_budget_hz=2, weight=weight))
    assert sol.bandwidth_hz == pytest.approx(band, rel=1e-12)
    assert sol.objective == pytest.approx(value, rel=1e-12)
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("nothing", [{"weight": 0.0}, {"snr_bandwidth_hz": [0.0, 0.0]}])
def test_nothing_to_gain_at_all(nothing):
    fields = {"snr_bandwidth_hz": [1.0, 2.0], "bandwidth_budget_hz": 1.0} | nothing
    sol = rr.solve(FDMARate(**fields))
    assert sol.objective == 0
    assert sol.status == rr.Status.GLOBAL
    assert "no device with weight and signal" in rr.solvers_for(FDMARate(**fields)).refused["level"]


@pytest.mark.parametrize("price", [-1.0, 0.0, 1e-6, 0.5, 1.0, 10.0])
def test_any_price_gives_a_valid_bound(price):
    problem = FDMARate(snr_bandwidth_hz=[4, 1, 0.5, 7], bandwidth_budget_hz=2, weight=[1, 1, 1, 0])
    assert problem.bound(None, {"price": np.array(price)}) >= 3.81378119  # spec 15.10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bandwidth_budget_hz": 0.0}, r"bandwidth_budget_hz = 0 Hz is not in \(0, inf\) Hz"),
        ({"weight": [1.0, -1.0]}, r"weight\[1\] = -1 is not in \[0, inf\)"),
        ({"weight": [1.0, 2.0, 3.0]}, "axis K has size 2 in snr_bandwidth_hz and 3 in weight"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        FDMARate(**{"snr_bandwidth_hz": [1.0, 2.0], "bandwidth_budget_hz": 1.0} | changes)


def test_baselines_are_what_their_names_say():
    problem = FDMARate(snr_bandwidth_hz=[4, 1, 0.5], bandwidth_budget_hz=3, weight=[1, 5, 2])
    assert rr.solve(problem, "baseline:equal").bandwidth_hz.tolist() == [1, 1, 1]
    assert rr.solve(problem, "baseline:best").bandwidth_hz.tolist() == [0, 3, 0]
