"""Energy efficiency: spec rrm.md section 15 item 6, Dinkelbach, several channels, extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import power_control as oracle
from scipy.special import lambertw
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.forms import Surrogate
from rralloc.problems import DinkelbachSurrogate, EnergyEfficiency
from rralloc.problems.energy_efficiency import best_surplus, efficient_nats
from rralloc.solution import gap_between
from rralloc.testing import check

SPEC = {"gain": [5.0], "circuit_power_w": 0.5}


@st.composite
def channels(draw, low=-2.0, high=2.0, sizes=strategies.sizes):
    """Gains, some of them zero, circuits and caps, some of them infinite."""
    size = draw(sizes)
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    gain = draw(strategies.rows(strategies.decades(low, high), size))
    gain[np.array(draw(flags)) & (np.arange(size) > 0)] = 0.0
    cap = draw(strategies.rows(strategies.decades(-3, 2), size))
    cap[np.array(draw(flags))] = np.inf
    return {
        "gain": gain,
        "circuit_power_w": draw(strategies.decades(-3, 2)),
        "power_max_w": cap,
    }


def proven(problem, solver=None, gap=1e-9):
    """The solution; feasible, and its gap is proven to be next to nothing."""
    sol = rr.solve(problem, solver)
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all(), sol
    assert (np.asarray(sol.gap) <= gap).all(), sol.gap
    return sol


# -- the numbers of the specification -----------------------------------------------------------


@pytest.mark.parametrize("solver", ["closed-form", "level", "sca", "pyomo", "scipy:slsqp"])
def test_spec_15_6(solver):
    sol = rr.solve(EnergyEfficiency(**SPEC), solver)
    assert shows(sol.objective, "1.818226086")
    assert sol.status == rr.Status.GLOBAL
    if solver in ("closed-form", "level"):
        assert shows(sol.power_w, ".593462954")
        assert sol.gap < 1e-14


def test_spec_15_6_by_lambert_w():
    u = 1 + lambertw((5 * 0.5 - 1) / math.e).real
    sol = rr.solve(EnergyEfficiency(**SPEC))
    assert sol.solver == "closed-form"
    assert sol.power_w == pytest.approx([math.expm1(u) / 5], rel=1e-14)


def test_spec_15_6_dinkelbach_needs_four_iterations_from_one_watt():
    """``sca`` is Dinkelbach's method: as many steps as the textbook's, which is in the oracles."""
    start = oracle.efficiency([5.0], 0.5, [1.0])
    value, power, steps = oracle.dinkelbach([5.0], 0.5, [math.inf], start)
    assert steps == 4
    sol = rr.solve(EnergyEfficiency(**SPEC), "sca", start={"power_w": np.array([1.0])}, tol=1e-12)
    assert sol.iterations == steps
    assert sol.objective == pytest.approx(value, rel=1e-14)
    assert sol.power_w == pytest.approx(power, rel=1e-7)


def test_spec_15_6_dinkelbach_from_nothing_needs_at_most_ten():
    """At price 0 all that the cap allows is sent."""
    assert oracle.dinkelbach([5.0], 0.5, [10.0], 0.0)[2] <= 10
    capped = EnergyEfficiency(**SPEC, power_max_w=10.0)
    sol = rr.solve(capped, "sca", start={"power_w": np.zeros(1)}, tol=1e-12)
    assert sol.iterations <= 10
    assert shows(sol.objective, "1.818226086")


def test_the_surrogate_is_the_parametric_problem():
    problem = EnergyEfficiency(gain=[5.0, 1.0], circuit_power_w=0.5, power_max_w=[np.inf, 0.2])
    start = {"power_w": np.array([0.3, 0.1])}
    near, price = problem.view(Surrogate).at(start), problem.objective(start)
    assert near.objective(start) == pytest.approx(price, rel=1e-14)
    level = 1 / (price * math.log(2))
    assert rr.solve(near).power_w == pytest.approx([level - 0.2, min(max(level - 1, 0), 0.2)])


# -- oracles over random instances --------------------------------------------------------------


@given(channels())
def test_level_equals_dinkelbach(fields):
    sol = proven(EnergyEfficiency(**fields), "level")
    gain, cap = fields["gain"].tolist(), fields["power_max_w"].tolist()
    start = 1e-3 * max(gain)
    value, power, _ = oracle.dinkelbach(gain, fields["circuit_power_w"], cap, start)
    assert sol.objective == pytest.approx(value, rel=1e-11)
    assert sol.power_w == pytest.approx(power, rel=1e-5, abs=1e-5 * max(power))


@given(fields=channels(-18, 6))
def test_gains_over_24_decades(fields):
    proven(EnergyEfficiency(**fields))
    proven(EnergyEfficiency(**fields), "level")


@settings(max_examples=15)
@given(seed=st.integers(0, 2**16))
def test_no_random_point_is_better(seed):
    problem, rng = EnergyEfficiency.random(K=3, rng=seed), np.random.default_rng(seed)
    best = proven(problem).objective
    for _ in range(50):
        x = problem.sample(rng)
        assert problem.objective(x) <= best * (1 + 1e-12)
        assert problem.bound(x) >= best * (1 - 1e-12)


def test_nats_solve_the_equation_of_lambert_w_near_its_branch_point_and_far_from_it():
    """e^u (u - 1) + 1 = c, against the series at 0 and scipy elsewhere."""
    small = np.array([1e-30, 1e-20, 1e-12])
    root = np.sqrt(2 * small)
    assert efficient_nats(small) == pytest.approx(root - root**2 / 3, rel=1e-12, abs=0)
    large = np.array([1e-2, 0.5, 1.0, 2.5, 1e3, 1e9, 1e200])
    exact = 1 + lambertw((large - 1) / math.e).real
    assert efficient_nats(large) == pytest.approx(exact, rel=1e-13, abs=0)


@pytest.mark.parametrize("cap", [0.05, 0.3, np.inf])
def test_surplus_is_the_maximum_over_a_grid(cap):
    gain, price = np.array([5.0, 0.7]), np.array(1.3)
    power = np.linspace(0, min(cap, 3.0), 300001)
    each = [(np.log2(1 + g * power) - price * power).max() for g in gain]
    assert best_surplus(gain, np.full(2, cap), price) == pytest.approx(sum(each), rel=1e-8)


# -- what must hold -----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [EnergyEfficiency, DinkelbachSurrogate])
@pytest.mark.parametrize(("size", "batch"), [(4, 3), (3, None), (1, 2)])
def test_conformance(cls, size, batch):
    ran = check(cls.random(K=size, batch=batch, rng=size))
    assert {"fields", "indexing", "baselines", "projection", "gradient"} <= set(ran)
    if cls is EnergyEfficiency:
        assert {"bound", "level", "surrogate", "smooth", "model:cvxpy", "model:pyomo"} <= set(ran)


def test_every_solver_reaches_the_best():
    for size in (1, 4):
        problem = EnergyEfficiency.random(K=size, rng=2)
        best, names = proven(problem).objective, rr.solvers_for(problem)
        assert {"level", "sca", "cvxpy", "pyomo", "scipy:slsqp"} <= set(names)
        for name in names:
            sol = rr.solve(problem, name, rng=0)
            assert sol.violation <= 1e-9, (name, sol)
            if not name.startswith("baseline"):
                close = 1e-4 if name == "scipy:trust-constr" else 1e-6  # its barrier ends early
                assert gap_between(sol.objective, best) <= close, (name, sol)


def test_random_instances_are_proven():
    proven(EnergyEfficiency.random(K=12, batch=50, rng=5))
    proven(EnergyEfficiency.random(K=1, batch=50, rng=5))


@settings(max_examples=20)
@given(fields=channels(), unit=strategies.decades(-18, 6))
def test_units_do_not_matter(fields, unit):
    """Gains times c, powers over c: the same shares, the efficiency times c."""
    here = proven(EnergyEfficiency(**fields))
    powers = {n: fields[n] / unit for n in ("circuit_power_w", "power_max_w")}
    there = proven(EnergyEfficiency(gain=fields["gain"] * unit, **powers))
    assert there.objective / unit == pytest.approx(here.objective, rel=1e-11)
    top = here.power_w.max()
    assert there.power_w * unit == pytest.approx(here.power_w, rel=1e-6, abs=1e-6 * top)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**16), size=st.integers(1, 5))
def test_batch_equals_loop_and_order_does_not_matter(seed, size):
    problem = EnergyEfficiency.random(K=size, batch=3, rng=seed)
    together, order = proven(problem), np.random.default_rng(seed).permutation(size)
    for i, one in enumerate(problem):
        alone, turned = proven(one), proven(one.select(K=order))
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-12)
        assert turned.objective == pytest.approx(alone.objective, rel=1e-12)
        assert turned.power_w == pytest.approx(alone.power_w[order], rel=1e-6, abs=1e-9)


@given(fields=channels(), more=st.floats(1.0, 10.0))
def test_better_channels_and_leaner_circuits_never_hurt(fields, more):
    here = rr.solve(EnergyEfficiency(**fields)).objective
    louder = rr.solve(EnergyEfficiency(**fields | {"gain": fields["gain"] * more}))
    leaner = rr.solve(
        EnergyEfficiency(**fields | {"circuit_power_w": fields["circuit_power_w"] / more})
    )
    assert louder.objective >= here * (1 - 1e-12)
    assert leaner.objective >= here * (1 - 1e-12)


@pytest.mark.parametrize("claim", [0.0, 1e-300, 0.1, 1.8, 1.818226, 1.9, 1e3, 1e300])
def test_any_witness_gives_a_valid_bound(claim):
    bound = EnergyEfficiency(**SPEC).bound(None, {"efficiency": np.array(claim)})
    assert not bound < 1.8182260855  # spec 15.6
    assert EnergyEfficiency(**SPEC).bound() >= 1.8182260855


# -- degenerate inputs --------------------------------------------------------------------------


def test_silent_channels_get_nothing():
    sol = proven(EnergyEfficiency(gain=[0.0, 5.0], circuit_power_w=0.5))
    assert sol.power_w == pytest.approx([0, 0.593462954], rel=1e-9)
    for gain in ([0.0], [0.0, 0.0]):
        deaf = rr.solve(EnergyEfficiency(gain=gain, circuit_power_w=0.5))
        assert deaf.status == rr.Status.GLOBAL
        assert deaf.objective == 0
        assert (deaf.power_w == 0).all()


def test_a_low_cap_binds():
    for solver in ("closed-form", "level"):
        sol = proven(EnergyEfficiency(**SPEC, power_max_w=0.2), solver)
        assert sol.power_w == pytest.approx([0.2], rel=1e-12)
        assert sol.objective == pytest.approx(1 / 0.7)  # log2(1 + 5 * 0.2) = 1


def test_identical_channels_share_equally():
    sol = proven(EnergyEfficiency(gain=[2.0] * 4, circuit_power_w=1.0))
    alone = proven(EnergyEfficiency(gain=[2.0], circuit_power_w=0.25))
    assert sol.power_w == pytest.approx(np.repeat(alone.power_w, 4), rel=1e-9)
    assert sol.objective == pytest.approx(alone.objective, rel=1e-12)


def test_closed_form_is_for_one_channel():
    refused = rr.solvers_for(EnergyEfficiency.random(K=2, rng=0)).refused
    assert "several channels share the circuits" in refused["closed-form"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"circuit_power_w": 0.0}, r"circuit_power_w = 0 W is not in \(0"),
        ({"gain": [-5.0]}, r"gain\[0\] = -5 1/W .*not in dB"),
        ({"gain": [math.nan]}, "missing"),
        ({"power_max_w": [0.0]}, r"power_max_w\[0\] = 0 W"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        EnergyEfficiency(**SPEC | changes)
