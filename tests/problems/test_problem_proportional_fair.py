"""Proportional fairness: spec rrm.md section 15 item 4; shares and scheduler against oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import classics as oracle

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import Link, Task
from rralloc.policy import Policy, Round
from rralloc.problems import ProportionalFair, ProportionalFairShare
from rralloc.testing import check

EXPONENTS = st.floats(-9, 9).map(lambda e: 10.0**e)


def shown(index, rate, share=None, arrived=None):
    """A round in which the server is told the rates."""
    size = len(rate)
    one = np.ones(size)
    return Round(
        index=index,
        path_gain=one,
        bandwidth_hz=1e6,
        power_w=one,
        noise_psd_w_hz=1e-6,
        payload_bit=1.0,
        compute_s=one,
        share=one / size if share is None else share,
        statistics={"rate": np.asarray(rate, dtype=float)},
    )


def scheduled(policy, rates, arrives=None):
    """Served devices ``(T, K)`` over the slots."""
    rng, served = np.random.default_rng(0), np.zeros(np.shape(rates), dtype=bool)
    memory = policy.start(shown(0, rates[0]), rng)
    for t, now in enumerate(rates):
        decision, memory = policy.decide(shown(t, now), memory, rng)
        told = {} if arrives is None else {"arrived": decision.scheduled & arrives(t)}
        memory = policy.learn(told, memory)
        served[t] = decision.scheduled
    return served


# -- shares ---------------------------------------------------------------------------------------


def test_spec_15_4_static_rates_get_a_third_each():
    sol = rr.solve(ProportionalFairShare(rate=[1.0, 2.0, 5.0]))
    assert sol.time_share == pytest.approx([1 / 3] * 3, rel=1e-15)
    assert sol.objective == pytest.approx(math.log(10 / 27), rel=1e-14)
    assert sol.status == rr.Status.GLOBAL


@pytest.mark.parametrize(
    ("rate", "weight"), [((1, 2, 5), (1, 1, 1)), ((1, 2, 5), (1, 2, 3)), ((3, 0.1), (0.2, 1))]
)
def test_equals_a_grid_and_every_solver(rate, weight):
    problem = ProportionalFairShare(rate=rate, weight=weight)
    share, value = oracle.fair_shares(rate, weight)
    sol = rr.solve(problem)
    assert sol.time_share == pytest.approx(share, abs=2e-3)
    assert sol.objective >= value
    assert sol.objective == pytest.approx(value, rel=1e-4)
    for name in rr.solvers_for(problem):
        found = rr.solve(problem, name, rng=0)
        assert found.violation <= 1e-9
        if not name.startswith("baseline"):
            assert found.objective == pytest.approx(sol.objective, rel=1e-6), name
            assert found.status == rr.Status.GLOBAL, name


@settings(max_examples=30)
@given(
    pick=st.lists(st.tuples(EXPONENTS, st.floats(0.01, 100)), min_size=1, max_size=5),
    unit=EXPONENTS,
    seed=st.integers(0, 10**6),
)
def test_shares_know_neither_rates_nor_units(pick, unit, seed):
    rate, weight = np.transpose(pick)
    problem, rng = ProportionalFairShare(rate=rate, weight=weight), np.random.default_rng(seed)
    sol = rr.solve(problem)
    total = weight.sum()
    assert sol.time_share == pytest.approx(weight / total, rel=1e-13)
    # The optimum is zero for some rates: what is proven is measured against its terms.
    size = (weight * (1 + np.abs(np.log(weight / total * rate)))).sum()
    assert abs(sol.bound - sol.objective) <= 1e-12 * size
    faster = rr.solve(problem.replace(rate=rate * unit))
    shift = total * math.log(unit)
    assert abs(faster.objective - sol.objective - shift) <= 1e-12 * (size + abs(shift))
    order = rng.permutation(rate.size)
    moved = rr.solve(problem.select(K=order))
    assert moved.time_share == pytest.approx(sol.time_share[order], rel=1e-13)
    assert problem.objective(problem.sample(rng)) <= sol.bound + 1e-12 * size


def test_any_price_proves_a_valid_bound():
    problem = ProportionalFairShare(rate=[1.0, 2.0, 5.0], weight=[1.0, 2.0, 3.0])
    best = rr.solve(problem).objective
    for price in (-1.0, 0.0, 1e-300, 0.5, 6.0, 6.001, 1e300, math.inf):
        assert problem.bound(None, {"price": np.array(price)}) >= best * (1 - 1e-14)


def test_a_batch_is_a_loop():
    problem = ProportionalFairShare.random(K=4, batch=(2, 3), rng=0)
    together = rr.solve(problem)
    for i in np.ndindex(2, 3):
        alone = rr.solve(problem[i])
        assert alone.objective == pytest.approx(together.objective[i], rel=1e-14)
        np.testing.assert_array_equal(alone.time_share, together.time_share[i])


@pytest.mark.parametrize(("size", "batch"), [(3, 2), (4, (2, 2)), (1, 2), (2, None)])
def test_conformance(size, batch):
    ran = check(ProportionalFairShare.random(K=size, batch=batch, rng=size))
    assert {"projection", "gradient", "smooth", "bound", "closed_form"} <= set(ran)
    assert {"model:cvxpy", "model:pyomo"} <= set(ran)


def test_a_device_without_rate_makes_it_infeasible_unless_it_does_not_count():
    problem = ProportionalFairShare(rate=[[0.0, 1.0], [2.0, 1.0]], weight=[1.0, 2.0])
    sol = rr.solve(problem)
    assert sol.status.tolist() == [rr.Status.INFEASIBLE, rr.Status.GLOBAL]
    assert "devices [0] have rate 0 bit/s" in sol.message
    quiet = rr.solve(ProportionalFairShare(rate=[0.0, 2.0], weight=[0.0, 2.0]))
    assert quiet.time_share.tolist() == [0, 1]
    assert quiet.status == rr.Status.GLOBAL
    nobody = rr.solve(ProportionalFairShare(rate=[1.0, 2.0], weight=0.0))
    assert nobody.objective == 0
    assert nobody.status == rr.Status.GLOBAL
    assert rr.solve(ProportionalFairShare(rate=[7.0])).time_share == [1.0]


def test_rules_are_what_their_names_say():
    problem = ProportionalFairShare(rate=[1.0, 2.0, 4.0])
    assert rr.solve(problem, "baseline:equal").time_share == pytest.approx([1 / 3] * 3)
    even = rr.solve(problem, "baseline:equal-rate").time_share
    assert even * problem.rate == pytest.approx([4 / 7] * 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"rate": [1.0, -2.0]}, r"rate\[1\] = -2 bit/s"), ({"weight": -1.0}, "weight")],
)
def test_bad_input_is_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        ProportionalFairShare(**{"rate": [1.0, 2.0]} | changes)


# -- the scheduler --------------------------------------------------------------------------------


def test_spec_15_4_the_scheduler_finds_the_shares_of_static_rates():
    served = scheduled(ProportionalFair(window=100), np.tile([1.0, 2.0, 5.0], (3000, 1)))
    assert served.mean(0) == pytest.approx([1 / 3] * 3, abs=1 / 300)
    assert (served.sum(1) == 1).all()


def test_spec_15_4_fading():
    """Equal shares of the slots, and H_4/4 of each mean: within 1 %, as corrections item 7 says.

    Fades from a shuffled low-discrepancy set, as plain draws of 1e5 slots still err by .5 %.
    """
    from scipy.stats import qmc

    mean, rng = np.array([1.0, 2.0, 4.0, 8.0]), np.random.default_rng(0)
    quantiles = rng.permutation(qmc.Sobol(4, rng=rng).random_base2(14))
    rates = -np.log1p(-quantiles) * mean
    served = scheduled(ProportionalFair(window=100), rates)
    assert served.mean(0) == pytest.approx([0.25] * 4, rel=0.01)
    throughput = (served * rates).mean(0)
    assert oracle.harmonic(4) == pytest.approx(2.08333, abs=1e-5)
    assert throughput == pytest.approx(mean * oracle.harmonic(4) / 4, rel=0.01)
    # Taking turns gets H_4 times less; the largest rate starves the weakest of nearly all.
    assert throughput.sum() > 2 * mean.sum() / 4
    assert (rates.argmax(1) == 0).mean() < 0.05


def test_the_largest_of_four_fades_by_a_second_method():
    """H_4 = 2.08333 by integration: the mean of a maximum is the area above its distribution."""
    x = np.linspace(0, 40, 400_001)
    assert np.trapezoid(1 - (1 - np.exp(-x)) ** 4, x) == pytest.approx(oracle.harmonic(4), rel=1e-8)


@pytest.mark.parametrize("window", [2.0, 7.0, 50.0])
def test_serves_whom_a_loop_in_plain_numbers_serves(window):
    rates = np.random.default_rng(1).exponential(size=(400, 3)) * [1.0, 3.0, 10.0]
    served = scheduled(ProportionalFair(window=window), rates)
    assert served.argmax(1).tolist() == oracle.fair_schedule(rates.tolist(), window)


def test_a_window_of_one_round_serves_the_first_of_those_it_forgot():
    """Who was not served in the last round has a mean of nothing."""
    served = scheduled(ProportionalFair(window=1), np.tile([5.0, 1.0, 1.0], (6, 1))).argmax(1)
    assert served.tolist() == [0, 1, 0, 1, 0, 1]


def test_weights_become_shares():
    policy = ProportionalFair(window=200, weight=[1.0, 2.0, 3.0])
    served = scheduled(policy, np.tile([5.0, 1.0, 2.0], (6000, 1)))
    assert served.mean(0) == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=0.01)
    problem = ProportionalFairShare(rate=[5.0, 1.0, 2.0], weight=[1.0, 2.0, 3.0])
    assert served.mean(0) == pytest.approx(rr.solve(problem).time_share, abs=0.01)


def test_units_of_the_rates_do_not_matter():
    rates = np.random.default_rng(2).exponential(size=(300, 3))
    here = scheduled(ProportionalFair(window=20), rates)
    there = scheduled(ProportionalFair(window=20), rates * [1e-9, 1.0, 1e9])
    np.testing.assert_array_equal(here, there)


def test_who_has_no_channel_is_not_served_and_who_gets_one_comes_first():
    rates = np.tile([0.0, 1.0, 1.0], (30, 1))
    rates[20:, 0] = 1e-6
    served = scheduled(ProportionalFair(window=10), rates)
    assert not served[:20, 0].any()
    assert served[20, 0]


def test_ties_go_to_the_lower_index_and_several_share_the_band():
    policy, rng = ProportionalFair(count=2), np.random.default_rng(0)
    round = shown(0, [1.0, 1.0, 1.0], share=np.array([0.5, 0.25, 0.25]))
    decision, _ = policy.decide(round, policy.start(round, rng), rng)
    assert decision.scheduled.tolist() == [True, True, False]
    assert decision.bandwidth_hz.tolist() == [5e5, 5e5, 0]
    assert decision.weight == pytest.approx([2 / 3, 1 / 3, 0])
    everybody = ProportionalFair(count=9)
    decision, _ = everybody.decide(round, everybody.start(round, rng), rng)
    assert decision.scheduled.all()
    assert decision.bandwidth_hz.sum() == pytest.approx(1e6)


def test_what_does_not_arrive_does_not_count():
    """A device whose packets are lost keeps its claim: it is served until its mean is known."""
    rates = np.ones((200, 2))
    lost = scheduled(ProportionalFair(window=20), rates, lambda t: np.array([False, True]))
    assert lost[:, 0].mean() > 0.9
    assert scheduled(ProportionalFair(window=20), rates)[:, 0].mean() == pytest.approx(0.5)


def test_the_rate_is_that_of_the_known_gain():
    from dataclasses import replace

    policy, rng = ProportionalFair(count=2), np.random.default_rng(0)
    round = replace(shown(0, [1.0, 1.0]), statistics={}, path_gain=np.array([1.0, 3.0]))
    decision, memory = policy.decide(round, policy.start(round, rng), rng)
    # Half of 1 MHz at P g/(N0 b) = 1e6 g/5e5.
    assert decision.x["rate"] == pytest.approx([5e5 * math.log2(3), 5e5 * math.log2(7)])
    assert memory.offered == pytest.approx(decision.x["rate"])


def test_it_trains():
    """Through the engine: everybody gets turns, and the model learns."""
    task = Task.digits(clients=4, seed=0)
    link = Link(mean_gain=[1e-10, 1e-11, 1e-12, 1e-13], compute_s=0.1)
    policy = ProportionalFair(window=10, count=1)
    assert isinstance(policy, Policy)
    history = rr.fl.train(task, link, policy, rounds=40, seed=0)
    assert history.policy == "proportional fair, window 10"
    assert (history.scheduled >= 5).all()
    assert history.scheduled.sum() == 40
    assert history.accuracy[-1] > history.accuracy[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 0.5}, r"window = 0.5 is not in \[1, inf\)"),
        ({"window": math.inf}, "window"),
        ({"window": math.nan}, "window"),
        ({"count": 0}, "count = 0 is not a whole number"),
        ({"count": 1.5}, "count"),
        ({"weight": [1.0, 0.0]}, "weight"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(InvalidProblem, match=words):
        ProportionalFair(**settings)
