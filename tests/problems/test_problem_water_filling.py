"""Water-filling and its twin: spec rrm.md section 15 item 1, oracle, degenerate inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from oracles import water_filling as oracle
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.problems import InverseWaterFilling, WaterFilling

GAIN = (2.0, 1.0, 0.5, 0.1)
SOLVERS = pytest.mark.parametrize("solver", ["closed-form", "level"])


@SOLVERS
@pytest.mark.parametrize(
    ("budget", "power", "level", "rate"),
    [
        (3.0, (5 / 3, 7 / 6, 1 / 6, 0), 13 / 6, "3.346431652"),
        (1.0, (0.75, 0.25, 0, 0), 1.25, "1.643856190"),
        (0.25, (0.25, 0, 0, 0), 0.75, ".584962501"),
    ],
)
def test_spec_15_1(solver, budget, power, level, rate):
    sol = rr.solve(WaterFilling(gain=GAIN, power_budget_w=budget), solver)
    assert sol.power_w == pytest.approx(power, rel=1e-14)
    assert sol.duals["water_level_w"] == pytest.approx(level, rel=1e-14)
    assert shows(sol.objective, rate)
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-14


@SOLVERS
@pytest.mark.parametrize("budget", [3.0, 1.0, 0.25])
def test_spec_15_1_the_twin_returns_the_budget(solver, budget):
    rate = rr.solve(WaterFilling(gain=GAIN, power_budget_w=budget)).objective
    sol = rr.solve(InverseWaterFilling(gain=GAIN, rate_target=rate), solver)
    assert sol.objective == pytest.approx(budget, rel=1e-13)
    assert sol.status == rr.Status.GLOBAL


@SOLVERS
@given(pick=st.data())
def test_equals_the_oracle(solver, pick):
    gain = pick.draw(strategies.rows(strategies.decades(-4, 4), 5))
    budget = pick.draw(strategies.decades(-3, 3))
    power, level, rate = oracle.solve(list(gain), budget)
    sol = rr.solve(WaterFilling(gain=gain, power_budget_w=budget), solver)
    assert sol.objective == pytest.approx(rate, rel=1e-10, abs=0)
    # The objective is flat at the optimum: to 1e-16 wherever the point is to 1e-8.
    assert sol.power_w == pytest.approx(power, rel=1e-7, abs=1e-7 * level)
    least = rr.solve(InverseWaterFilling(gain=gain, rate_target=rate), solver).objective
    assert least == pytest.approx(budget, rel=1e-7, abs=0)


@SOLVERS
@given(pick=st.data())
def test_units_do_not_matter(solver, pick):
    """Gains times c, powers over c, over 20 orders of magnitude: the same shares of the budget."""
    gain = pick.draw(strategies.rows(strategies.decades(-3, 3), 4))
    unit = pick.draw(strategies.decades(-18, 6))
    here = rr.solve(WaterFilling(gain=gain, power_budget_w=2.0), solver)
    there = rr.solve(WaterFilling(gain=gain * unit, power_budget_w=2.0 / unit), solver)
    assert there.power_w * unit == pytest.approx(here.power_w, rel=1e-7, abs=1e-7)
    assert there.objective == pytest.approx(here.objective, rel=1e-12, abs=0)
    goal = InverseWaterFilling(gain=gain * unit, rate_target=here.objective)
    assert rr.solve(goal, solver).objective * unit == pytest.approx(2.0, rel=1e-9, abs=0)


@SOLVERS
@pytest.mark.parametrize("gain", [(1e-18, 2e-18, 1e-19), (1e-18, 1e6, 1e-3), (1e-8, 2e-8, 1e-8)])
@pytest.mark.parametrize("budget", [1e-12, 1.0, 1e3])
def test_power_is_not_lost_where_the_ground_is_far_above_it(solver, gain, budget):
    """With P much smaller than 1/g the level nu = P + 1/g has no digit left for P."""
    sol = rr.solve(WaterFilling(gain=gain, power_budget_w=budget), solver)
    assert sol.power_w.sum() == pytest.approx(budget, rel=1e-12, abs=0)
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-12
    goal = InverseWaterFilling(gain=gain, rate_target=sol.objective)
    assert rr.solve(goal, solver).objective == pytest.approx(budget, rel=1e-12, abs=0)


@given(strategies.water_filling(st.just(())), st.floats(1.0, 100.0))
def test_more_power_is_never_worse(problem, more):
    richer = problem.replace(power_budget_w=problem.power_budget_w * more)
    assert rr.solve(richer).objective >= rr.solve(problem).objective * (1 - 1e-13)


def test_a_thousand_channels_of_two_bits_need_no_2_to_the_2000():
    problem = InverseWaterFilling.random(K=1024, rng=0)
    sol = rr.solve(problem)
    assert sol.status == rr.Status.GLOBAL
    assert np.isfinite(sol.objective)
    assert sol.objective < problem.objective(problem.points()["equal-rate"]())


def test_one_channel_takes_all():
    assert rr.solve(WaterFilling(gain=[0.3], power_budget_w=7.0)).power_w == [7.0]


@pytest.mark.parametrize(
    ("gain", "budget", "power", "rate"),
    [
        ((0.0, 1.0), 2.0, (0, 2), math.log2(3)),
        ((0.0, 0.0), 2.0, (0, 0), 0.0),
        ((4.0, 1.0), 0.0, (0, 0), 0.0),
        ((1.0, 1.0), 3.0, (1.5, 1.5), 2 * math.log2(2.5)),
    ],
)
def test_dead_channels_and_no_power(gain, budget, power, rate):
    sol = rr.solve(WaterFilling(gain=gain, power_budget_w=budget))
    assert sol.power_w == pytest.approx(power, abs=0)
    assert sol.objective == pytest.approx(rate, rel=1e-15)
    assert sol.status == rr.Status.GLOBAL


def test_no_rate_needs_no_power():
    sol = rr.solve(InverseWaterFilling(gain=[1.0, 2.0], rate_target=0.0))
    assert (sol.power_w == 0).all()
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize("level", [-1.0, 0.0, 1e-300, 1e-3, 1.0, 5.0, 1e300, math.inf])
def test_any_witness_gives_a_valid_bound(level):
    witness = {"water_level_w": np.array(level)}
    bound = WaterFilling(gain=GAIN, power_budget_w=3.0).bound(None, witness)
    assert not bound < 3.3464316  # spec 15.1
    if np.isfinite(level):
        least = InverseWaterFilling(gain=GAIN, rate_target=3.346431652).bound(None, witness)
        assert not least > 3.0000001


def test_closed_form_is_the_default_and_level_needs_power():
    silent = WaterFilling(gain=[0.0, 0.0], power_budget_w=1.0)
    assert rr.solve(silent).solver == "closed-form"
    assert "no power or no channel" in rr.solvers_for(silent).refused["level"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"gain": [[1, 2], [3, -0.5]]},
            r"WaterFilling.gain\[1, 1\] = -0.5 1/W is not in \[0",
        ),
        ({"gain": [1.0, math.nan]}, r"gain\[1\] = nan.*remove missing"),
        ({"gain": [math.inf, 1.0]}, r"gain\[0\] = inf 1/W"),
        ({"power_budget_w": -3.0}, r"power_budget_w = -3 W .* not in dB"),
        ({"power_budget_w": [1.0, -2.0, -7.0]}, r"power_budget_w\[2\] = -7 W .*2 of 3 values"),
        ({"gain": 1.0, "power_budget_w": "much"}, "cannot read 'much'"),
        ({"gain": []}, "empty"),
        ({"gain": np.ones((3, 2)), "power_budget_w": [1.0, 2.0]}, "do not broadcast"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        WaterFilling(**{"gain": [1.0, 2.0], "power_budget_w": 1.0} | changes)
    with pytest.raises(ValueError, match="gain"):
        InverseWaterFilling(gain=[0.0, 1.0], rate_target=1.0)


def test_baselines_are_what_their_names_say():
    problem = WaterFilling(gain=GAIN, power_budget_w=3.0)
    assert rr.solve(problem, "baseline:equal").power_w.tolist() == [0.75] * 4
    assert rr.solve(problem, "baseline:best").power_w.tolist() == [3, 0, 0, 0]
    goal = InverseWaterFilling(gain=GAIN, rate_target=4.0)  # 1 bit/s/Hz each: p = (2 - 1)/g
    assert rr.solve(goal, "baseline:equal-rate").power_w == pytest.approx([0.5, 1, 2, 10])
    assert rr.solve(goal, "baseline:best").power_w == pytest.approx([7.5, 0, 0, 0])
