"""The sign-modulus scheme in training: limits, rivals as special cases, costs, what is reported."""

import pickle

import numpy as np
import pytest
from scheme_toys import REPORTS, SHARE, allocate, link_of, round_of
from toys import Everybody, decision, make_link, make_task

import rralloc as rr
from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl import DigitalPacket, ErrorFree, Link, SignModulus, TopGradient
from rralloc.fl.schemes import State, plan

REFERENCES = ["none", "stale", "innovation"]


def study_link(seed=0, load=1.0, **settings):
    return Link.loaded(4, load=load, weights=make_task().learner.size, seed=seed, **settings)


class Shares(Everybody):
    """A fixed allocation for everybody."""

    def __init__(self, **shares):
        self.shares = shares

    def decide(self, round, memory, rng):
        each = np.ones(round.devices)
        return decision(round, **{n: v * each for n, v in self.shares.items()}), memory


def proportional(weights, bits=3):
    return weights / (weights * (1 + bits) + 64)


def same(one, two):
    for name in ("accuracy", "loss", "seconds", "arrived", "scheduled"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


# -- limits and special cases ---------------------------------------------------------------------


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("estimator", ["plain", "sign_unbiased", "unbiased"])
def test_a_single_packet_is_one_point_of_the_two_packets(estimator, reference):
    """Common fading, alpha = theta_s: to the last bit (2 rounds out of 3 lose something)."""
    task, link = make_task(learning_rate=0.2), study_link(load=2.0)
    theta = proportional(task.learner.size)
    two = SignModulus(estimator, reference=reference, rescale=reference == "innovation")
    one = SignModulus(
        estimator, reference=reference, rescale=reference == "innovation", packets="single"
    )
    split = Shares(bandwidth_share=0.25, sign_power_share=theta, sign_band_share=theta)
    runs = [
        rr.fl.train(task, link, policy, rounds=25, scheme=scheme)
        for policy, scheme in ((split, two), (Shares(bandwidth_share=0.25), one))
    ]
    assert 0 < runs[0].arrived.sum() < runs[0].scheduled.sum()
    if estimator == "plain":
        same(*runs)
    else:  # p is 1 up to a rounding error in phi
        np.testing.assert_allclose(runs[0].loss, runs[1].loss, rtol=1e-9)
        np.testing.assert_array_equal(runs[0].arrived, runs[1].arrived)
    np.testing.assert_allclose(runs[0].bits, runs[1].bits, rtol=1e-12)
    np.testing.assert_allclose(runs[0].joules, runs[1].joules, rtol=1e-12)


def test_the_default_split_is_that_point():
    task, link = make_task(), study_link(load=2.0)
    runs = [
        rr.fl.train(task, link, Everybody(), rounds=10, scheme=SignModulus("plain", packets=p))
        for p in ("sign-modulus", "single")
    ]
    same(*runs)


@pytest.mark.parametrize("reference", REFERENCES)
def test_signs_only_is_the_one_bit_scheme(reference):
    task, link = make_task(learning_rate=0.2), study_link(load=4.0)
    lone = Shares(bandwidth_share=0.25, sign_power_share=1.0, sign_band_share=1.0)
    runs = [
        rr.fl.train(
            task, link, policy, rounds=20, scheme=SignModulus(packets=p, reference=reference)
        )
        for policy, p in ((lone, "sign-modulus"), (Everybody(), "one-bit"))
    ]
    same(*runs)
    np.testing.assert_array_equal(runs[0].bits, runs[1].bits)
    assert 0 < runs[0].arrived.sum() < runs[0].scheduled.sum()


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("packets", ["sign-modulus", "single"])
@pytest.mark.parametrize("estimator", ["plain", "unbiased", "optimal_scaling"])
def test_with_a_perfect_channel_and_many_bits_it_is_gradient_descent(estimator, packets, reference):
    task = make_task()
    link = study_link(load=1e-3, snr_db=(150.0, 160.0))
    scheme = SignModulus(estimator, reference=reference, packets=packets, bits=30)
    found = rr.fl.train(task, link, Everybody(), rounds=15, scheme=scheme)
    ideal = rr.fl.train(task, make_link(), Everybody(), rounds=15, scheme=ErrorFree())
    assert (found.arrived == 15).all()
    np.testing.assert_allclose(found.loss, ideal.loss, rtol=1e-6)


@pytest.mark.parametrize("fading", ["common", "independent"])
def test_schemes_with_one_seed_see_the_same_fades(fading):
    """The same sign packets arrive whatever the server does with them."""
    task, link = make_task(), study_link(load=3.0)
    split = Shares(bandwidth_share=0.25, sign_power_share=0.5, sign_band_share=0.3)
    settings = [
        {"estimator": "plain"},
        {"estimator": "unbiased", "compensation": "ema"},
        {"reference": "innovation"},
        {"reference": "stale", "compensation": "constant"},
    ]
    runs = [
        rr.fl.train(task, link, split, rounds=15, scheme=SignModulus(**s, fading=fading), seed=4)
        for s in settings
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.arrived, runs[0].arrived)
        np.testing.assert_array_equal(run.seconds - run.seconds[0], runs[0].seconds)
    assert 0 < runs[0].arrived.sum() < 60


def test_a_run_starts_without_memory_and_repeats():
    task, link = make_task(), study_link(load=3.0)
    scheme = SignModulus(reference="innovation")
    runs = [rr.fl.train(task, link, Everybody(), rounds=10, scheme=scheme) for _ in range(2)]
    same(*runs)


def test_a_link_without_gain_is_silent():
    scheme = SignModulus()
    link = link_of([0.0, 1.0, 1.0, 1.0])
    running = scheme.begin(4, 6)
    g = np.ones((4, 6))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        received = running.transmit(
            g, allocate(round_of(scheme, link)), round_of(scheme, link), link.gains(rng), link, rng
        )
        assert not received.arrived[0]
        assert np.isfinite(received.estimate).all()


# -- what a round costs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packets", "bits", "power"),
    [
        ("sign-modulus", [6, 6 + 18 + 64, 6, 0], [0.5, 1.0, 1.0, 0.0]),
        ("single", [88, 88, 88, 0], [1.0, 1.0, 1.0, 0.0]),
        ("one-bit", [6, 6, 6, 0], [1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_bits_joules_and_seconds_by_hand(packets, bits, power):
    """theta = 1: the modulus packet's power is not radiated; alpha = 1: signs; beta = 0: off."""
    scheme = SignModulus(packets=packets)
    link = link_of([5.0] * 4, compute_s=np.array([0.1, 0.2, 0.3, 0.9]), compute_j=0.25)
    round = round_of(scheme, link)
    choice = allocate(
        round,
        np.array([0.4, 0.3, 0.3, 0.0]),
        np.array([0.5, 0.5, 1.0, 0.5]),
        np.array([1.0, 0.4, 0.4, 0.4]),
    )
    received = scheme.begin(4, 6).transmit(
        np.ones((4, 6)), choice, round, link.mean_gain, link, np.random.default_rng(0)
    )
    assert received.bits == sum(bits)
    assert received.joules == pytest.approx(0.1 * link.uplink_s * sum(power) + 4 * 0.25)
    assert received.seconds == pytest.approx(0.9 + link.uplink_s)


@pytest.mark.parametrize(
    ("settings", "everybody"),
    [
        ({}, False),
        ({"reference": "innovation"}, False),
        ({"reference": "innovation", "rescale": True}, True),
        ({"reference": "stale"}, True),
    ],
)
def test_who_must_report_computes(settings, everybody):
    """Device 3 needs 9 s to compute; it is not scheduled."""

    class First(Everybody):
        def decide(self, round, memory, rng):
            some = decision(round, bandwidth_share=np.array([1.0, 0.0, 0.0, 0.0]))
            some.scheduled[1:] = False
            return some, memory

    link = study_link(compute_s=(1.0, 1.0))
    slow = Link(**{**vars(link), "compute_s": np.array([1.0, 1.0, 1.0, 9.0]), "compute_j": 2.0})
    run = rr.fl.train(make_task(), slow, First(), rounds=1, scheme=SignModulus(**settings))
    assert run.seconds[1] == pytest.approx((9.0 if everybody else 1.0) + link.uplink_s)
    assert run.joules[1] == pytest.approx((8.0 if everybody else 2.0) + 0.1 * link.uplink_s)


# -- what is reported -----------------------------------------------------------------------------


class Listener(Everybody):
    reports = (*REPORTS, "gradient_norm")

    def __init__(self):
        self.rounds = []

    def decide(self, round, memory, rng):
        self.rounds.append(round)
        return super().decide(round, memory, rng)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_policy_is_told_what_it_asks_for(reference):
    policy, task, link = Listener(), make_task(), study_link(load=3.0)
    scheme = SignModulus(reference=reference, bits=4)
    run = rr.fl.train(task, link, policy, rounds=8, scheme=scheme)
    assert run.rounds == 8
    for round in policy.rounds:
        assert set(round.statistics) == set(policy.reports)
        G, E, _, H = (round.statistics[name] for name in REPORTS)
        assert (E <= G).all()
        if reference != "stale":
            np.testing.assert_allclose(E, G - H, rtol=1e-12)
        assert round.everybody_computes
        assert (round.uplink_s, round.weights) == (link.uplink_s, task.learner.size)
        assert (round.modulus_bits, round.header_bits) == (4, 64)
        np.testing.assert_array_equal(round.path_gain, link.mean_gain)
    norm = policy.rounds[-1].statistics["gradient_norm"]
    energy = policy.rounds[-1].statistics["gradient_energy"]
    if reference == "none":
        np.testing.assert_allclose(energy, norm**2, rtol=1e-12)
    else:
        assert not np.allclose(energy, norm**2)


def test_other_schemes_report_the_energy_of_the_gradient():
    class Asks(Everybody):
        reports = ("gradient_energy",)

        def decide(self, round, memory, rng):
            assert (round.statistics["gradient_energy"] > 0).all()
            assert round.modulus_bits is None
            assert round.uplink_s is None
            return super().decide(round, memory, rng)

    rr.fl.train(make_task(), make_link(), Asks(), rounds=2, scheme=DigitalPacket())


def test_an_unknown_statistic_is_named():
    class Asks(Everybody):
        reports = ("compensation_errors",)

    with pytest.raises(UnknownName, match="Did you mean 'compensation_error'"):
        rr.fl.train(make_task(), study_link(), Asks(), rounds=1, scheme=SignModulus())
    with pytest.raises(UnknownName, match="compensation_error"):
        rr.fl.train(make_task(), make_link(), Asks(), rounds=1, scheme=DigitalPacket())


def test_reports_cannot_reach_back():
    class Vandal(Listener):
        def decide(self, round, memory, rng):
            out = super().decide(round, memory, rng)
            for name in REPORTS:
                round.statistics[name][:] = 0.0
            return out

    scheme, link = SignModulus(reference="innovation"), study_link(load=3.0)
    runs = [
        rr.fl.train(make_task(), link, policy, rounds=6, scheme=scheme)
        for policy in (Listener(), Vandal())
    ]
    same(*runs)


# -- settings -------------------------------------------------------------------------------------


def test_its_repr_tells_all_settings_and_it_can_be_sent_away():
    scheme = SignModulus(reference="innovation", bits=2)
    assert scheme.estimator == "plain"
    assert "estimator='plain'" in repr(scheme)
    assert "bits=2" in repr(scheme)
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    assert SignModulus().estimator == "optimal_scaling"
    assert SignModulus(packets="single").estimator == "plain"
    assert SignModulus(packets="one-bit").estimator == "optimal_scaling"
    names = {
        SignModulus(reference=r, packets=p).name
        for r in REFERENCES
        for p in ("sign-modulus", "single", "one-bit")
    }
    assert len(names) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"estimator": "best"},
        {"compensation": "memories"},
        {"reference": "old"},
        {"fading": "rayleigh"},
        {"packets": "two"},
        {"bits": 0},
        {"bits": 2.5},
        {"variance_weight": -1.0},
        {"variance_weight": np.nan},
        {"rescale": True},
        {"rescale": True, "reference": "stale"},
        {"packets": "one-bit", "compensation": "zero"},
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises((UnknownName, InvalidProblem)):
        SignModulus(**wrong)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"bandwidth_share": 0.3}, "sum to 1.2"),
        ({"bandwidth_share": -0.1}, "bandwidth share of device 0 is -0.1"),
        ({"sign_power_share": 1.1}, "sign power share of device 0"),
        ({"sign_band_share": np.nan}, "sign band share of device 0"),
    ],
)
def test_an_allocation_that_cannot_be_is_refused(shares, words):
    with pytest.raises(InvalidProblem, match=words):
        rr.fl.train(make_task(), study_link(), Shares(**shares), rounds=1, scheme=SignModulus())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"csi": "full"}, "csi='mean'"),
        ({"fading": "none"}, "fading='rayleigh'"),
        ({"uplink_s": None}, "uplink_s"),
    ],
)
def test_a_link_that_does_not_fit_is_refused(change, words):
    link = Link(**{**vars(study_link()), **change})
    with pytest.raises(InvalidProblem, match=words):
        rr.fl.train(make_task(), link, Everybody(), rounds=1, scheme=SignModulus())


