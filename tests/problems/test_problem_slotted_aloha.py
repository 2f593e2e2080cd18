"""Slotted ALOHA: spec rrm.md section 15 "Extras", every set of senders, golden section, edges."""

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
from rralloc.problems import SlottedALOHA
from rralloc.testing import check

WEIGHTS = st.lists(st.floats(-3, 3).map(lambda e: 10.0**e), min_size=1, max_size=5)
LOOSE = {"cvxpy": 1e-6, "scipy:trust-constr": 1e-6}


def best_of(weight):
    problem = SlottedALOHA(weight=weight)
    return problem, rr.solve(problem)


# -- the specification ----------------------------------------------------------------------------


def test_spec_15_extras_ten_equal_devices():
    """p = 1/10; all devices together get .387420489 packets a slot: 10 (1/10) (9/10)^9."""
    problem, sol = best_of(np.ones(10))
    assert sol.transmit_probability == pytest.approx(0.1, rel=1e-15)
    assert shows(problem.throughput(sol.x), ".387420489")
    assert problem.success(sol.x) == pytest.approx(0.1 * 0.9**9, rel=1e-14)
    assert sol.objective == pytest.approx(10 * math.log(0.1 * 0.9**9), rel=1e-14)
    assert sol.status == rr.Status.GLOBAL


def test_spec_15_extras_by_enumeration_of_who_sends():
    assert shows(sum(oracle.aloha_success([0.1] * 10)), ".387420489")
    # It is the largest throughput of all common probabilities, too.
    grid = np.linspace(0.001, 0.999, 999)
    total = 10 * grid * (1 - grid) ** 9
    assert grid[total.argmax()] == pytest.approx(0.1)


def test_the_limit_of_many_devices_is_one_over_e():
    problem, sol = best_of(np.ones(2000))
    assert problem.throughput(sol.x) == pytest.approx(math.exp(-1), rel=3e-4)


# -- other methods --------------------------------------------------------------------------------


@settings(max_examples=15)
@given(WEIGHTS)
def test_success_is_that_of_every_set_of_senders(weight):
    problem, sol = best_of(weight)
    assert problem.success(sol.x) == pytest.approx(
        oracle.aloha_success(sol.transmit_probability.tolist()), rel=1e-12
    )


@pytest.mark.parametrize("weight", [(1.0, 1.0), (1.0, 2.0, 5.0), (0.1, 3.0, 1.0, 1.0)])
def test_equals_a_search(weight):
    problem, sol = best_of(weight)
    p, value = oracle.aloha_search(weight)
    assert sol.transmit_probability == pytest.approx(p, abs=1e-6)
    assert sol.objective == pytest.approx(value, rel=1e-10)
    for name in rr.solvers_for(problem):
        found = rr.solve(problem, name, rng=0)
        if not name.startswith("baseline"):
            assert found.objective == pytest.approx(value, rel=LOOSE.get(name, 1e-9)), name
            assert found.status == rr.Status.GLOBAL
        assert found.objective <= sol.objective * (1 - 1e-12) or found.objective == pytest.approx(
            sol.objective, rel=1e-12
        )


@pytest.mark.parametrize("name", ["closed-form", "cvxpy", "pyomo", "scipy:slsqp"])
def test_a_rare_device_beside_busy_ones(name):
    """Weights over six decades: p from 5e-7 to 1/2."""
    problem = SlottedALOHA(weight=[1e-6, 1.0, 1.0])
    sol = rr.solve(problem, name)
    assert sol.objective == pytest.approx(rr.solve(problem).objective, rel=1e-6)
    if name != "cvxpy":  # of a term of 1e-6 it need not see much
        assert sol.transmit_probability[0] == pytest.approx(1e-6 / 2.000001, rel=0.2)


# -- properties -----------------------------------------------------------------------------------


@settings(max_examples=30)
@given(WEIGHTS, st.floats(-9, 9), st.integers(0, 10**6))
def test_unit_of_weights_order_and_random_points(weight, unit, seed):
    problem, sol = best_of(weight)
    assert sol.status == rr.Status.GLOBAL
    scaled = rr.solve(problem.replace(weight=np.array(weight) * 10.0**unit))
    assert scaled.transmit_probability == pytest.approx(sol.transmit_probability, rel=1e-12)
    order = np.random.default_rng(seed).permutation(len(weight))
    moved = rr.solve(problem.select(K=order))
    assert moved.transmit_probability == pytest.approx(sol.transmit_probability[order], rel=1e-12)
    x = problem.sample(np.random.default_rng(seed))
    assert problem.objective(x) <= sol.bound + 1e-12 * abs(sol.bound)


