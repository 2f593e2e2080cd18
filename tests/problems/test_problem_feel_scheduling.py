"""FEEL scheduling: spec rrm.md section 4 with its corrections, oracle, exact enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from oracles import feel
from strategies import shows

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.policy import Round
from rralloc.problems import FEELScheduling

POINT = 1e-7
"""A traced run keeps the best objective, which is flat: to 1e-16 wherever the point is to 1e-8."""
A, T = (0.5, 0.3, 0.15, 0.05), (1, 0.5, 0.25, 2)


def instance(**changes):
    return FEELScheduling(**{"importance": A, "latency_s": T, "tradeoff": 0.5} | changes)


@pytest.mark.parametrize(
    ("rho", "law", "price", "cost"),
    [
        (0.01, ".058014 .060267 .877920 .003798", "-.247208", ".3769368"),
        (0.1, ".191561 .197266 .598599 .012574", "-.218721", ".6182641"),
        (0.5, ".435796 .332033 .199318 .032852", ".158178", ".8755249"),
        (0.9, ".493845 .304678 .154569 .046908", ".822575", ".9783029"),
        (0.999, ".499947 .300043 .150040 .049970", ".998213", ".9997875"),
    ],
)
def test_spec_4_table(rho, law, price, cost):
    sol = rr.solve(instance(tradeoff=rho))
    assert shows(sol.probability, law)
    assert shows(sol.duals["multiplier"], price)
    assert shows(sol.objective, cost)
    assert sol.status == rr.Status.GLOBAL
    assert sol.gap < 1e-14  # correction B: 4e-16


@given(pick=st.data())
def test_equals_the_oracle(pick):
    a = pick.draw(strategies.rows(strategies.decades(-3, 2), 4))
    latency = pick.draw(strategies.rows(strategies.decades(-3, 3), 4))
    rho = pick.draw(strategies.decades(-9, -0.001))
    law, _ = feel.solve(list(a), list(latency), rho)
    sol = rr.solve(instance(importance=a, latency_s=latency, tradeoff=rho))
    assert sol.probability == pytest.approx(law, rel=POINT, abs=0)
    assert sol.objective == pytest.approx(feel.objective(law, a, latency, rho), rel=1e-12, abs=0)
    lam = float(sol.duals["multiplier"])
    if lam > -(1 - rho) * latency.min():
        dual = feel.dual_bound(a, latency, rho, lam)
        assert sol.bound == pytest.approx(dual, rel=1e-9, abs=0)


@pytest.mark.parametrize("rho", [1e-9, 1e-6])
def test_correction_trap_sum_of_probabilities_at_tiny_rho(rho):
    """With lambda as unknown the sum loses 1e-7 at rho = 1e-9; the level y does not."""
    law, _ = feel.solve(A, T, rho)
    sol = rr.solve(instance(tradeoff=rho))
    assert sol.probability.sum() == pytest.approx(1.0, abs=1e-15)
    assert sol.probability == pytest.approx(law, rel=POINT, abs=0)


def test_batch_of_tradeoffs_runs_from_channel_to_importance():
    sol = rr.solve(instance(tradeoff=[1e-6, 0.1, 0.9, 1.0]))
    assert (np.diff(sol.probability[:, 2]) < 0).all()  # the fastest device ...
    assert (np.diff(sol.probability[:, 0]) > 0).all()  # ... yields to the most important
    assert sol.probability[-1] == pytest.approx(A, rel=1e-14)


# -- degenerate inputs of section 4 -------------------------------------------------------------


def test_one_device():
    sol = rr.solve(FEELScheduling(importance=[3.0], latency_s=[2.0], tradeoff=0.5))
    assert sol.probability.tolist() == [1.0]
    assert sol.objective == pytest.approx(0.5 * 9 + 0.5 * 2, rel=1e-15)


def test_rho_one_is_importance():
    assert rr.solve(instance(tradeoff=1.0)).probability == pytest.approx(A, rel=1e-15)


def test_rho_zero_is_refused():
    with pytest.raises(InvalidProblem, match=r"tradeoff = 0 is not in \(0, 1\]"):
        instance(tradeoff=0.0)


@pytest.mark.parametrize(
    ("a", "latency"),
    [
        ((0.5, 0, 0.15, 0.05), T),
        ((0.5, 0.3, 0, 0), (1, 0.5, 0.01, 2)),
        (A, (1, math.inf, 0.25, 2)),
        ((0.5, 0.3, 0, 0.05), (1, math.inf, 0.25, 2)),
        ((0.5, 0.5, 0.5, 0.5), (1, 1, 1, 1)),
    ],
    ids=["a = 0", "fastest has a = 0", "T = inf", "both", "identical"],
)
def test_degenerate_devices_equal_the_oracle(a, latency):
    law, excluded = feel.solve_degenerate(a, latency, 0.3)
    sol = rr.solve(instance(importance=a, latency_s=latency, tradeoff=0.3))
    assert sol.probability == pytest.approx(law, rel=POINT, abs=0)
    assert sol.status == rr.Status.GLOBAL
    said = f"{len(excluded)} unreachable device(s) excluded: unbiased for the others only"
    assert (said in sol.message) == bool(excluded)


@pytest.mark.parametrize("solver", ["level", "scipy:slsqp", "cvxpy", "pyomo"])
@pytest.mark.parametrize(("a", "latency"), [((0.5, 0, 0.15, 0.05), T), (A, (1, math.inf, 0.25, 2))])
def test_every_solver_leaves_out_who_cannot_or_need_not(solver, a, latency):
    problem = instance(importance=a, latency_s=latency)
    if solver not in rr.solvers_for(problem):
        pytest.skip(f"{solver} is not available")
    law, _ = feel.solve_degenerate(a, latency, 0.5)
    sol = rr.solve(problem, solver)
    assert sol.probability[1] == 0
    assert sol.objective == pytest.approx(rr.solve(problem).objective, rel=1e-6)
    assert sol.probability == pytest.approx(law, abs=2e-4)


def test_no_importance_at_all_is_the_uniform_law():
    assert rr.solve(instance(importance=0.0)).probability.tolist() == [0.25] * 4
    some = rr.solve(instance(importance=0.0, latency_s=(1, math.inf, 0.25, 2)))
    assert some.probability == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], rel=1e-15)


def test_drawing_the_excluded_is_a_violation():
    report = rr.verify(instance(latency_s=(1, math.inf, 1, 1)), {"probability": np.full(4, 0.25)})
    assert report.violation == 0.25
    assert "BAD idle or unreachable" in str(report)


@given(strategies.feel_scheduling(st.just(())), st.floats(0.01, 1.0))
def test_a_faster_channel_never_hurts(problem, factor):
    faster = problem.replace(latency_s=problem.latency_s * factor)
    assert rr.solve(faster).objective <= rr.solve(problem).objective * (1 + 1e-12)


@given(pick=st.data())
def test_units_do_not_matter(pick):
    """Importance in other units, time in other units: rho turns, the law stays."""
    unit = pick.draw(strategies.decades(-10, 10))
    here = rr.solve(instance())
    a, latency = np.array(A) * math.sqrt(unit), np.array(T) * unit
    there = rr.solve(instance(importance=a, latency_s=latency))
    assert there.probability == pytest.approx(here.probability, rel=POINT)


@pytest.mark.parametrize("multiplier", [-10.0, -0.25, 0.0, 0.158, 5.0])
def test_any_multiplier_gives_a_valid_bound(multiplier):
    assert instance().bound(None, {"multiplier": np.array(multiplier)}) <= 0.8755250  # spec table


# -- law, draw, weight --------------------------------------------------------------------------


class Script:
    """A generator that draws what it is told and multiplies up the chance of that."""

    def __init__(self, order):
        self.order, self.chance = list(order), 1.0

    def choice(self, size, p):
        device = self.order.pop(0)
        self.chance *= p[device]
        return device


def a_round(devices, **changes):
    rng = np.random.default_rng(8)
    share = rng.uniform(1, 3, devices)
    fields = {
        "index": 0,
        "path_gain": 1e-10 * rng.exponential(size=devices),
        "bandwidth_hz": 1e6,
        "power_w": np.full(devices, 0.1),
        "noise_psd_w_hz": 4e-21,
        "payload_bit": 1e6,
        "compute_s": np.full(devices, 0.1),
        "share": share / share.sum(),
        "statistics": {"gradient_norm": rng.exponential(size=devices)},
    }
    return Round(**fields | changes)


def outcomes(problem, law, round, count):
    """Every ordered draw: its chance, decision and order."""
    for order in itertools.permutations(range(len(law)), count):
        script = Script(order)
        decision = problem.to_decision({"probability": law}, round, script)
        if script.chance > 0:
            yield script.chance, decision, order


@pytest.mark.parametrize("count", [1, 2, 3])
def test_spec_4_law_draw_and_weight_are_unbiased(count):
    round = a_round(4)
    problem = instance(draws=count)
    law = rr.solve(problem).probability
    gradient = np.random.default_rng(2).standard_normal((4, 3))
    mean, total = np.zeros(3), 0.0
    for chance, decision, order in outcomes(problem, law, round, count):
        found = decision.weight @ gradient
        assert found == pytest.approx(feel.estimate(order, law, round.share, gradient), rel=1e-12)
        assert set(np.flatnonzero(decision.scheduled)) == set(order)
        mean, total = mean + chance * found, total + chance
    assert total == pytest.approx(1, rel=1e-12)
    assert mean == pytest.approx(round.share @ gradient, abs=1e-13)


def test_second_moment_of_one_draw_is_the_first_term():
    round = a_round(4)
    gradient = np.random.default_rng(2).standard_normal((4, 3))
    a = round.share * np.linalg.norm(gradient, axis=1)
    problem = instance(importance=a, tradeoff=1.0, latency_s=1.0)
    law = rr.solve(problem).probability
    draws = outcomes(problem, law, round, 1)
    moment = sum(chance * np.sum((d.weight @ gradient) ** 2) for chance, d, _ in draws)
    assert problem.objective({"probability": law}) == pytest.approx(moment, rel=1e-12)


def test_a_rare_device_is_weighed_right_when_all_others_are_gone():
    law = np.array([1 - 1e-15, 1e-15])
    round = a_round(2)
    problem = FEELScheduling(importance=[1.0, 1.0], latency_s=1.0, tradeoff=1.0, draws=2)
    (_, first, _), (_, second, _) = outcomes(problem, law, round, 2)
    # Order (0, 1): device 1 is certain in the second step, q = 1, so its weight is share/2.
    assert first.weight[1] == pytest.approx(round.share[1] / 2, rel=1e-12)
    assert second.weight[0] == pytest.approx(round.share[0] / 2, rel=1e-12)


def test_drawn_devices_are_distinct_and_follow_the_law():
    problem, law = instance(draws=2), np.array([0.5, 0.3, 0.2, 0.0])
    rng = np.random.default_rng(0)
    drawn = np.array([problem.draw(law, rng) for _ in range(4000)])
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert (drawn != 3).all()
    assert np.bincount(drawn[:, 0], minlength=4) / 4000 == pytest.approx(law, abs=0.03)


def test_from_round_measures_both_terms_at_the_uniform_law():
    round = a_round(5)
    problem = FEELScheduling.from_round(round)
    assert (problem.importance**2).sum() * 5 == pytest.approx(1.0, rel=1e-12)
    assert problem.latency_s.mean() == pytest.approx(1.0, rel=1e-12)
    rate = 1e6 * np.log2(1 + round.snr_bandwidth_hz / 1e6)
    latency = 0.1 + 1e6 / rate
    assert problem.latency_s == pytest.approx(latency / latency.mean(), rel=1e-12)


def test_from_round_without_any_channel_is_refused_in_words():
    with pytest.raises(InvalidProblem, match="every device of some instance has latency inf"):
        FEELScheduling.from_round(a_round(3, path_gain=np.zeros(3)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tradeoff": 1.5}, r"tradeoff = 1.5 is not in \(0, 1\]"),
        ({"latency_s": [1, 0, 1, 1]}, r"latency_s\[1\] = 0 s is not in \(0, inf\] s"),
        ({"latency_s": math.inf}, "nothing can be scheduled"),
        ({"importance": [1, -1, -2, 0]}, r"importance\[2\] = -2 .*2 of 4 values"),
        ({"draws": 5}, r"draws = 5 is not in \[1, 4\]"),
        ({"draws": 0}, r"draws = 0 is not in \[1, 4\]"),
    ],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        instance(**changes)


def test_baselines_are_what_their_names_say():
    assert rr.solve(instance(), "baseline:uniform").probability.tolist() == [0.25] * 4
    assert rr.solve(instance(), "baseline:importance").probability == pytest.approx(A)
    channel = rr.solve(instance(), "baseline:channel")
    assert channel.probability.tolist() == [0, 0, 1, 0]
    assert channel.objective == math.inf  # who is never drawn cannot be estimated
