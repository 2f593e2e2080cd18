"""OFDMA subcarriers, with and without quotas: spec rrm.md section 15 item 7, enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import classics as oracle
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import SubcarrierAssignment, SubcarrierQuota
from rralloc.testing import check

CLASSES = (SubcarrierAssignment, SubcarrierQuota)


def spec_gain():
    return np.random.default_rng(7).exponential(size=(3, 6))


# -- the specification ----------------------------------------------------------------------------


def test_spec_15_7_owners_and_powers():
    sol = rr.solve(SubcarrierAssignment(gain=spec_gain(), power_budget_w=6.0))
    assert shows(sol.objective, "9.687204792")
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-14
    assert (sol.assigned.sum(0) == 1).all()
    assert sol.power_w.sum() == pytest.approx(6, rel=1e-14)


def test_spec_15_7_over_729_assignments():
    assert shows(oracle.subcarriers_brute(spec_gain(), 6.0), "9.687204792")
    found = rr.solve(SubcarrierAssignment(gain=spec_gain(), power_budget_w=6.0), "cvxpy")
    assert found.objective == pytest.approx(9.687204792, abs=1e-6)
    assert found.status == rr.Status.GLOBAL


def test_spec_15_7_two_subcarriers_each():
    """And what unit power gives without quotas, by corrections item 1."""
    problem = SubcarrierQuota(gain=spec_gain(), subcarriers=2)
    sol = rr.solve(problem)
    assert shows(sol.objective, "8.792091526")
    assert sol.assigned.sum(-1).tolist() == [2, 2, 2]
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-14
    free = SubcarrierAssignment(gain=spec_gain(), power_budget_w=6.0)
    assert shows(rr.solve(free, "baseline:best-equal").objective, "9.489183469")
    assert shows(np.log2(1 + spec_gain()).max(0).sum(), "9.489183469")


def test_spec_15_7_two_subcarriers_each_by_other_methods():
    assert shows(oracle.quota_brute(spec_gain(), [2, 2, 2], [1.0] * 6), "8.792091526")
    problem = SubcarrierQuota(gain=spec_gain(), subcarriers=2)
    for name in ("cvxpy", "pyomo"):
        assert shows(rr.solve(problem, name).objective, "8.792091526")


# -- enumeration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.5, 10])
@pytest.mark.parametrize(("K", "F"), [(1, 1), (1, 4), (3, 1), (3, 4), (2, 6)])
def test_owners_and_powers_equal_enumeration(K, F, spread):
    rng = np.random.default_rng(10 * K + F)
    gain = 10 ** rng.uniform(-spread, spread, (K, F))
    for budget in (1e-3, 1.0, 1e3):
        sol = rr.solve(SubcarrierAssignment(gain=gain, power_budget_w=budget))
        best = oracle.subcarriers_brute(gain, budget)
        assert sol.objective == pytest.approx(best, rel=1e-9, abs=0)
        assert sol.status == rr.Status.GLOBAL


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), K=st.integers(1, 3), F=st.integers(1, 5), ties=st.booleans())
def test_quotas_equal_enumeration_and_prices_prove_it(seed, K, F, ties):
    rng = np.random.default_rng(seed)
    gain = rng.integers(0, 3, (K, F)) if ties else 10 ** rng.uniform(-10, 10, (K, F))
    quota, power = rng.integers(0, 3, K), 10 ** rng.uniform(-2, 2, F)
    problem = SubcarrierQuota(gain=gain, subcarriers=quota, power_w=power)
    sol = rr.solve(problem)
    if quota.sum() > F:
        assert sol.status == rr.Status.INFEASIBLE
        return
    best = oracle.quota_brute(gain, quota, power)
    assert sol.objective == pytest.approx(best, rel=1e-12, abs=0)
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-12
    for price in rng.standard_normal((10, K)) * 10 ** rng.uniform(-3, 3):
        assert problem.bound(None, {"place_price": price}) >= best


def test_prices_far_above_the_rates_lose_digits_but_stay_a_bound():
    rng = np.random.default_rng(0)
    problem = SubcarrierQuota(gain=1e-10 * rng.exponential(size=(2, 6)), subcarriers=3)
    best = oracle.quota_brute(problem.gain, [3, 3], [1.0] * 6)
    for price in -rng.exponential(size=(100, 1)) * np.ones(2):
        assert problem.bound(None, {"place_price": price}) >= best


@pytest.mark.parametrize("K", [2, 3])
def test_the_bound_of_any_point_holds(K):
    rng = np.random.default_rng(K)
    free = SubcarrierAssignment(gain=rng.exponential(size=(K, 4)), power_budget_w=3.0)
    best = oracle.subcarriers_brute(free.gain, 3.0)
    told = SubcarrierQuota(gain=free.gain, subcarriers=1)
    held = oracle.quota_brute(told.gain, [1] * K, [1.0] * 4)
    for _ in range(30):
        assert free.bound(free.sample(rng)) >= best * (1 - 1e-12)
        assert told.bound(told.sample(rng)) >= held * (1 - 1e-12)
    for level in (0.0, 1e-300, 1.0, 1e300):
        assert free.bound(None, {"water_level_w": np.array(level)}) >= best * (1 - 1e-12)


# -- properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), unit=st.floats(-9, 9), more=st.floats(1, 50))
def test_units_order_and_more_power(cls, seed, unit, more):
    problem, scale = cls.random(K=3, F=5, rng=seed), 10.0**unit
    here = rr.solve(problem).objective
    power = "power_budget_w" if cls is SubcarrierAssignment else "power_w"
    held = getattr(problem, power)
    scaled = problem.replace(**{"gain": problem.gain / scale, power: held * scale})
    assert rr.solve(scaled).objective == pytest.approx(here, rel=1e-12)
    moved = problem.select(K=[2, 0, 1], F=[4, 2, 0, 1, 3])
    assert rr.solve(moved).objective == pytest.approx(here, rel=1e-12)
    richer = problem.replace(**{power: held * more})
    assert rr.solve(richer).objective >= here * (1 - 1e-13)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_quotas_never_help(seed):
    gain = np.random.default_rng(seed).exponential(size=(3, 6))
    held = rr.solve(SubcarrierQuota(gain=gain, subcarriers=2)).objective
    assert held <= np.log2(1 + gain).max(0).sum() * (1 + 1e-13)
    assert held <= rr.solve(SubcarrierAssignment(gain=gain, power_budget_w=6.0)).objective


@pytest.mark.parametrize("cls", CLASSES)
def test_a_batch_is_a_loop(cls):
    problem = cls.random(K=3, F=5, batch=(2, 3), rng=4)
    together = rr.solve(problem)
    for i in np.ndindex(2, 3):
        alone = rr.solve(problem[i])
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-13)
        for name, value in alone.x.items():
            np.testing.assert_allclose(value, together.x[name][i], rtol=1e-12)
        for name, rule in problem[i].points().items():
            whole = problem.points()[name]()
            for part, value in rule().items():
                np.testing.assert_array_equal(value, whole[part][i])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("K", "F", "batch"), [(3, 6, 2), (4, 5, (2, 2)), (1, 1, None), (3, 3, None)]
)
def test_conformance(cls, K, F, batch):
    ran = check(cls.random(K=K, F=F, batch=batch, rng=1))
    assert {"baselines", "projection", "bound", "closed_form", "model:cvxpy"} <= set(ran)


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "budget", "rate"),
    [
        (np.zeros((2, 3)), 1.0, 0.0),
        (np.ones((2, 3)), 3.0, 3.0),  # ties
        (np.ones((2, 3)), 0.0, 0.0),
        ([[0.0, 1.0], [0.0, 0.5]], 3.0, 2.0),
        ([[3.0]], 1.0, 2.0),
    ],
)
def test_dead_equal_and_single_subcarriers(gain, budget, rate):
    sol = rr.solve(SubcarrierAssignment(gain=gain, power_budget_w=budget))
    assert sol.objective == pytest.approx(rate, rel=1e-14)
    assert sol.status == rr.Status.GLOBAL
    quota = rr.solve(SubcarrierQuota(gain=gain, subcarriers=[1] + [0] * (len(gain) - 1)))
    assert quota.objective == pytest.approx(math.log2(1 + np.max(gain[0])), rel=1e-14)
    assert quota.status == rr.Status.GLOBAL


def test_more_places_than_subcarriers_are_refused_in_words():
    sol = rr.solve(SubcarrierQuota(gain=np.ones((2, 3)), subcarriers=[3, 1]))
    assert sol.status == rr.Status.INFEASIBLE
    assert "must get 4 subcarriers, and there are 3" in sol.message
    both = SubcarrierQuota(gain=np.ones((2, 2, 3)), subcarriers=[[3, 1], [2, 1]])
    assert rr.solve(both).status.tolist() == [rr.Status.INFEASIBLE, rr.Status.GLOBAL]


def test_violations_are_told_and_mended():
    free = SubcarrierAssignment(gain=np.ones((2, 3)), power_budget_w=3.0)
    shared = {"assigned": np.ones((2, 3), int), "power_w": np.ones(3)}
    half = {"assigned": np.full((2, 3), 0.5), "power_w": np.full(3, 2.0)}
    for x, names in (
        (shared, ["one owner"]),
        (half, ["assigned is an integer", "total power"]),
    ):
        report = rr.verify(free, x)
        assert [c.name for c in report.checks if c.violation > 1e-9] == names
        assert rr.verify(free, free.project(x)).ok()
    quota = SubcarrierQuota(gain=np.ones((2, 3)), subcarriers=1)
    report = rr.verify(quota, {"assigned": [[1, 1, 0], [0, 0, 1]]})
    assert [c.name for c in report.checks if c.violation > 1e-9] == ["subcarriers"]
    assert rr.verify(quota, quota.project({"assigned": np.full((2, 3), np.nan)})).ok()


def test_a_subcarrier_that_nobody_holds_stays_free():
    free = SubcarrierAssignment(gain=np.ones((2, 3)), power_budget_w=3.0)
    x = free.project({"assigned": np.zeros((2, 3)), "power_w": np.ones(3)})
    assert x["assigned"].sum() == 0
    assert free.objective(x) == 0


def test_rules_are_what_their_names_say():
    gain = [[1.0, 6.0, 1.0, 1.0], [3.0, 1.0, 3.0, 3.0]]
    free = SubcarrierAssignment(gain=gain, power_budget_w=4.0)
    turn, best, strongest = (
        rr.solve(free, f"baseline:{n}") for n in ("round-robin", "best-equal", "strongest")
    )
    assert turn.assigned.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert best.assigned.tolist() == [[0, 1, 0, 0], [1, 0, 1, 1]]
    assert strongest.assigned.tolist() == [[0] * 4, [1] * 4]
    assert free.rate(best.x) == pytest.approx([math.log2(7), 6.0])
    quota = SubcarrierQuota(gain=gain, subcarriers=[1, 2])
    assert rr.solve(quota, "baseline:in-turn").assigned.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    assert rr.solve(quota, "baseline:greedy").assigned.tolist() == [[0, 1, 0, 0], [1, 0, 1, 0]]


def test_greedy_is_not_optimal():
    """The first choice takes what only the other could use."""
    quota = SubcarrierQuota(gain=[[7.0, 6.0], [6.5, 0.0]], subcarriers=1)
    assert rr.solve(quota, "baseline:greedy").objective == pytest.approx(3.0)
    assert rr.solve(quota).objective == pytest.approx(math.log2(7) + math.log2(7.5))


@pytest.mark.parametrize(
    ("cls", "changes", "words"),
    [
        (SubcarrierAssignment, {"gain": [[1.0, -1.0]]}, r"gain\[0, 1\] = -1 1/W"),
        (SubcarrierAssignment, {"power_budget_w": np.inf}, "power_budget_w"),
        (SubcarrierQuota, {"subcarriers": 1.5}, "integers are needed"),
        (SubcarrierQuota, {"subcarriers": -1}, "subcarriers"),
        (SubcarrierQuota, {"power_w": [1.0, 2.0, 3.0]}, "axis F"),
    ],
)
def test_bad_input_is_named(cls, changes, words):
    fields = {"gain": [[1.0, 2.0]]}
    fields |= {"power_budget_w": 1.0} if cls is SubcarrierAssignment else {"subcarriers": 1}
    with pytest.raises(InvalidProblem, match=words):
        cls(**fields | changes)