def test_a_decision_without_shares_splits_its_own_band():
    scheme, link = SignModulus(), link_of([5.0] * 4)
    round = round_of(scheme, link)
    found = plan("sign-modulus", 6, 3, decision(round), round)
    theta = proportional(6)
    told = plan("sign-modulus", 6, 3, allocate(round, 0.25, theta, theta), round)
    np.testing.assert_array_equal(found.sign_fade, told.sign_fade)
    np.testing.assert_array_equal(found.modulus_fade, told.modulus_fade)


# -- link and scheduling --------------------------------------------------------------------------


def test_the_loaded_link():
    link = Link.loaded(50, load=4.5, weights=2410, modulus_bits=2, header_bits=32, seed=3)
    assert 50 * (2410 * 3 + 32) / (link.bandwidth_hz * link.uplink_s) == pytest.approx(4.5)
    snr = 0.1 * link.mean_gain / (link.noise_psd_w_hz * link.bandwidth_hz / 50)
    db = 10 * np.log10(snr)
    assert ((db >= 0) & (db <= 15)).all()
    assert db.min() < 2
    assert db.max() > 13
    assert link.csi == "mean"
    again = Link.loaded(50, load=9.0, weights=2410, seed=3)
    np.testing.assert_array_equal(again.mean_gain, link.mean_gain)
    for wrong in ({"load": 0.0}, {"load": np.inf}, {"weights": 0}):
        with pytest.raises(InvalidProblem):
            Link.loaded(5, **{"load": 1.0, "weights": 10} | wrong)


