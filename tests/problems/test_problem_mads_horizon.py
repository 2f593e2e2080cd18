"""The clairvoyant horizon of MADS: spec mads.md §4 and §6, oracles, other solvers, properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mads_horizon as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered
from rralloc.forms import Model
from rralloc.problems import MADS, MADSHorizon, _mads_horizon
from rralloc.testing import check

SPEC = {"model_size": 2410, "bits_per_coordinate": 44, "bandwidth_hz": 4000.0, "power_max_w": 0.2}


def drawn_g2(seed, R, N, energy, **changes):
    """The seeded horizons of spec §6."""
    return MADSHorizon(**SPEC | oracle.drawn_g2(seed, R, N) | {"energy_budget_j": energy} | changes)


def proven(problem):
    sol = rr.solve(problem)
    assert sol.solver == "level"
    assert (np.asarray(sol.status) == rr.Status.GLOBAL).all()
    assert (np.asarray(sol.violation) < 1e-12).all()
    assert (np.asarray(sol.gap) < 1e-12).all()
    return sol


def by_hand(problem):
    """The bisection of the oracle, summed over the devices of one instance."""
    shape = problem.shape_of(type(problem).kept)
    w, tau, g = (
        np.broadcast_to(v, shape) for v in (problem.value, problem.contact_s, problem.snr_per_watt)
    )
    names = ("energy_budget_j", "model_size", "bits_per_coordinate", "bandwidth_hz", "power_max_w")
    each = [np.broadcast_to(getattr(problem, n), shape[-1:]) for n in names]
    found = [
        oracle.clairvoyant(w[:, n], tau[:, n], g[:, n], *[float(v[n]) for v in each])
        for n in range(shape[-1])
    ]
    return sum(value for value, _ in found), np.array([price for _, price in found])


# -- section 6 ------------------------------------------------------------------------------------


def test_spec_6_one_device():
    problem = drawn_g2(4343, 80, 1, 4.0)
    sol = proven(problem)
    assert sol.objective == pytest.approx(33766.6250108184, rel=1e-12)
    assert sol.duals["energy_price"] == pytest.approx([2218.32977407], rel=1e-11)
    assert (problem.contact_s > 0).sum() == 30
    assert problem.energy_j(sol.x) == pytest.approx([4.0], rel=1e-12)


def test_spec_6_five_devices():
    assert proven(drawn_g2(4444, 300, 5, 15.0)).objective == pytest.approx(
        677842.1857079207, rel=1e-12
    )


# -- oracles and other solvers --------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-4, 1.5), st.floats(1, 4.5), st.floats(-1, 4))
def test_bisection_by_hand_agrees(seed, energy, size, gain):
    rng = np.random.default_rng(seed)
    problem = MADSHorizon.random(
        K=2,
        rng=rng,
        rounds=9,
        energy_budget_j=10 ** (energy + rng.uniform(-1, 1, 2)),
        model_size=10**size,
        snr_per_watt=10 ** (gain + rng.uniform(-1, 1, (9, 2))),
    )
    value, price = by_hand(problem)
    sol = proven(problem)
    assert sol.objective == pytest.approx(value, rel=1e-9)
    assert problem.energy_price == pytest.approx(price, rel=1e-6)


@pytest.mark.parametrize("circuit", [0.0, 0.05])
def test_a_conic_solver_agrees(circuit):
    problem = drawn_g2(5, 12, 1, 0.4, circuit_power_w=circuit)
    data = (problem.value, problem.contact_s, problem.snr_per_watt)
    value = oracle.conic(*[v[:, 0] for v in data], 0.4, 2410, 44, 4000.0, 0.2, circuit)
    assert proven(problem).objective == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("solver", ["cvxpy", "pyomo"])
@pytest.mark.parametrize("circuit", [0.0, 0.05])
def test_models_agree(solver, circuit):
    problem = drawn_g2(6, 10, 2, [0.3, 0.6], circuit_power_w=circuit)
    best = proven(problem).objective
    sol = rr.solve(problem, solver)
    assert sol.violation < 1e-9
    assert sol.objective == pytest.approx(best, rel=1e-5)
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("seed", range(6))
def test_whole_numbers_against_every_combination(seed):
    rng = np.random.default_rng(seed)
    problem = MADSHorizon.random(
        K=1,
        rng=rng,
        rounds=4,
        model_size=8,
        integer=True,
        bandwidth_hz=400.0,
        circuit_power_w=0.02,
        header_bits=20.0,
        energy_budget_j=0.01,
        contact_s=rng.exponential(1, (4, 1)),
    )
    data = (problem.value, problem.contact_s, problem.snr_per_watt)
    best = oracle.whole(*[v[:, 0] for v in data], 0.01, 8, 44, 400.0, 0.2, 0.02, 20.0)
    sol = rr.solve(problem)
    assert sol.violation <= 1e-12
    assert np.isin(sol.kept, np.arange(9)).all()
    assert best * (1 - 1e-12) <= sol.bound
    assert 0.7 * best <= sol.objective <= best * (1 + 1e-12)


# -- variants -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"integer": True},
        {"circuit_power_w": 0.05},
        {"circuit_power_w": [0.0, 0.05, 0.5]},
        {"energy_budget_j": [1e3, 0.0, 0.5]},
    ],
)
def test_conformance(variant):
    ran = check(MADSHorizon.random(K=3, batch=2, rng=1, rounds=7, **variant))
    assert {"projection", "bound", "level"} <= set(ran)
    assert ("model:cvxpy" in ran) == ("integer" not in variant)


@pytest.mark.parametrize(
    "variant",
    [
        {"integer": True},
        {"header_bits": 500.0},
        {"circuit_power_w": 0.05, "header_bits": 500.0},
        {"circuit_power_w": 0.05, "header_bits": 500.0, "integer": True},
    ],
)
def test_where_the_price_is_not_exact_the_gap_is_a_contact(variant):
    """Spec §4: at most the number of contacts times the largest w, for whole numbers alone."""
    problem = MADSHorizon.random(K=3, batch=4, rng=2, rounds=40, **variant)
    sol = rr.solve(problem)
    assert (sol.violation <= 1e-12).all()
    met = problem.contact_s > 0
    loss, most = sol.bound - sol.objective, np.where(met, problem.value, 0.0)
    coordinates = 1.0 if variant == {"integer": True} else problem.kept_max.max((-1, -2))
    contacts = met.sum((-1, -2)) if variant == {"integer": True} else problem.sizes["N"]
    assert (loss <= coordinates * contacts * most.max((-1, -2))).all()
    assert (sol.gap < 0.05).all()
    assert (sol.objective <= sol.bound * (1 + 1e-12)).all()
    with pytest.raises(NotOffered, match="not convex"):
        problem.view(Model)


def test_every_round_is_mads_at_the_price():
    problem = drawn_g2(4444, 50, 5, 2.5)
    sol = proven(problem)
    rounds = MADS(
        **SPEC,
        value=problem.value,
        contact_s=problem.contact_s,
        snr_per_watt=problem.snr_per_watt,
        energy_price=sol.duals["energy_price"],
    )
    found = rr.solve(rounds).x
    for name in ("kept", "power_w"):
        assert sol.x[name] == pytest.approx(found[name], rel=1e-9, abs=1e-9)


# -- properties -----------------------------------------------------------------------------------


def test_batch_is_loop_and_blocks_do_not_matter(monkeypatch):
    problem = MADSHorizon.random(K=5, batch=(2, 2), rng=4, rounds=11)
    whole = proven(problem)
    alone = [rr.solve(problem[i]).objective for i in np.ndindex(2, 2)]
    assert whole.objective.ravel() == pytest.approx(alone, rel=1e-13)
    monkeypatch.setattr(_mads_horizon, "BLOCK", 50)
    again = proven(problem.replace())
    for name, values in again.x.items():
        assert values == pytest.approx(whole.x[name], rel=1e-13, abs=1e-300)


def test_devices_and_rounds_in_any_order():
    problem = MADSHorizon.random(K=4, rng=5, energy_budget_j=[0.1, 0.5, 1.0, 3.0])
    order, turn = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(30)
    moved = problem.select(N=order).select(R=turn)
    assert proven(moved).kept == pytest.approx(
        proven(problem).kept[np.ix_(turn, order)], rel=1e-10, abs=1e-9
    )


def test_more_energy_is_worth_more_and_its_price_falls():
    energy = np.geomspace(1e-4, 1e2, 40)[:, None]
    problem = drawn_g2(7, 60, 1, energy)
    sol = proven(problem)
    assert (np.diff(sol.objective) >= -1e-9).all()
    assert (np.diff(problem.energy_price[:, 0]) <= 0).all()
    assert problem.energy_price[-1] == 0
    slope = np.diff(sol.objective) / np.diff(energy[:, 0])  # concave: between the two prices
    price = problem.energy_price[:, 0]
    assert (slope <= price[:-1] * (1 + 1e-6)).all()
    assert (slope >= price[1:] * (1 - 1e-6) - 1e-6).all()


def test_units_of_energy_do_not_matter():
    problem = drawn_g2(8, 40, 3, 0.7)
    scaled = problem.replace(
        snr_per_watt=problem.snr_per_watt * 1e12,
        power_max_w=0.2e-12,
        energy_budget_j=problem.energy_budget_j * 1e-12,
    )
    assert proven(scaled).kept == pytest.approx(proven(problem).kept, rel=1e-10, abs=1e-9)


# -- degenerate input -----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [{}, {"circuit_power_w": 0.05}, {"integer": True}])
def test_degenerate_devices(variant):
    """No contact; no gain; no value; negative value; no power; no energy; more than enough."""
    fields = {
        "contact_s": [0, 3, 3, 3, 3, 3, 3],
        "snr_per_watt": [300, 0, 300, 300, 300, 300, 300],
        "value": [1, 1, 0, -1, 1, 1, 1],
    }
    rounds = {n: np.tile(np.array(v, dtype=float), (6, 1)) for n, v in fields.items()}
    power, energy = [0.2] * 7, [1.0, 1, 1, 1, 1, 0, 1e9]
    power[4] = 0.0
    data = rounds | {"power_max_w": power, "energy_budget_j": energy} | variant
    sol = rr.solve(MADSHorizon(**SPEC | data))
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-12
    for values in sol.x.values():
        assert (values[:, :6] == 0).all()
    assert (sol.kept[:, 6] > 100).all()


def test_short_and_long_contacts_do_not_overflow():
    tau = np.array([[1e-300], [1e-12], [1.0], [1e12]])
    problem = MADSHorizon(value=1.0, contact_s=tau, snr_per_watt=300.0, energy_budget_j=0.5, **SPEC)
    sol = proven(problem)
    assert sol.kept[3, 0] == 2410
    assert sol.kept[0, 0] < 1e-200


def test_scalars_stand_for_all_axes():
    tau = np.ones((4, 3))
    problem = MADSHorizon(value=1.0, contact_s=tau, snr_per_watt=300.0, energy_budget_j=0.1, **SPEC)
    assert problem.sizes == {"R": 4, "N": 3}
    assert proven(problem).kept == pytest.approx(np.full((4, 3), proven(problem).kept[0, 0]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": np.nan},
        {"value": np.inf},
        {"contact_s": -1.0},
        {"snr_per_watt": -1.0},
        {"energy_budget_j": -1.0},
        {"model_size": 0.0},
        {"bits_per_coordinate": 0.0},
    ],
)
def test_impossible_values_are_named(wrong):
    with pytest.raises(InvalidProblem, match=next(iter(wrong))):
        drawn_g2(0, 4, 2, 1.0).replace(**wrong)
