"""Policies: Optimised each round, Causal on a horizon; memory and random streams by hand."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from toys import Coin, Spend, Threshold, make_link

import rralloc as rr
from rralloc.errors import NotOffered, RRAllocError, UnknownOption
from rralloc.policy import Causal, Optimised, Policy
from rralloc.problems import FEELScheduling, MinMaxLatency, WaterFilling

VALUES = np.array([0.2, 0.9, 0.5, 0.8, 0.1])


def a_round(index=0, **link):
    uplink = make_link(0, **link)
    gain = uplink.gains(np.random.default_rng(index))
    share = np.array([0.4, 0.3, 0.2, 0.1])
    return uplink.round(index, gain, 100, share, {"gradient_norm": np.array([1.0, 2.0, 3.0, 4.0])})


# -- a horizon ------------------------------------------------------------------------------------


def test_an_online_policy_is_a_solver_of_the_horizon():
    problem = Spend(value=VALUES, budget=2.0)
    best = rr.solve(problem, "scipy:slsqp")
    assert best.objective == pytest.approx(1.7, abs=1e-6)
    sol = rr.solve(problem, Causal(policy=Threshold(budget=2.0, threshold=0.5)))
    np.testing.assert_array_equal(sol.spend, [0, 1, 1, 0, 0])
    assert sol.objective == pytest.approx(1.4)
    assert sol.solver == "causal(threshold)"
    assert sol.violation == 0


def test_memory_is_handed_through_and_starts_afresh():
    problem = Spend(value=VALUES, budget=1.5)
    solver = Causal(policy=Threshold(budget=1.5, threshold=0.5))
    first, second = rr.solve(problem, solver), rr.solve(problem, solver)
    np.testing.assert_array_equal(first.spend, [0, 1, 0.5, 0, 0])
    np.testing.assert_array_equal(second.spend, first.spend)


def test_overspending_is_a_violation_not_a_success():
    sol = rr.solve(
        Spend(value=VALUES, budget=1.0), Causal(policy=Threshold(budget=3.0, threshold=0.0))
    )
    assert sol.status is rr.Status.VIOLATED
    assert sol.violation == pytest.approx(2.0)


def test_a_batch_of_horizons_is_walked_one_by_one():
    problem = Spend(value=[VALUES, VALUES[::-1]], budget=[2.0, 1.0])
    sol = rr.solve(problem, Causal(policy=Threshold(budget=1.0, threshold=0.5)))
    np.testing.assert_array_equal(sol.spend, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]])
    assert sol.objective == pytest.approx([0.9, 0.8])


def test_the_random_stream_is_the_callers():
    problem, solver = Spend(value=VALUES, budget=2.0), Causal(policy=Coin(budget=2.0))
    one, two, other = (rr.solve(problem, solver, rng=r) for r in (3, 3, 4))
    np.testing.assert_array_equal(one.spend, two.spend)
    assert not np.array_equal(one.spend, other.spend)
    rng, left, spent = np.random.default_rng(3), 2.0, []
    for _ in VALUES:
        spent.append(min(1.0, left * rng.uniform()))
        left -= spent[-1]
    np.testing.assert_allclose(one.spend, spent, rtol=1e-15)


@dataclass(frozen=True)
class Nosy:
    """Writes down everything it is shown."""

    seen: list = field(default_factory=list)
    name: str = "nosy"

    def start(self, round, rng):
        self.seen.append(("start", round.index))
        return ()

    def decide(self, round, memory, rng):
        self.seen.append(("decide", round.index, float(round.path_gain[0])))
        return Threshold(1.0, 0.0).decide(round, 0.0, rng)[0], (*memory, round.index)

    def learn(self, feedback, memory):
        self.seen.append(("learn", memory, feedback["spent"]))
        return memory


def test_a_policy_sees_one_stage_at_a_time_and_no_future():
    nosy = Nosy()
    rr.solve(Spend(value=VALUES[:3], budget=1.0), Causal(policy=nosy))
    assert nosy.seen == [
        ("start", 0),
        ("decide", 0, 0.2),
        ("learn", (0,), 0.0),
        ("decide", 1, 0.9),
        ("learn", (0, 1), 0.0),
        ("decide", 2, 0.5),
        ("learn", (0, 1, 2), 0.0),
    ]


def test_a_horizon_without_stages_is_refused():
    with pytest.raises(NotOffered, match="Stages"):
        rr.solve(WaterFilling.random(K=2, rng=0), Causal(policy=Coin(1.0)))


def test_the_gap_to_clairvoyance_is_one_comparison():
    problem = Spend(value=VALUES, budget=2.0)
    rivals = [Causal(policy=Threshold(2.0, t)) for t in (0.5, 0.85)]
    table = rr.compare(problem, ["scipy:slsqp", *rivals]).to_dataframe().set_index("solver")
    assert len(table) == 3
    assert table.loc["scipy:slsqp"].loss <= 1e-6
    assert sorted(table.loss)[1] == pytest.approx(0.3 / 1.7, rel=1e-4)


# -- rounds ---------------------------------------------------------------------------------------


def test_optimised_solves_the_problem_of_the_round():
    policy, now = Optimised(MinMaxLatency), a_round()
    assert isinstance(policy, Policy)
    rng = np.random.default_rng(0)
    assert policy.start(now, rng) is None
    decision, memory = policy.decide(now, None, rng)
    assert memory is None
    assert policy.learn({}, None) is None
    sol = rr.solve(MinMaxLatency.from_round(now))
    np.testing.assert_array_equal(decision.bandwidth_hz, sol.bandwidth_hz)
    np.testing.assert_array_equal(decision.weight, now.share)
    assert decision.scheduled.all()
    assert not decision.in_turn


def test_a_rule_is_a_policy_with_a_baseline_as_solver():
    policy = Optimised(MinMaxLatency, "baseline:equal-split", label="equal")
    decision, _ = policy.decide(a_round(), None, np.random.default_rng(0))
    np.testing.assert_allclose(decision.bandwidth_hz, 1e6 / 4)
    assert policy.name == "equal"
    assert Optimised(MinMaxLatency).name == "MinMaxLatency by default"
    assert Optimised(MinMaxLatency, "level").name == "MinMaxLatency by level"


def test_settings_and_options_reach_problem_and_solver():
    now, rng = a_round(), np.random.default_rng(0)
    pure = Optimised(FEELScheduling, settings={"tradeoff": 1.0})
    decision, _ = pure.decide(now, None, rng)
    importance = now.share * now.statistics["gradient_norm"]
    np.testing.assert_allclose(decision.x["probability"], importance / importance.sum(), rtol=1e-12)
    with pytest.raises(UnknownOption, match="level has no option speed"):
        Optimised(MinMaxLatency, "level", options={"speed": 9}).decide(now, None, rng)


def test_a_round_without_a_feasible_point_is_an_error_by_name():
    silent = a_round(3, mean_gain=[1e-11, 0.0, 1e-11, 1e-11])
    with pytest.raises(RRAllocError, match=r"round 3: .*infeasible.*device 1"):
        Optimised(MinMaxLatency).decide(silent, None, np.random.default_rng(0))


def test_a_problem_that_is_no_round_says_so():
    with pytest.raises(NotOffered, match="not a per-round training problem"):
        Optimised(WaterFilling).decide(a_round(), None, np.random.default_rng(0))


def test_what_a_server_is_shown_cannot_be_changed():
    for csi in ("full", "mean"):
        uplink = make_link(0, csi=csi)
        gain = uplink.gains(np.random.default_rng(0))
        kept, mean = gain.copy(), uplink.mean_gain.copy()
        now = uplink.round(0, gain, 10, np.ones(4) / 4, {})
        for array in (now.path_gain, now.power_w, now.compute_s):
            try:
                array[:] = 99.0
            except ValueError:
                continue
        np.testing.assert_array_equal(gain, kept)
        np.testing.assert_array_equal(uplink.mean_gain, mean)
        assert float(np.max(uplink.compute_s)) < 1
