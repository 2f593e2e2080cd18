"""Adaptive aggregation: statistics in, local steps out; then spec rrm.md section 8 by learning."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from toys import Everybody, OneByOne, make_link, make_task

import rralloc as rr
from rralloc.channel import NOISE_PSD_W_PER_HZ
from rralloc.errors import InvalidProblem
from rralloc.fl import DigitalPacket, ErrorFree, Link, Task
from rralloc.policy import Policy, Round
from rralloc.problems.adaptive_aggregation import AdaptiveAggregation, FixedSteps, Pace

SHARE = np.array([0.5, 0.3, 0.2])
RHO, BETA, DELTA = np.array([1.0, 2.0, 0.5]), np.array([2.0, 1.0, 3.0]), np.array([0.5, 0.2, 0.9])
EVEN, UNEVEN = np.full(3, 0.013), np.array([0.013, 0.001, 0.011])
GAIN, BAND, POWER, NOISE, BITS = np.array([1e-10, 3e-11, 2e-10]), 3e6, 0.1, 4e-21, 1e6


def a_round(index=0, rho=RHO, beta=BETA, delta=DELTA, **changes):
    """Three devices at an equal split, with the statistics that a server was told."""
    fields = {
        "index": index,
        "path_gain": GAIN,
        "bandwidth_hz": BAND,
        "power_w": np.full(3, POWER),
        "noise_psd_w_hz": NOISE,
        "payload_bit": BITS,
        "compute_s": EVEN,
        "share": SHARE,
        "statistics": {"loss_lipschitz": rho, "gradient_lipschitz": beta, "divergence": delta},
        "learning_rate": 0.01,
    }
    return Round(**fields | changes)


UNKNOWN = {"rho": np.full(3, np.nan), "beta": np.full(3, np.nan)}


def airtimes():
    """Seconds of three devices on a third of the band each, by hand."""
    band = BAND / 3
    return [BITS / (band * math.log2(1 + POWER * g / (NOISE * band))) for g in GAIN]


def oracle(limit, c, b, budget, rho, beta, delta, eta, phi):
    """tau* of section 8 as printed, one tau at a time."""
    best, least = 0, math.inf
    for tau in range(1, limit + 1):
        h = delta / beta * ((eta * beta + 1) ** tau - 1) - eta * delta * tau
        once = (c * tau + b) / (2 * eta * phi * budget * tau)
        gap = once + math.sqrt(once**2 + rho * max(h, 0) / (eta * phi * tau)) + rho * h
        best, least = (tau, gap) if gap < least else (best, least)
    return best


def expected(limit, rho=RHO, beta=BETA, delta=DELTA, eta=0.01, phi=0.025):
    """The same from three devices' reports."""
    mean = [sum(s * v for s, v in zip(SHARE, each)) for each in (rho, beta, delta)]
    return oracle(limit, 0.013, max(airtimes()), 15.0, *mean, eta, phi)


def play(policy, rounds):
    """Decisions of consecutive rounds."""
    rng = np.random.default_rng(0)
    memory, decisions = policy.start(rounds[0], rng), []
    for round in rounds:
        decision, memory = policy.decide(round, memory, rng)
        decisions.append(decision)
        told = {
            "round": round.index,
            "arrived": decision.scheduled,
            "seconds": Pace.of(decision, round).lasts(decision.local_steps or 1),
        }
        memory = policy.learn(told, memory)
    return decisions


def steps(policy, rounds):
    return [d.local_steps for d in play(policy, rounds)]


def adaptive(**changes):
    return AdaptiveAggregation(**{"inner": Everybody(), "control_parameter": 0.025} | changes)


# -- statistics in, tau out -----------------------------------------------------------------------


def test_tau_equals_the_oracle():
    policy = adaptive(budget_s=15.0)
    assert steps(policy, [a_round(0, **UNKNOWN), a_round(1), a_round(2)]) == [
        1,
        expected(10),
        expected(100),
    ]
    assert 10 < expected(100) < 100  # neither the growth nor the limit decides


@pytest.mark.parametrize("phi", [1e-4, 0.025, 0.5])
@pytest.mark.parametrize("delta", [0.1, 1.0, 10.0])
def test_tau_equals_the_oracle_over_settings(phi, delta):
    rounds = [a_round(t, delta=delta * DELTA) for t in range(4)]
    found = steps(adaptive(budget_s=15.0, control_parameter=phi), rounds)
    assert found[-1] == expected(100, delta=delta * DELTA, phi=phi)