def test_the_top_gradients_share_the_band():
    scheme, link = SignModulus(), link_of([5.0] * 4)
    energy = {"gradient_energy": np.array([1.0, 3.0, 0.0, 3.0])}
    round = link.round(0, link.mean_gain, 6, SHARE, energy)
    choice, _ = TopGradient(2).decide(round, None, np.random.default_rng(0))
    assert choice.scheduled.tolist() == [False, True, False, True]
    np.testing.assert_allclose(choice.weight, [0, 0.75, 0, 0.25])
    np.testing.assert_allclose(choice.x["bandwidth_share"], [0, 0.5, 0, 0.5])
    everybody, _ = TopGradient(9).decide(round, None, np.random.default_rng(0))
    np.testing.assert_allclose(everybody.weight, SHARE)
    with pytest.raises(InvalidProblem, match="count"):
        TopGradient(0)
    policy = TopGradient(2, scheme=SignModulus(packets="single"))
    run = rr.fl.train(make_task(), study_link(), policy, rounds=12)
    assert run.scheme == "single, plain, memory"
    assert run.scheduled.sum() == 24
    assert scheme.begin(4, 6).statistics == REPORTS


# -- clipped moduli --------------------------------------------------------------------------------


def test_a_clip_above_all_moduli_changes_nothing():
    task, link = make_task(learning_rate=0.2), study_link(load=2.0)
    runs = [
        rr.fl.train(
            task,
            link,
            Everybody(),
            rounds=10,
            scheme=SignModulus(reference="innovation", clip=clip),
        )
        for clip in (None, 1e9)
    ]
    same(*runs)
    assert runs[0].scheme != runs[1].scheme