@settings(max_examples=15)
@given(WEIGHTS, st.floats(1.01, 10))
def test_more_weight_sends_more_and_keeps_others_quiet(weight, more):
    _, here = best_of([*weight, 1.0])
    _, there = best_of([*weight, more])
    assert there.transmit_probability[-1] > here.transmit_probability[-1]
    assert (there.transmit_probability[:-1] < here.transmit_probability[:-1]).all()


def test_a_batch_is_a_loop():
    problem = SlottedALOHA.random(K=4, batch=(2, 3), rng=0)
    together = rr.solve(problem)
    for i in np.ndindex(2, 3):
        alone = rr.solve(problem[i])
        np.testing.assert_array_equal(alone.transmit_probability, together.transmit_probability[i])
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-14)
        assert problem.throughput(together.x)[i] == pytest.approx(
            problem[i].throughput(alone.x), rel=1e-14
        )


@pytest.mark.parametrize(("size", "batch"), [(3, 2), (4, (2, 2)), (1, 2), (2, None)])
def test_conformance(size, batch):
    ran = check(SlottedALOHA.random(K=size, batch=batch, rng=size))
    assert {"gradient", "smooth", "bound", "closed_form"} <= set(ran)
    assert {"model:cvxpy", "model:pyomo"} <= set(ran)


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["closed-form", "cvxpy", "pyomo"])
def test_one_device_always_sends(name):
    problem = SlottedALOHA(weight=[3.0])
    sol = rr.solve(problem, name)
    assert sol.transmit_probability == [1.0]
    assert sol.objective == 0
    assert problem.throughput(sol.x) == 1
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("name", ["closed-form", "cvxpy", "pyomo"])
def test_who_has_no_weight_never_sends(name):
    sol = rr.solve(SlottedALOHA(weight=[1.0, 0.0, 3.0]), name)
    assert sol.transmit_probability == pytest.approx([0.25, 0.0, 0.75], abs=1e-4)
    assert sol.transmit_probability[1] == 0
    assert sol.status == rr.Status.GLOBAL


def test_nobody_with_weight():
    sol = rr.solve(SlottedALOHA(weight=[0.0, 0.0]))
    assert sol.transmit_probability.tolist() == [0, 0]
    assert sol.objective == 0
    assert sol.status == rr.Status.GLOBAL


def test_weights_too_far_apart_for_double_precision_are_finite_and_not_called_proven():
    """1 - 1e-20 is no double: the point is the nearest below 1, and the gap tells the cost."""
    _, sol = best_of([1e-10, 1e10])
    assert np.isfinite(sol.objective)
    assert sol.transmit_probability[1] < 1
    exact = 1e-10 * math.log(1e-20) * 2 - 2e-10  # what is left of each logarithm, to first order
    assert sol.bound == pytest.approx(exact, rel=1e-9)
    assert sol.status < rr.Status.GLOBAL


def test_outside_the_domain_it_is_minus_infinity():
    problem = SlottedALOHA(weight=[1.0, 1.0])
    for p in ([0.0, 0.5], [1.0, 0.5], [-0.1, 0.5], [1.1, 0.5]):
        assert problem.objective({"transmit_probability": np.array(p)}) == -np.inf
    assert rr.verify(problem, {"transmit_probability": [0.5, 0.5]}).ok()
    assert not rr.verify(problem, {"transmit_probability": [1.5, 0.5]}).ok()


def test_rules_are_what_their_names_say():
    problem = SlottedALOHA(weight=[1.0, 2.0, 3.0, 4.0])
    for name, p in (("equal", 0.25), ("cautious", 0.125), ("half", 0.5)):
        sol = rr.solve(problem, f"baseline:{name}")
        assert sol.transmit_probability.tolist() == [p] * 4


@pytest.mark.parametrize("weight", [[-1.0, 1.0], [np.nan, 1.0], [np.inf, 1.0], []])
def test_bad_input_is_named(weight):
    with pytest.raises(InvalidProblem, match=r"SlottedALOHA\.weight"):
        SlottedALOHA(weight=weight)