def test_an_aggregation_costs_what_the_round_before_took_beyond_computing():
    """Device 1 has the worst channel but computes fast: its airtime hides behind the others."""
    rounds = [a_round(t, compute_s=UNEVEN, delta=4 * DELTA) for t in range(3)]
    _, second, third = steps(adaptive(budget_s=15.0), rounds)
    mean = [SHARE @ each for each in (RHO, BETA, 4 * DELTA)]
    for before, limit, found in ((1, 10, second), (second, 100, third)):
        b = lasting(before) - 0.013 * before
        assert found == oracle(limit, 0.013, b, 15.0, *mean, 0.01, 0.025)


def test_growth_is_capped():
    calm = [a_round(t, delta=np.zeros(3)) for t in range(5)]
    assert steps(adaptive(budget_s=1e4), calm) == [1, 10, 100, 100, 100]
    assert steps(adaptive(budget_s=1e4, growth=3, search_limit=30), calm) == [1, 3, 9, 27, 30]


def test_tau_falls_at_once():
    wild = 1e4 * DELTA
    rounds = [a_round(t, delta=DELTA if t < 3 else wild) for t in range(4)]
    assert steps(adaptive(budget_s=15.0), rounds)[-1] == expected(100, delta=wild) == 1


def test_old_estimates_are_kept_where_nothing_was_measured():
    """Device 1 did not move in round 2, and nobody did in round 3."""
    gap = np.array([1.0, np.nan, 1.0])
    rounds = [
        *(a_round(0, **UNKNOWN), a_round(1), a_round(2, rho=3 * RHO * gap, beta=BETA * gap)),
        a_round(3, **UNKNOWN),
    ]
    mixed = np.where(np.isnan(gap), RHO, 3 * RHO)
    found = steps(adaptive(budget_s=15.0), rounds)
    assert found[2:] == [expected(100, rho=mixed)] * 2
    assert expected(100, rho=mixed) != expected(100)


def test_devices_that_never_differ_need_no_aggregation():
    """w_k = w in every round: rho and beta are never known, delta is 0."""
    same = [a_round(t, **UNKNOWN, delta=np.zeros(3)) for t in range(3)]
    assert steps(adaptive(budget_s=1e4), same) == [1, 10, 100]


def test_beta_has_the_floor_of_the_source():
    flat = [a_round(t, beta=np.zeros(3), rho=1e9 * RHO) for t in range(4)]
    assert steps(adaptive(budget_s=15.0), flat)[-1] == expected(
        100, rho=1e9 * RHO, beta=np.full(3, 1e-5)
    )


def test_the_learning_rate_is_the_tasks_unless_given():
    rounds = [a_round(t, learning_rate=0.05) for t in range(4)]
    assert steps(adaptive(budget_s=15.0), rounds)[-1] == expected(100, eta=0.05)
    given = adaptive(budget_s=15.0, learning_rate=0.01)
    assert steps(given, rounds)[-1] == expected(100) != expected(100, eta=0.05)
    with pytest.raises(InvalidProblem, match="no learning rate is known"):
        steps(adaptive(budget_s=15.0), [a_round(t, learning_rate=None) for t in range(2)])


def test_the_last_round_is_what_is_left():
    c, b = 0.013, max(airtimes())
    found = steps(adaptive(budget_s=4.0), [a_round(t, delta=0.1 * DELTA) for t in range(40)])
    spent = np.cumsum([tau * c + b for tau in found])
    last = int((spent < 4.0).sum()) - 1
    assert 4.0 - spent[last] < b + c  # not one more step would fit
    assert found[last] < found[last - 1]
    assert set(found[last + 1 :]) == {1}


def test_a_budget_too_small_takes_one_step():
    assert steps(adaptive(budget_s=0.001), [a_round(t) for t in range(3)]) == [1, 1, 1]


# -- what a round costs ---------------------------------------------------------------------------


def pace(policy, round):
    (decision,) = play(policy, [round])
    return Pace.of(decision, round)


def lasting(tau):
    """Seconds of a round of tau steps side by side, by hand."""
    return max(c * tau + air for c, air in zip(UNEVEN, airtimes()))