def test_the_error_of_clipped_moduli_is_the_one_that_is_reported():
    """D = E ||v - |u| ||^2 with v the decoded moduli, by Monte Carlo within 4 sigma."""
    rng = np.random.default_rng(0)
    updates = rng.standard_t(3, size=(3, 40))
    scheme = SignModulus("plain", clip=1.5, bits=2)
    side = State.begin(3, 40).device
    message = scheme.prepare(side, updates)
    modulus = np.abs(updates)
    top = 1.5 * modulus.mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(message.modulus, np.minimum(modulus, top))
    everything = np.ones(3, dtype=bool)
    draws = np.array(
        [
            np.sum((scheme.deliver(message, everything, everything, rng).modulus - modulus) ** 2, 1)
            for _ in range(4000)
        ]
    )
    reported = message.reports.statistics.quantization_error
    assert (np.abs(draws.mean(0) - reported) < 4 * draws.std(0) / np.sqrt(4000)).all()
    plain = SignModulus("plain", bits=2).prepare(side, updates).reports.statistics
    assert (message.reports.statistics.compensation_error == plain.compensation_error).all()


def test_what_is_cut_off_comes_back_with_innovations():
    """A perfect channel and a constant update: the reference converges to it, tails included."""
    updates = np.random.default_rng(1).standard_t(3, size=(4, 6))
    scheme = SignModulus(reference="innovation", clip=1.0, bits=16)
    link = link_of(np.full(4, 1e12))
    session, gaps = scheme.begin(4, 6), []
    for index in range(40):
        round = round_of(scheme, link, index=index)
        received = session.transmit(
            updates.copy(), allocate(round), round, link.mean_gain, link, np.random.default_rng(9)
        )
        gaps.append(np.abs(received.estimate - SHARE @ updates).max())
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-3 * gaps[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"clip": 0.0}, r"not in \(0, inf\)"), ({"clip": 2.0, "reference": "none"}, "plain")],
)
def test_clips_without_meaning_are_refused(wrong, words):
    with pytest.raises(InvalidProblem, match=words):
        SignModulus(**wrong)
