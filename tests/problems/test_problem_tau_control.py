"""Tau control: spec rrm.md section 8 with correction 5, oracle, degenerate rows, properties."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems.tau_control import TauControl
from rralloc.testing import check

SPEC = {
    "cost_per_step": [0.013],
    "cost_per_aggregation": [0.13],
    "budget": [15.0],
    "loss_lipschitz": 1.0,
    "gradient_lipschitz": 2.0,
    "divergence": 0.5,
    "learning_rate": 0.01,
    "control_parameter": 0.025,
}
"""The instance of the acceptance block, which keeps no reserve."""


def instance(**changes):
    return TauControl(**SPEC | {"reserve": False} | changes)


# -- the oracle: the formulas of section 8, one tau at a time, h in exact fractions ---------------


def oracle_h(tau, eta, beta, delta):
    """(delta/beta)((eta beta + 1)^tau - 1) - eta delta tau, without rounding; 0 where beta = 0."""
    eta, beta, delta = Fraction(eta), Fraction(beta), Fraction(delta)
    if beta == 0:
        return Fraction(0)
    return delta / beta * ((eta * beta + 1) ** tau - 1) - eta * delta * tau


def oracle_steps(tau, p):
    """T(tau): the scarcest resource, with or without reserve."""
    rows = zip(p.cost_per_step.tolist(), p.cost_per_aggregation.tolist(), p.budget.tolist())
    return min((r - b - c if p.reserve else r) * tau / (c * tau + b) for c, b, r in rows)


def oracle_gap(tau, p):
    """G(tau) as printed."""
    eta, phi, rho = (float(v) for v in (p.learning_rate, p.control_parameter, p.loss_lipschitz))
    h = float(oracle_h(tau, eta, float(p.gradient_lipschitz), float(p.divergence)))
    once = 1 / (2 * eta * phi * oracle_steps(tau, p))
    return once + math.sqrt(once**2 + rho * h / (eta * phi * tau)) + rho * h


def oracle(p):
    """(tau*, all G) by trying every tau."""
    gaps = [oracle_gap(tau, p) for tau in range(1, int(p.search_limit) + 1)]
    return gaps.index(min(gaps)) + 1, gaps


@st.composite
def problems(draw, **changes):
    """One instance with two resources, over a few decades."""
    fields = {
        "cost_per_step": draw(strategies.rows(strategies.decades(-3, -1), 2)),
        "cost_per_aggregation": draw(strategies.rows(strategies.decades(-2, 1), 2)),
        "budget": draw(strategies.rows(strategies.decades(1.5, 4), 2)),
        "loss_lipschitz": draw(strategies.decades(-1, 1)),
        "gradient_lipschitz": draw(st.one_of(st.just(0.0), strategies.decades(-9, 1))),
        "divergence": draw(strategies.decades(-3, 2)),
        "learning_rate": draw(strategies.decades(-3, 0)),
        "control_parameter": draw(strategies.decades(-5, 0)),
        "search_limit": draw(st.integers(1, 60)),
        "reserve": draw(st.booleans()),
    }
    return TauControl(**fields | changes)


# -- acceptance of section 8 ----------------------------------------------------------------------


def test_spec_8_optimum():
    sol = rr.solve(instance())
    assert sol.local_steps == 26
    assert shows(sol.objective, "5.853130759")
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap == 0
    assert sol.solver == "closed-form"


def test_spec_8_table_of_gaps():
    taus = np.array([1, 2, 3, 5, 10, 20, 50, 100])
    printed = "38.1333 20.8097 15.0493 10.4789 7.2020 5.9467 6.5141 9.7562"
    assert shows(instance().gaps()[taus - 1], printed)
    assert shows(np.array([instance().objective({"local_steps": t}) for t in taus]), printed)


@pytest.mark.parametrize(
    ("changes", "tau"),
    [
        ({"divergence": 0.0}, 100),
        ({"cost_per_aggregation": [0.0]}, 1),
        ({"cost_per_aggregation": [1.3]}, 71),
        ({"divergence": 5.0}, 11),
        ({"budget": [150.0]}, 5),
        ({"budget": [1500.0]}, 1),
    ],
)
def test_spec_8_variants(changes, tau):
    sol = rr.solve(instance(**changes))
    assert sol.local_steps == tau == oracle(instance(**changes))[0]
    assert sol.status == rr.Status.GLOBAL


def test_spec_8_without_divergence():
    assert shows(rr.solve(instance(divergence=0.0)).objective, "3.8133")


def test_spec_8_drift_begins_at_zero():
    assert instance().drifts()[:2] == pytest.approx([0.0, 1e-4], rel=1e-14, abs=0)


# -- oracle and properties ------------------------------------------------------------------------


@given(problems())
def test_equals_the_oracle(problem):
    tau, gaps = oracle(problem)
    assert problem.gaps() == pytest.approx(gaps, rel=1e-9, abs=0)
    sol = rr.solve(problem)
    assert sol.objective == pytest.approx(min(gaps), rel=1e-9, abs=0)
    assert gaps[int(sol.local_steps) - 1] == pytest.approx(gaps[tau - 1], rel=1e-9, abs=0)
    steps = [oracle_steps(t, problem) for t in problem.steps.tolist()]
    assert problem.allowed_steps() == pytest.approx(steps, rel=1e-12, abs=0)


@pytest.mark.parametrize("beta", [1e-12, 1e-9, 1e-6, 1e-3])
def test_correction_5_the_drift_does_not_cancel(beta):
    """The printed h loses every digit here: eta beta is near the rounding of 1."""
    exact = [float(oracle_h(t, 0.01, beta, 0.5)) for t in range(1, 101)]
    assert instance(gradient_lipschitz=beta).drifts() == pytest.approx(exact, rel=1e-12, abs=0)


@given(problems(reserve=False), st.floats(1.0, 100.0))
def test_more_divergence_never_asks_for_more_steps(problem, factor):
    """G(tau') - G(tau) rises with delta for tau' > tau, so tau* cannot rise."""
    worse = problem.replace(divergence=problem.divergence * factor)
    assert rr.solve(worse).local_steps <= rr.solve(problem).local_steps


@given(problems(reserve=False), st.floats(1.0, 100.0))
def test_dearer_aggregation_never_asks_for_fewer_steps(problem, factor):
    """G(tau') - G(tau) falls with b for tau' > tau; one resource, as the scarcest may change."""
    one = problem.select(M=[0])
    dearer = one.replace(
        cost_per_aggregation=one.cost_per_aggregation * factor, budget=one.budget * 100
    )
    cheaper = one.replace(budget=one.budget * 100)
    assert rr.solve(dearer).local_steps >= rr.solve(cheaper).local_steps


@given(problems(), st.integers(-40, 40))
def test_units_of_a_resource_do_not_matter(problem, exponent):
    unit = np.array([2.0**exponent, 1.0])
    names = ("cost_per_step", "cost_per_aggregation", "budget")
    there = problem.replace(**{n: getattr(problem, n) * unit for n in names})
    here, there = rr.solve(problem), rr.solve(there)
    assert there.local_steps == here.local_steps
    assert there.objective == here.objective  # powers of two round nothing


def test_units_that_round():
    """Hours instead of seconds."""
    names = ("cost_per_step", "cost_per_aggregation", "budget")
    there = instance(**{n: np.array(SPEC[n]) / 3600 for n in names})
    assert rr.solve(there).local_steps == 26


@settings(max_examples=10)
@given(st.lists(problems(search_limit=40, reserve=True), min_size=3, max_size=3))
def test_batch_equals_loop(alone):
    together = rr.solve(rr.problem.stack(alone))
    assert together.local_steps.tolist() == [int(rr.solve(p).local_steps) for p in alone]
    values = [float(rr.solve(p).objective) for p in alone]
    assert together.objective == pytest.approx(values, rel=1e-15, abs=0)


def test_a_limit_for_each_instance():
    sol = rr.solve(instance(search_limit=[1, 7, 26, 100], divergence=[[0.5], [0.0]]))
    assert sol.local_steps.tolist() == [[1, 7, 26, 26], [1, 7, 26, 100]]
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all()


def test_the_scarcest_resource_counts():
    """Time as in the specification; energy such that it alone would allow half the steps."""
    both = instance(
        cost_per_step=[0.013, 0.026], cost_per_aggregation=[0.13, 0.26], budget=[15.0, 15.0]
    )
    energy = instance(cost_per_step=[0.026], cost_per_aggregation=[0.26])
    assert rr.solve(both).objective == rr.solve(energy).objective
    assert (both.allowed_steps() == instance().allowed_steps() / 2).all()


def test_the_reserve_is_taken_from_the_budget():
    reserved = instance(reserve=True)
    assert reserved.gaps() == pytest.approx(instance(budget=[15.0 - 0.143]).gaps(), rel=1e-12)
    assert TauControl(**SPEC) == reserved  # the source's, so the default


# -- degenerate rows of section 8 -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "tau"),
    [
        ({"gradient_lipschitz": 0.0}, 100),
        ({"loss_lipschitz": 0.0}, 100),
        ({"divergence": 0.0, "gradient_lipschitz": 1e300}, 100),
        ({"loss_lipschitz": 0.0, "gradient_lipschitz": 1e300}, 100),
        ({"gradient_lipschitz": 1e300}, 1),
        ({"divergence": 1e300, "loss_lipschitz": 1e300}, 1),
        ({"cost_per_aggregation": [0.0], "divergence": 0.0}, 1),
        ({"cost_per_aggregation": [0.0], "cost_per_step": [0.0]}, 1),
        ({"cost_per_step": [0.0], "divergence": 0.0}, 100),
        ({"search_limit": 1}, 1),
    ],
)
def test_degenerate_rows(changes, tau):
    sol = rr.solve(instance(**changes))
    assert sol.local_steps == tau
    assert np.isfinite(sol.objective)
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize(("gradient_lipschitz", "first"), [(1e9, 46), (1e200, 3)])
def test_overflow_is_infinite_and_never_chosen(gradient_lipschitz, first):
    """(1 + 1e7)^45 and (1 + 1e198)^2 are beyond the largest double."""
    problem = instance(gradient_lipschitz=gradient_lipschitz)
    assert (np.isinf(problem.gaps()) == (problem.steps >= first)).all()
    assert rr.solve(problem).local_steps == 1


def test_a_budget_below_one_round_is_infeasible():
    sol = rr.solve(instance(budget=[[15.0], [0.142], [1.0]]))
    assert np.asarray(sol.status).tolist() == [
        rr.Status.GLOBAL,
        rr.Status.INFEASIBLE,
        rr.Status.GLOBAL,
    ]
    assert "instance 1: budget too small for one step and one aggregation" in sol.message
    assert "resource 0 has 0.142, a local step costs 0.013 and an aggregation 0.13" in sol.message
    assert "zero rounds" in sol.message


def test_the_short_resource_is_named():
    short = instance(cost_per_step=[0.013, 2.0], cost_per_aggregation=0.13, budget=[15.0, 1.0])
    assert "resource 1 has 1, a local step costs 2 and" in rr.solve(short).message
    report = rr.verify(short, {"local_steps": np.array(1)})
    assert not report.ok()
    assert "BAD one step and one aggregation" in str(report)


def test_a_batch_that_only_one_field_makes_is_verified():
    batch = instance(learning_rate=[0.01, 0.02], cost_per_step=[0.013, 20.0])
    report = rr.verify(batch, {"local_steps": np.array([1, 1])})
    assert report.violation == pytest.approx([5.13 / 15] * 2)
    assert "budget too small" in rr.solve(batch).message


def test_exactly_one_round():
    """R = c + b holds one round, and nothing of it can be reserved."""
    sol = rr.solve(instance(budget=[0.143]))  # 0.013 + 0.13 rounds to above 0.143
    assert sol.status == rr.Status.GLOBAL
    kept = rr.solve(instance(budget=[0.143], reserve=True))
    assert kept.status == rr.Status.INFEASIBLE
    assert "which the reserve keeps for the last check" in kept.message


# -- frame ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "batch"), [(3, 2), (1, None), (2, (2, 2))])
def test_conformance(size, batch):
    ran = check(TauControl.random(K=size, batch=batch, rng=size))
    assert {"baselines", "projection", "bound", "closed_form"} <= set(ran)


def test_conformance_with_limits_and_an_infeasible_instance():
    check(TauControl.random(K=2, batch=3, rng=0, search_limit=[1, 8, 30]))
    short = TauControl.random(K=2, batch=2, rng=0, budget=[[15.0, 15.0], [15.0, 0.01]])
    assert "closed_form" in check(short)
    assert check(short[1]) == ["fields", "indexing"]


def test_scenario_round_trip():
    problem = TauControl.random(K=2, batch=3, rng=0, search_limit=[1, 8, 30], reserve=False)
    assert rr.io.from_dict(rr.io.to_dict(problem)) == problem


def test_baselines_are_constant_steps():
    for name, tau in {"one-step": 1, "2-steps": 2, "20-steps": 20, "most-steps": 100}.items():
        assert rr.solve(instance(), f"baseline:{name}").local_steps == tau
    few = instance(search_limit=[3, 8])
    assert list(few.points()) == ["one-step", "2-steps", "3-steps", "5-steps", "most-steps"]
    assert few.points()["5-steps"]()["local_steps"].tolist() == [3, 5]
    assert list(instance(search_limit=1).points()) == ["one-step", "most-steps"]


def test_points_outside_and_between():
    problem = instance()
    assert [problem.objective({"local_steps": np.array(t)}) for t in (0, 101, math.nan)] == [
        *(math.inf, math.inf, math.inf)
    ]
    between = rr.verify(problem, {"local_steps": np.array(26.4)})
    assert not between.ok()
    assert "local_steps is an integer" in str(between)
    assert problem.project({"local_steps": np.array(400.2)})["local_steps"] == 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control_parameter": 0.0}, r"control_parameter = 0 is not in \(0, inf\)"),
        ({"learning_rate": -0.1}, r"learning_rate = -0.1 is not in \(0, inf\)"),
        ({"divergence": math.nan}, "divergence = nan"),
        ({"budget": [0.0]}, r"budget\[0\] = 0 is not in \(0, inf\)"),
        ({"search_limit": 0}, r"search_limit = 0 is not in \[1, inf\)"),
        ({"search_limit": 2.5}, "integers are needed"),
        ({"cost_per_step": [0.1, 0.2], "budget": [1.0, 2.0, 3.0]}, "axis M"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        instance(**changes)


def test_the_control_parameter_has_no_default():
    with pytest.raises(TypeError, match="control_parameter"):
        TauControl(**{n: v for n, v in SPEC.items() if n != "control_parameter"})