@pytest.mark.parametrize("tau", [1, 5, 40, 300])
def test_a_round_side_by_side(tau):
    found = pace(Everybody(), a_round(compute_s=4 * UNEVEN, local_steps=4))
    assert found.lasts(tau) == pytest.approx(lasting(tau), rel=1e-12)
    c, b = found.costs(tau)
    assert c == pytest.approx(0.013, rel=1e-12)
    assert b == pytest.approx(lasting(tau) - 0.013 * tau, rel=1e-9)
    for left in (lasting(tau), lasting(tau) + 1e-6, lasting(tau + 1) - 1e-6):
        assert found.fitting(1000, left * (1 + 2e-9)) == tau
    assert found.fitting(tau, 1e9) == tau


def test_a_round_in_turn():
    (decision,) = play(Everybody(), [a_round()])
    found = Pace.of(replace(decision, in_turn=True), a_round())
    assert found.lasts(3) == pytest.approx(3 * 0.013 + sum(airtimes()), rel=1e-12)
    assert found.costs(3) == pytest.approx((0.013, sum(airtimes())), rel=1e-12)


def test_only_the_scheduled_count():
    whole = BITS / (BAND * math.log2(1 + POWER * GAIN[1] / (NOISE * BAND)))
    found = pace(OneByOne(), a_round(1, compute_s=UNEVEN))  # device 1 has the least computing
    assert found.costs(1) == pytest.approx((0.001, whole), rel=1e-12)
    (decision,) = play(Everybody(), [a_round()])
    nobody = Pace.of(replace(decision, scheduled=np.zeros(3, dtype=bool)), a_round())
    assert nobody.costs(5) == (0.0, 0.0)
    assert nobody.fitting(5, 1.0) == 5


def test_packets_of_fixed_length_take_the_uplink_time():
    found = pace(Everybody(), a_round(uplink_s=0.4, modulus_bits=3))
    assert found.costs(2) == pytest.approx((0.013, 0.4), rel=1e-12)
    rated = pace(Everybody(), a_round(uplink_s=0.4, compute_s=UNEVEN))
    assert rated.lasts(2) == pytest.approx(lasting(2), rel=1e-12)


def test_computing_may_be_free():
    found = pace(Everybody(), a_round(compute_s=np.zeros(3)))
    assert found.fitting(100, 10.0) == 100
    assert found.fitting(100, 0.0) == 1


# -- wrapping -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remembers(Everybody):
    """Notes the computing time it is shown, counts what it learns, and draws a number."""

    name: str = "remembers"
    reports = ("age",)
    scheme = ErrorFree()

    def start(self, round, rng):
        return ()

    def decide(self, round, memory, rng):
        decision, _ = super().decide(round, None, rng)
        seen = (round.compute_s.max(), round.local_steps, rng.random())
        return replace(decision, x={"seen": np.array(seen)}), (*memory, "decided")

    def learn(self, feedback, memory):
        return (*memory, "learnt")


@pytest.mark.parametrize(
    "policy", [adaptive(inner=Remembers(), budget_s=15.0), FixedSteps(Remembers(), 7)]
)
def test_the_inner_policy_keeps_its_memory_stream_and_wishes(policy):
    assert isinstance(policy, Policy)
    assert policy.scheme == ErrorFree()
    assert policy.reports[0] == "age"
    assert policy.name.startswith("remembers, ")
    assert replace(policy, label="mine").name == "mine"
    rng, memory = np.random.default_rng(5), policy.start(a_round(), np.random.default_rng(5))
    decision, memory = policy.decide(a_round(), memory, rng)
    memory = policy.learn({"seconds": 0.1}, memory)
    assert getattr(memory, "inner", memory) == ("decided", "learnt")
    assert decision.x["seen"][2] == np.random.default_rng(5).random()


def test_the_inner_policy_sees_the_length_of_the_round():
    (fixed,) = play(FixedSteps(Remembers(), 8), [a_round(local_steps=2)])
    assert fixed.x["seen"][:2] == pytest.approx([0.013 * 4, 8])
    found = play(adaptive(inner=Remembers(), budget_s=15.0), [a_round(t) for t in range(3)])
    assert [d.x["seen"][1] for d in found] == [1, 1, found[1].local_steps]


def test_reports():
    assert adaptive(budget_s=1.0).reports == ("loss_lipschitz", "gradient_lipschitz", "divergence")
    assert FixedSteps(Everybody(), 3).reports == ()
    assert FixedSteps(Everybody(), 3).scheme is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"growth": 0}, "growth = 0 is not a whole number"),
        ({"search_limit": 2.5}, "search_limit = 2.5 is not a whole number"),
        ({"control_parameter": 0.0}, r"control_parameter = 0.0 is not in \(0, inf\)"),
        ({"budget_s": math.nan}, "budget_s = nan"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
    ],
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(InvalidProblem, match=words):
        adaptive(**{"budget_s": 1.0} | changes)


