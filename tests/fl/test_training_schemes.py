"""Schemes: what arrives, what the server makes of it, and that it is unbiased."""

import numpy as np
import pytest
from oracles import feel
from toys import Everybody, Tape, decision, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import DigitalPacket, ErrorFree, Streams
from rralloc.policy import Optimised
from rralloc.problems import FEELScheduling, MinMaxLatency

SHARE = np.array([0.4, 0.3, 0.2, 0.1])


def a_round(link, gain, share=SHARE):
    return link.round(0, gain, 10, share, {"gradient_norm": np.array([1.0, 3.0, 2.0, 5.0])})


@pytest.mark.parametrize("fading", ["none", "rayleigh", "rician", "nakagami"])
def test_with_full_knowledge_packets_are_error_free(fading):
    link = make_link(0, fading=fading, csi="full", shape=2.0)
    curves = []
    for scheme in (ErrorFree(), DigitalPacket()):
        history = rr.fl.train(make_task(), link, Optimised(MinMaxLatency), rounds=5, scheme=scheme)
        curves.append([history.accuracy, history.loss, history.seconds, history.joules])
        np.testing.assert_array_equal(history.arrived, history.scheduled)
    for one, two in zip(*curves, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_margin_below_one_is_slower_and_never_lost_with_full_knowledge():
    link = make_link(0)
    runs = [
        rr.fl.train(make_task(), link, Everybody(), rounds=5, scheme=DigitalPacket(margin=m))
        for m in (1.0, 0.5)
    ]
    np.testing.assert_array_equal(runs[0].accuracy, runs[1].accuracy)
    assert (np.diff(runs[1].seconds) > np.diff(runs[0].seconds)).all()
    greedy = rr.fl.train(make_task(), link, Everybody(), rounds=3, scheme=DigitalPacket(margin=1.1))
    assert greedy.arrived.sum() == 0
    assert np.ptp(greedy.loss) == 0


LAWS = [
    ("rayleigh", 1.0, 0.5, 1 - np.exp(-0.5)),
    ("rayleigh", 1.0, 0.1, 1 - np.exp(-0.1)),
    ("nakagami", 2.0, 0.5, 1 - np.exp(-1.0) * 2.0),
    ("none", 1.0, 1.0, 0.0),
    ("none", 1.0, 1.01, 1.0),
]


@pytest.mark.parametrize(("fading", "shape", "margin", "loss"), LAWS)
def test_losses_follow_the_law_and_compensation_is_unbiased(fading, shape, margin, loss):
    """4 x 6000 packets; 5 standard errors."""
    link = make_link(0, csi="mean", fading=fading, shape=shape)
    assert link.loss_probability(margin) == pytest.approx(loss, abs=1e-12)
    scheme, trials = DigitalPacket(margin=margin), 6000
    updates = np.random.default_rng(1).normal(size=(4, 3))
    arrived, estimates = np.zeros((trials, 4)), np.zeros((trials, 3))
    rng = np.random.default_rng(2)
    for t in range(trials):
        gain = link.gains(rng)
        round = a_round(link, gain)
        received = scheme.transmit(updates, decision(round), round, gain, link, rng)
        arrived[t], estimates[t] = received.arrived, received.estimate
    spread = np.sqrt(loss * (1 - loss) / (4 * trials))
    assert abs(1 - arrived.mean() - loss) <= 5 * spread
    if loss < 1:
        error = estimates.std(0, ddof=1) / np.sqrt(trials)
        assert (np.abs(estimates.mean(0) - SHARE @ updates) <= 5 * error + 1e-12).all()
    if 0 < loss < 1:
        plain = DigitalPacket(margin=margin, compensate=False)
        short = [
            plain.transmit(updates, decision(r), r, g, link, rng).estimate
            for g in (link.gains(rng) for _ in range(trials))
            for r in [a_round(link, g)]
        ]
        scaled = (1 - loss) * (SHARE @ updates)
        assert (np.abs(np.mean(short, 0) - scaled) <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("scheme", [ErrorFree(), DigitalPacket()])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_the_server_uses_only_what_arrived(scheme, poison):
    link = make_link(0, csi="mean")
    rng = np.random.default_rng(0)
    for _ in range(20):
        gain = link.gains(rng)
        round = a_round(link, gain)
        some = rng.random(4) < 0.5
        chosen = Chosen(decision(round), some)
        clean = np.random.default_rng(1).normal(size=(4, 6))
        expected = scheme.transmit(clean, chosen, round, gain, link, rng)
        poisoned = np.where(expected.arrived[:, None], clean, poison)
        found = scheme.transmit(poisoned, chosen, round, gain, link, rng)
        assert np.isfinite(found.estimate).all()
        np.testing.assert_array_equal(found.estimate, expected.estimate)
        assert not (found.arrived & ~some).any()


def Chosen(base, some):
    """The same decision for some devices only."""
    import dataclasses

    return dataclasses.replace(base, scheduled=some)


def test_a_round_in_which_nothing_arrives_changes_nothing():
    history = rr.fl.train(
        make_task(), make_link(fading="none", csi="mean"), Everybody(), rounds=3,
        scheme=DigitalPacket(margin=2.0),
    )  # fmt: skip
    assert history.arrived.sum() == 0
    assert history.scheduled.tolist() == [3, 3, 3, 3]
    assert np.ptp(history.loss) == 0
    assert (np.diff(history.seconds) > 0).all()


# -- one device a round ---------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [1, 2, 3, 4])
def test_weights_are_those_of_the_unbiased_estimator(draws):
    """Drawn order by order against the enumeration of the oracle."""
    link = make_link(0)
    round = a_round(link, link.mean_gain)
    problem = FEELScheduling.from_round(round).replace(draws=draws)
    p = rr.solve(problem).probability
    mean, _ = feel.mean_and_mse(p, SHARE, np.eye(4), draws)
    np.testing.assert_allclose(mean, SHARE, rtol=1e-12)
    for seed in range(30):
        order = problem.draw(p, np.random.default_rng(seed))
        found = problem.to_decision({"probability": p}, round, np.random.default_rng(seed))
        np.testing.assert_allclose(
            found.weight, feel.estimate(order, p, SHARE, np.eye(4)), rtol=1e-12
        )
        assert found.scheduled.sum() == len(order) == draws
        assert found.in_turn


@pytest.mark.parametrize("draws", [1, 2])
def test_the_estimate_is_unbiased_over_the_policy_stream(draws):
    link, trials = make_link(0), 4000
    round = a_round(link, link.mean_gain)
    policy = Optimised(FEELScheduling, settings={"draws": draws})
    problem = FEELScheduling.from_round(round).replace(draws=draws)
    x = rr.solve(problem).x
    streams = Streams(3)
    weights = np.array(
        [problem.to_decision(x, round, streams.rng("policy", t)).weight for t in range(trials)]
    )
    error = weights.std(0, ddof=1) / np.sqrt(trials)
    assert (np.abs(weights.mean(0) - SHARE) <= 5 * error).all()
    decided, _ = policy.decide(round, None, streams.rng("policy", 17))
    np.testing.assert_array_equal(decided.weight, weights[17])


def test_draws_follow_the_law():
    problem = FEELScheduling(importance=[1.0, 2.0, 3.0, 4.0], latency_s=1.0, tradeoff=1.0)
    p = rr.solve(problem).probability
    np.testing.assert_allclose(p, [0.1, 0.2, 0.3, 0.4], rtol=1e-12)
    rng, trials = np.random.default_rng(0), 5000
    hits = np.bincount([problem.draw(p, rng)[0] for _ in range(trials)], minlength=4)
    assert (np.abs(hits / trials - p) <= 5 * np.sqrt(p * (1 - p) / trials)).all()


# -- allocation against allocation ----------------------------------------------------------------


def test_better_bandwidth_saves_seconds_and_nothing_else():
    task, link = make_task(), make_link(compute_s=np.array([0.1, 0.5, 0.2, 0.3]))
    best, equal = (
        rr.fl.train(task, link, policy, rounds=8)
        for policy in (
            Optimised(MinMaxLatency),
            Optimised(MinMaxLatency, "baseline:equal-split"),
        )
    )
    np.testing.assert_array_equal(best.accuracy, equal.accuracy)
    np.testing.assert_array_equal(best.loss, equal.loss)
    assert (np.diff(best.seconds) < np.diff(equal.seconds)).all()


def test_the_optimised_round_takes_the_optimal_time():
    tape, link = Tape(DigitalPacket()), make_link()
    rr.fl.train(make_task(), link, Optimised(MinMaxLatency), rounds=3, scheme=tape)
    for _, _, _, received, round in tape.seen:
        best = rr.solve(MinMaxLatency.from_round(round))
        assert received.seconds == pytest.approx(best.objective, rel=1e-10)


def test_a_scheme_may_come_from_the_policy():
    policy = Optimised(MinMaxLatency, scheme=ErrorFree())
    history = rr.fl.train(make_task(), make_link(csi="mean"), policy, rounds=3)
    assert history.scheme == "error-free"
    np.testing.assert_array_equal(history.arrived, history.scheduled)
    other = rr.fl.train(
        make_task(), make_link(csi="mean"), policy, rounds=3, scheme=DigitalPacket()
    )
    assert other.scheme == "digital packets"


def test_a_device_without_rate_is_named():
    link = make_link(0, mean_gain=[1e-11, 0.0, 1e-11, 1e-11])
    with pytest.raises(InvalidProblem, match="round 0: device 1 is scheduled but has no rate"):
        rr.fl.train(make_task(), link, Everybody(), rounds=1)


@pytest.mark.parametrize("margin", [0.0, -1.0, np.nan, np.inf])
def test_a_margin_must_be_positive(margin):
    with pytest.raises(InvalidProblem, match=r"DigitalPacket\.margin"):
        DigitalPacket(margin=margin)
