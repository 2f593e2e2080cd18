"""Online control of MADS: spec mads.md §2.9 and §6; the queue's promises on every path."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import mads_horizon as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem, NotOffered, UnknownName
from rralloc.forms import Stages
from rralloc.problems import (
    Dense,
    DriftPlusPenalty,
    FixedKeep,
    FixedPower,
    MADSHorizon,
    MaxPower,
    WaterFilling,
)
from rralloc.problems.mads_policies import POLICIES, default_tradeoff, weight_of

RULES = sorted(POLICIES)
SPEC = {"model_size": 2410, "bits_per_coordinate": 44, "bandwidth_hz": 4000.0, "power_max_w": 0.2}


def drawn_g2(seed, R, N, energy, **changes):
    """The seeded horizons of spec §6."""
    return MADSHorizon(**SPEC | oracle.drawn_g2(seed, R, N) | {"energy_budget_j": energy} | changes)


def spent(problem, sol):
    """Joules of each round and device."""
    drawn = sol.power_w + np.where(sol.kept > 0, problem.circuit_power_w, 0.0)
    return sol.airtime_s * drawn


# -- section 6 ------------------------------------------------------------------------------------


def test_spec_6_online_totals():
    problem = drawn_g2(4444, 300, 5, 15.0)
    sol = rr.solve(problem, "drift-plus-penalty", tradeoff=2e-4, queue0=0.0)
    assert sol.objective == pytest.approx(650450.5388291611, rel=1e-12)
    assert problem.energy_j(sol.x).sum() == pytest.approx(76.13497272861721, rel=1e-12)
    assert sol.bound == pytest.approx(677842.1857079207, rel=1e-12)
    last, budget = sol.duals["queue"], 15.0 / 300
    assert last == pytest.approx(sol.duals["energy_price"] * 2e-4, rel=1e-12)
    assert (problem.energy_j(sol.x) - 300 * budget <= last + 1e-12).all()
    before, energy = sol.trace.column("queue")[-1], sol.trace.column("energy_j")[-1]
    assert last == pytest.approx(np.maximum(before + energy - budget, 0.0), rel=1e-12)
    assert sol.status == rr.Status.VIOLATED  # one device spends 5 % too much, and it shows
    assert sol.violation == pytest.approx((problem.energy_j(sol.x) / 15.0 - 1).max(), rel=1e-9)


def test_a_slow_loop_in_plain_numbers_agrees():
    """The whole online controller of §0, device by device, with the queue."""
    problem = drawn_g2(11, 40, 3, 2.0)
    sol = rr.solve(problem, "drift-plus-penalty", tradeoff=1e-4, queue0=0.02)
    s, b, B, p_max, V, Ebar = 2410, 44, 4000.0, 0.2, 1e-4, 2.0 / 40
    for n in range(3):
        Q = 0.02
        for r in range(40):
            w, tau, g = (
                float(v[r, n]) for v in (problem.value, problem.contact_s, problem.snr_per_watt)
            )
            assert sol.trace.column("queue")[r, n] == pytest.approx(Q, rel=1e-9, abs=1e-12)
            k = p = 0.0
            if tau > 0:
                a = tau * B / b
                y_eng = math.log2(V * w * B * g / (b * Q * math.log(2))) if Q > 0 else math.inf
                y = max(min(y_eng, math.log2(1 + p_max * g), s / a), 0.0)
                k, p = a * y, (2**y - 1) / g
            assert sol.kept[r, n] == pytest.approx(k, rel=1e-9, abs=1e-9)
            Q = max(Q + tau * p - Ebar, 0.0)


# -- promises on every path -----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(-6, -2),
    st.floats(0, 1),
    st.sampled_from(["continuous", "whole", "circuits"]),
)
def test_queue_bound_and_violation_identity(seed, tradeoff, queue0, kind):
    variant = {"integer": kind == "whole", "circuit_power_w": 0.05 * (kind == "circuits")}
    problem = MADSHorizon.random(K=3, rng=seed, rounds=40, **variant)
    policy = DriftPlusPenalty(tradeoff=10**tradeoff, queue0=queue0)
    sol = rr.solve(problem, rr.Causal(policy=policy))
    energy, budget = spent(problem, sol), problem.energy_budget_j / 40
    told = problem.view(Stages).seen(0)
    memory = policy.start(told, np.random.default_rng(0))
    top = {n: getattr(problem, n).max(0) for n in ("value", "contact_s", "snr_per_watt")}
    ceiling = policy.queue_ceiling(told.statistics | top, memory, top["value"])
    queue = memory.queue
    for r in range(40):
        queue = np.maximum(queue + energy[r] - budget, 0.0)
        assert (queue <= ceiling * (1 + 1e-12)).all()
        over = energy[: r + 1].sum(0) - (r + 1) * budget
        assert (over <= queue - queue0 + 1e-12).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("variant", [{}, {"integer": True}, {"circuit_power_w": 0.05}])
def test_a_hard_budget_is_never_overspent(rule, variant):
    problem = MADSHorizon.random(K=4, rng=3, rounds=60, **variant)
    sol = rr.solve(problem, rule, hard_budget=True)
    total = spent(problem, sol).cumsum(0)
    allowed = np.arange(1, 61)[:, None] * problem.energy_budget_j / 60
    assert (total <= allowed * (1 + 1e-11)).all()
    assert sol.violation <= 1e-9
    assert sol.objective <= sol.bound * (1 + 1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_without_energy_a_hard_budget_is_silence(rule):
    problem = MADSHorizon.random(K=2, rng=3, rounds=10, energy_budget_j=0.0)
    sol = rr.solve(problem, rule, hard_budget=True)
    assert (sol.kept == 0).all()


def test_a_larger_tradeoff_closes_the_gap_and_lengthens_the_queue():
    """Spec §2.9: gap ~ 1/V at equal energy, Q ~ V, with the queue started at V lambda."""
    problem = drawn_g2(9, 2000, 2, 0.05 * 2000)
    price = float(problem.energy_price.mean())
    gaps, queues = [], []
    for units in (8, 16, 32, 64):
        V = units * 0.05 / price
        sol = rr.solve(problem, "drift-plus-penalty", tradeoff=V, queue0=V * price)
        gaps.append(float(sol.gap))
        queues.append(float(sol.trace.column("queue").mean() / 0.05))
        used = problem.energy_j(sol.x) / problem.energy_budget_j
        assert used == pytest.approx([1.0, 1.0], abs=0.05)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < gaps[0] / 6  # an eighth, by the rule
    assert queues == sorted(queues)
    assert queues[3] == pytest.approx(2 * queues[2], rel=0.2)


# -- names and defaults ---------------------------------------------------------------------------


def test_solvers_are_causal_policies():
    problem = drawn_g2(4444, 60, 5, 3.0)
    pairs = {
        "drift-plus-penalty": DriftPlusPenalty(),
        "fixed-keep": FixedKeep(),
        "dense": Dense(),
        "fixed-power": FixedPower(),
        "max-power": MaxPower(),
    }
    assert sorted(pairs) == RULES
    for name, policy in pairs.items():
        sol, causal = rr.solve(problem, name), rr.solve(problem, rr.Causal(policy=policy))
        assert name in rr.solvers_for(problem)
        assert sol.solver == name
        assert sol.iterations == 60
        for variable, values in sol.x.items():
            assert (values == causal.x[variable]).all()
    assert rr.solve(problem, "fixed-keep", share=0.02).kept.max() == 0.02 * 2410
    with pytest.raises(NotOffered):
        rr.solve(WaterFilling.random(K=2, rng=0), "dense")
    with pytest.raises(NotOffered, match="drift-plus-penalty"):
        problem.policy("round-robin")


def test_a_batch_is_its_instances():
    problem = MADSHorizon.random(K=2, batch=(2, 2), rng=1, rounds=12)
    sol = rr.solve(problem, "drift-plus-penalty")
    assert sol.duals["tradeoff"].shape == (2, 2, 2)
    for i in np.ndindex(2, 2):
        alone = rr.solve(problem[i], "drift-plus-penalty")
        assert sol.objective[i] == alone.objective
        assert sol.duals["energy_price"][i] == pytest.approx(alone.duals["energy_price"])
    assert sol.trace.column("queue", lane=3).shape == (12, 2)


def test_the_default_tradeoff_is_the_rule_of_the_spec():
    problem = drawn_g2(
        4444,
        64,
        1,
        64 * 0.05,
        prior_contact_s=1.6,
        prior_snr_per_watt=200.0,
        prior_value=1.0,
        prior_gap_rounds=4.0,
    )
    sol = rr.solve(problem, "drift-plus-penalty")
    first = 0.05 * max(math.sqrt(64), 3 * 4)
    V = first * 44 * math.log(2) * (0.05 / 1.6 + 1 / 200) / (1.0 * 4000)
    assert sol.duals["tradeoff"] == pytest.approx([V])
    assert sol.trace.column("queue")[0] == pytest.approx([first])
    assert "default rule" in sol.message
    assert "default rule" not in rr.solve(problem, "drift-plus-penalty", tradeoff=1e-4).message


def test_priors_are_those_of_the_horizon_unless_declared():
    tau = np.array([[1.0, 0, 0], [0, 0, 2], [0, 0, 2], [3, 0, 2], [0, 0, 2]])
    problem = MADSHorizon(
        value=[[2.0], [9], [9], [4], [9]],
        contact_s=tau,
        snr_per_watt=[[10.0], [99], [99], [30], [99]],
        energy_budget_j=1.0,
        model_size=100,
        bits_per_coordinate=40,
        bandwidth_hz=1e3,
        power_max_w=0.1,
    )
    priors = problem.priors
    assert priors["prior_contact_s"] == pytest.approx([0.8, 0, 1.6])
    assert priors["prior_snr_per_watt"][[0, 2]] == pytest.approx([20, 99])
    assert priors["prior_value"] == pytest.approx([3, 0, 7.75])
    assert priors["prior_gap_rounds"] == pytest.approx([1.5, 5, 1])
    V = default_tradeoff(problem.view(Stages).seen(0).statistics, np.full(3, 0.2))
    assert V[1] == 0
    assert (V[[0, 2]] > 0).all()
    assert (rr.solve(problem, "drift-plus-penalty").kept[:, 1] == 0).all()


def test_the_default_comes_near_clairvoyance_and_beats_the_rules():
    problem = drawn_g2(4444, 600, 5, 30.0)
    best = {n: rr.solve(problem, n, hard_budget=True) for n in RULES}
    ours = best.pop("drift-plus-penalty")
    assert ours.gap < 0.06
    assert all(ours.objective > sol.objective for sol in best.values())


# -- weights --------------------------------------------------------------------------------------


def test_weightings():
    told = {
        "model_size": np.array([100.0, 100.0]),
        "update_energy": np.array([4.0, 2.0]),
        "staleness": np.array([3.0, 1.0]),
        "contact_probability": np.array([0.1, 0.0]),
    }
    assert weight_of(told, "hold") == pytest.approx([0.4, 0.0])
    assert weight_of(told, "norm") == pytest.approx([0.04, 0.02])
    assert weight_of(told, "flat") == pytest.approx([0.01, 0.01])
    assert weight_of(told, "stale") == pytest.approx([0.9, 0.0])
    assert weight_of(told | {"value": np.ones(2)}, "hold") == pytest.approx([1, 1])


@pytest.mark.parametrize("weighting", ["hold", "norm", "stale"])
def test_a_missing_statistic_is_named(weighting):
    with pytest.raises(InvalidProblem, match=weighting):
        weight_of({"model_size": np.ones(1), "staleness": np.ones(1)}, weighting)


def test_flat_weights_ignore_the_values():
    problem = drawn_g2(12, 30, 2, 1.0)
    other = problem.replace(value=problem.value[::-1])
    found = [
        rr.solve(p, "drift-plus-penalty", tradeoff=0.3, weighting="flat") for p in (problem, other)
    ]
    assert (found[0].kept == found[1].kept).all()
    assert found[0].kept.max() > 0


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"weighting": "age"}, UnknownName),
        ({"tradeoff": -1.0}, InvalidProblem),
        ({"queue0": -1.0}, InvalidProblem),
        ({"budget_per_round_j": -1.0}, InvalidProblem),
        ({"budget_per_round_j": math.inf}, InvalidProblem),
        ({"tradeoff": math.nan}, InvalidProblem),
    ],
)
def test_impossible_settings_are_named(wrong, error):
    with pytest.raises(error, match=next(iter(wrong))):
        rr.solve(drawn_g2(1, 4, 2, 1.0), "drift-plus-penalty", **wrong)


def test_fixed_keep_is_a_share():
    with pytest.raises(InvalidProblem, match="share"):
        FixedKeep(share=1.5)
    assert FixedKeep(share=0.03).name == "fixed-keep 3 %"


def test_a_deadline_leaves_the_rest_undone():
    problem = MADSHorizon.random(K=2, batch=3, rng=0)
    sol = rr.solve(problem, "drift-plus-penalty", time_limit=0.0)
    assert (sol.stopped == rr.Stopped.TIME).all()
    assert (sol.status == rr.Status.NONE).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_device_that_is_never_met_is_silent(rule):
    problem = MADSHorizon.random(K=2, rng=0, rounds=1, contact_s=0.0)
    sol = rr.solve(problem, rule)
    assert sol.objective == 0
    assert sol.status == rr.Status.GLOBAL