def test_fixed_steps_are_whole():
    with pytest.raises(InvalidProblem, match="local_steps = True is not a whole number"):
        FixedSteps(Everybody(), True)


# -- training -------------------------------------------------------------------------------------


def test_training_takes_the_steps_and_charges_them():
    task, link = make_task(), make_link(fading="none", compute_s=np.full(4, 0.1))
    one = rr.fl.train(task, link, FixedSteps(Everybody(), 1), rounds=2, scheme=ErrorFree())
    six = rr.fl.train(task, link, FixedSteps(Everybody(), 6), rounds=2, scheme=ErrorFree())
    np.testing.assert_allclose(np.diff(six.seconds) - np.diff(one.seconds), 0.5, rtol=1e-9)
    own = rr.fl.train(
        replace(task, local_steps=6),
        link,
        Everybody(),
        rounds=2,
        scheme=ErrorFree(),
    )
    np.testing.assert_allclose(six.loss, own.loss, rtol=1e-12)
    np.testing.assert_allclose(six.seconds, own.seconds, rtol=1e-12)


def the_link():
    """Section 8: .013 s a step, .13 s an aggregation, five devices at an equal split."""
    gain, band, power = 1e-10, 1e6, 0.1
    speed = band / 5 * math.log2(1 + power * gain / (NOISE_PSD_W_PER_HZ * band / 5))
    return Link(
        mean_gain=np.full(5, gain),
        compute_s=np.full(5, 0.013),
        bandwidth_hz=band,
        power_w=power,
        payload_bit=0.13 * speed,
        fading="none",
    )


def learn(partition, policy):
    """The run within R = 15 s."""
    task = Task.digits(5, partition, shards_per_client=1, learner="softmax", learning_rate=0.2)
    return rr.fl.train(task, the_link(), policy, rounds=200, max_seconds=15.0, scheme=ErrorFree())


@pytest.mark.parametrize(
    ("partition", "fixed", "best"),
    [("iid", (1, 10, 100), 100), ("shards", (1, 5, 10, 20, 100), 10)],
)
def test_spec_8_adaptive_is_near_the_best_fixed(partition, fixed, best):
    loss = {tau: learn(partition, FixedSteps(Everybody(), tau)).loss.min() for tau in fixed}
    assert min(loss, key=loss.__getitem__) == best
    assert loss[1] > 1.5 * loss[best]
    run = learn(partition, AdaptiveAggregation(Everybody(), 3e-5, budget_s=15.0))
    assert run.loss.min() <= loss[best] + 0.03
    assert 14.8 < run.seconds[-1] <= 15.0


def test_spec_8_the_control_parameter_must_be_tuned():
    """With the source's phi for another model, tau collapses to 1 on sorted labels."""
    run = learn("shards", AdaptiveAggregation(Everybody(), 0.025, budget_s=15.0))
    assert (run.local_steps[1:] == 1).all()


@pytest.mark.parametrize("margin", [1.0, 0.01])
def test_the_seconds_counted_are_those_spent(margin):
    """A margin makes packets longer than the policy would think; the first round tells it."""
    task = Task.digits(4, "iid", learning_rate=0.2)
    link = Link(np.full(4, 1e-10), np.full(4, 0.01), bandwidth_hz=1e5, fading="none")
    kept = []

    @dataclass(frozen=True)
    class Watched(AdaptiveAggregation):
        def learn(self, feedback, memory):
            kept.append(super().learn(feedback, memory))
            return kept[-1]

    policy = Watched(Everybody(), control_parameter=3e-5, budget_s=20.0)
    history = rr.fl.train(
        *(task, link, policy), rounds=200, max_seconds=20.0, scheme=DigitalPacket(margin)
    )
    assert kept[-1].spent_s == pytest.approx(history.seconds[-1])
    assert 19.0 < history.seconds[-1] <= 20.0  # the last round is fitted into what is left
    slower = math.log2(1 + snr(link)) / math.log2(1 + margin * snr(link))
    assert kept[-1].stretch == pytest.approx(slower, rel=1e-6)


def snr(link):
    return link.power_w * link.mean_gain[0] / (link.noise_psd_w_hz * link.bandwidth_hz / 4)
