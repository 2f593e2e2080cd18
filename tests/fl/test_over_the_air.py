"""Sums over the air: what arrives, at what power, how wrong, and who is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rralloc as rr
from rralloc.errors import InvalidProblem
from rralloc.fl import AirLink, DigitalPacket, OverTheAir, SharedMask, Task
from rralloc.numerics.air import least_error
from rralloc.policy import Decision, Optimised
from rralloc.problems import OTASelection, OTASelectionImperfect

K, N, USES = 5, 3, 20_000
SHARE = np.array([0.3, 0.25, 0.2, 0.15, 0.1])


def link_of(snr_db=10.0, **settings):
    return AirLink.spread(K, **{"antennas": N, "snr_db": snr_db, "seed": 1} | settings)


def decide(round, beam, scheduled=None, weight=SHARE):
    chosen = np.ones(K, dtype=bool) if scheduled is None else np.asarray(scheduled)
    return Decision(
        scheduled=chosen,
        weight=np.where(chosen, weight, 0.0),
        bandwidth_hz=np.where(chosen, 1e6, 0.0),
        power_w=np.ones(K),
        x={"beamformer": beam},
    )


def one_round(link, scheme=None, scheduled=None, updates=None, seed=3):
    """A round with Gaussian updates of several sizes; what was sent and what came of it."""
    rng = np.random.default_rng(seed)
    if updates is None:
        updates = rng.normal(size=(K, USES)) * np.array([1.0, 0.5, 2.0, 0.1, 1.0])[:, None]
    channel = link.gains(np.random.default_rng(seed + 1))
    beam = rng.normal(size=link.antennas) + 1j * rng.normal(size=link.antennas)
    round = link.round(0, channel, updates.shape[1], SHARE, {})
    decision = decide(round, beam, scheduled)
    running = (scheme or OverTheAir()).begin(K, updates.shape[1])
    received = running.transmit(
        updates, decision, round, channel, link, np.random.default_rng([9, seed])
    )
    return updates, channel, beam, decision, received


# -- the sum --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["common", "own"])
def test_without_noise_the_sum_is_exact(scale):
    updates, _, _, decision, received = one_round(link_of(300.0), OverTheAir(scale=scale))
    np.testing.assert_allclose(received.estimate, decision.weight @ updates, atol=1e-12)
    assert received.arrived.all()


@pytest.mark.parametrize("scale", ["common", "own"])
def test_the_error_is_the_noise_that_the_weakest_device_lets_through(scale):
    """ota.md 2.1, 6: noise |m|^2/2 over eta, eta = min P |m^H h|^2/(weight scale)^2."""
    link = link_of(5.0)
    scheduled = np.array([True, True, False, True, True])
    updates, channel, beam, decision, received = one_round(link, OverTheAir(scale=scale), scheduled)
    rms = np.sqrt((updates**2).mean(1))
    nu = rms if scale == "own" else np.full(K, rms[scheduled].max())
    heard = np.abs(beam.conj() @ channel)
    eta = min(heard[k] ** 2 / (SHARE[k] * nu[k]) ** 2 for k in np.flatnonzero(scheduled))
    expected = link.noise_w * np.linalg.norm(beam) ** 2 / 2 / eta
    error = np.mean((received.estimate - decision.weight @ updates) ** 2)
    assert error == pytest.approx(expected, rel=5 * math.sqrt(2 / USES))
    assert not received.arrived[2]
    assert received.energy_j[2] == 0


@pytest.mark.parametrize("control", ["inversion", "least-error"])
def test_nobody_sends_with_more_than_the_allowed_power_and_somebody_with_all_of_it(control):
    link = link_of(0.0)
    _, _, _, _, received = one_round(link, OverTheAir(control, "own"))
    power = received.energy_j * link.bandwidth_hz / USES
    assert power.max() == pytest.approx(1.0, rel=1e-9)
    assert received.seconds == pytest.approx(USES / link.bandwidth_hz)
    assert received.joules == pytest.approx(received.energy_j.sum())


def test_the_direction_of_the_beam_is_all_that_counts():
    link = link_of(300.0)
    rng = np.random.default_rng(0)
    channel, updates = link.gains(rng), rng.normal(size=(K, 50))
    beam = rng.normal(size=N) + 1j * rng.normal(size=N)
    round = link.round(0, channel, 50, SHARE, {})
    sums = [
        OverTheAir().begin(K, 50).transmit(updates, decide(round, b), round, channel, link, rng)
        for b in (beam, 1e-6j * beam)
    ]
    np.testing.assert_allclose(sums[0].estimate, sums[1].estimate, atol=1e-12)
    np.testing.assert_allclose(sums[0].energy_j, sums[1].energy_j, rtol=1e-9)


# -- the scaling of least error -------------------------------------------------------------------


def test_the_scaling_of_least_error_at_the_edges():
    assert least_error(np.zeros(3), np.ones(3), 1.0) == (0.0, 3.0)
    free = least_error(np.array([0.5, 1.0]), np.ones(2), 0.0)
    assert free.scale >= 2.0
    assert free.mse == 0.0
    many = least_error(np.ones((4, 2, 3)) * 1e-150, np.ones(3), np.full((4, 2), 1e-300))
    assert many.mse.shape == (4, 2)
    assert many.mse == pytest.approx(np.full((4, 2), 0.75))  # z c = 3/4: 3/16 + (9/16)
    silent = least_error(np.array([1.0, 2.0]), np.array([0.0, 1.0]), 4.0)
    assert silent.mse == pytest.approx(0.5)  # only the second counts: z = 2/8


def test_least_error_is_what_a_simulation_measures_and_below_inversion():
    problem = OTASelection.random(K=8, N=3, rng=4, noise_power=0.6, transmit_power=2.0)
    problem = problem.replace(aggregation_weight=np.linspace(0.5, 2, 8), mse_target=1e6)
    rng = np.random.default_rng(5)
    m = rng.normal(size=3) + 1j * rng.normal(size=3)
    b, eta, mse = problem.least_error_scaling({"beamformer": m})
    symbols, noise = (
        (rng.normal(size=(n, 200_000)) + 1j * rng.normal(size=(n, 200_000))) / math.sqrt(2)
        for n in (8, 3)
    )
    y = problem.channel * b @ symbols + noise * math.sqrt(0.6)
    estimate = (m / np.linalg.norm(m)).conj() @ y / np.sqrt(eta)
    error = np.mean(np.abs(estimate - problem.aggregation_weight @ symbols) ** 2)
    assert mse == pytest.approx(error, rel=0.01)
    assert np.abs(b).max() ** 2 <= 2.0 * (1 + 1e-12)
    assert problem.served(m).all()
    assert mse < problem.mse({"beamformer": m})


def test_least_error_over_the_air_is_below_inversion():
    errors = {}
    for control in ("inversion", "least-error"):
        updates, _, _, decision, received = one_round(link_of(-10.0), OverTheAir(control, "own"))
        errors[control] = np.mean((received.estimate - decision.weight @ updates) ** 2)
    assert errors["least-error"] < 0.5 * errors["inversion"]


# -- what is not known ----------------------------------------------------------------------------


def error_of(**settings):
    """Mean square error of the sum over many channels, and that of its parts by the formulas."""
    link = link_of(**settings)
    total, least, inverse = 0.0, 0.0, 0.0
    rounds, uses = 400, 200
    for t in range(rounds):
        updates = np.random.default_rng(t).normal(size=(K, uses))
        updates /= np.sqrt((updates**2).mean(1, keepdims=True))
        _, channel, beam, decision, received = one_round(link, updates=updates, seed=t)
        heard = np.abs(beam.conj() @ channel) ** 2 / np.linalg.norm(beam) ** 2
        total += np.mean((received.estimate - decision.weight @ updates) ** 2) / rounds
        least += link.noise_w / 2 * (SHARE**2 / heard).max() / rounds
        inverse += (SHARE**2 * link.mean_gain / heard).sum() / rounds
    return total, least, inverse


def test_phase_errors_cost_what_the_formula_says():
    """Real parts: E (1 - cos psi)^2 for psi ~ U(-D, D) = 3/2 + sin 2D/(4D) - 2 sin D/D."""
    delta = 0.5
    total, least, _ = error_of(snr_db=60.0, phase_error_rad=delta)
    each = 1.5 + math.sin(2 * delta) / (4 * delta) - 2 * math.sin(delta) / delta
    assert total - least == pytest.approx((SHARE**2).sum() * each, rel=0.15)


def test_late_symbols_cost_what_the_formula_says():
    """E 2 (1 - sinc delta), delta ~ U(-D, D), averaged by quadrature."""
    edge = 0.3
    total, least, _ = error_of(snr_db=60.0, timing_offset=edge)
    grid = (np.arange(2000) + 0.5) / 2000 * edge
    each = np.mean(2 * (1 - np.sinc(grid)))
    assert total - least == pytest.approx((SHARE**2).sum() * each, rel=0.15)


def test_an_unknown_part_of_the_channel_costs_what_the_formula_says():
    """E |m^H e|^2/|m^H hhat|^2, half of it in the real part; hhat is drawn, e unknown.

    1/|m^H hhat|^2 has no mean, so both sides are summed over the same draws; what remains is the
    spread of e, of 5 devices over 400 rounds.
    """
    share = 0.02
    total, least, inverse = error_of(snr_db=80.0, csi_error=share)
    assert total - least == pytest.approx(share * inverse / 2, rel=0.25)


def test_the_known_part_has_the_rest_of_the_power():
    link = link_of(csi_error=0.3)
    rng = np.random.default_rng(0)
    power = np.mean([np.abs(link.gains(rng)) ** 2 for _ in range(4000)], axis=(0, 1))
    np.testing.assert_allclose(power, 0.7 * link.mean_gain, rtol=0.08)


# -- in training ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task():
    return Task.digits(K, "shards", learning_rate=0.5, seed=0)


def test_without_noise_and_with_everybody_it_is_gradient_descent(task):
    link = link_of(250.0)
    everybody = Optimised(
        OTASelection, "baseline:all-devices", settings={"mse_target": link.mse_target(100.0)}
    )
    seen = []
    rr.fl.train(task, link, everybody, rounds=6, on_round=lambda t, w: seen.append(w))
    w = np.zeros_like(seen[0])
    from rralloc.fl import Streams, Updates

    w = task.learner.init(Streams(0).rng("init"))
    for step in seen:
        w = w - task.learning_rate * task.share @ Updates(task, w, None).rows
        np.testing.assert_allclose(step, w, atol=1e-9)


def test_the_scheme_comes_with_the_problem_and_tells_who_was_heard(task):
    link = link_of(0.0)
    policy = Optimised(OTASelection, settings={"mse_target": link.mse_target(3.0)})
    history = rr.fl.train(task, link, policy, rounds=8)
    assert history.scheme == "over the air"
    assert 0 < history.arrived.sum() < 8 * K
    np.testing.assert_array_equal(history.arrived, history.scheduled)
    assert history.seconds[-1] == pytest.approx(8 * 650 / 1e6)


def test_scales_of_their_own_follow_the_reported_norms(task):
    link = link_of(0.0)
    policy = Optimised(
        OTASelection,
        settings={"mse_target": link.mse_target(6.0)},
        asks=("gradient_norm",),
        scheme=OverTheAir(scale="own"),
    )
    history = rr.fl.train(task, link, policy, rounds=4)
    assert np.isfinite(history.loss).all()
    assert history.scheme == "over the air, own scales"
    round = link.round(
        0,
        link.gains(np.random.default_rng(0)),
        10,
        SHARE,
        {"gradient_norm": np.array([1.0, 2.0, 0.0, 4.0, 5.0])},
    )
    phi = OTASelection.from_round(round).aggregation_weight
    raw = SHARE * np.array([1.0, 2.0, 1.0, 4.0, 5.0])
    np.testing.assert_allclose(phi, raw / raw.mean())


def test_two_policies_see_the_same_channel(task):
    link = link_of(0.0)
    seen = []

    class Watch(Optimised):
        def decide(self, round, memory, rng):
            seen.append(round.channel)
            return super().decide(round, memory, rng)

    for solver in ("baseline:strongest", "coverage"):
        rr.fl.train(task, link, Watch(OTASelection, solver), rounds=3, seed=4)
    np.testing.assert_array_equal(seen[:3], seen[3:])


def test_nobody_served_leaves_the_model(task):
    link = link_of(0.0)
    policy = Optimised(OTASelection, settings={"mse_target": link.mse_target(-60.0)})
    history = rr.fl.train(task, link, policy, rounds=3)
    assert history.arrived.sum() == 0
    assert np.ptp(history.loss) == 0
    assert history.joules[-1] == 0


def test_weaker_transmitters_are_farther_away():
    power = np.array([1.0, 0.25, 1.0, 1.0, 1.0])
    base = link_of(0.0)
    link = AirLink(
        mean_gain=base.mean_gain,
        compute_s=np.zeros(1),
        power_w=power,
        antennas=N,
        noise_psd_w_hz=1e-6,
    )
    channel = link.gains(np.random.default_rng(0))
    problem = OTASelection.from_round(link.round(0, channel, 10, np.full(K, 0.2), {}))
    np.testing.assert_allclose(problem.channel, channel * np.sqrt(power))
    beam = np.ones(N, dtype=complex)
    round = link.round(0, channel, 100, np.full(K, 0.2), {})
    updates = np.random.default_rng(1).normal(size=(K, 100))
    found = (
        OverTheAir(scale="own")
        .begin(K, 100)
        .transmit(updates, decide(round, beam), round, channel, link, np.random.default_rng(2))
    )
    sent = found.energy_j * link.bandwidth_hz / 100
    assert (sent <= power * (1 + 1e-9)).all()
    assert (sent / power).max() == pytest.approx(1.0)


# -- refusals and edges ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_diverged_updates_go_on_as_they_are(bad):
    updates = np.ones((K, 4))
    updates[1] = bad
    *_, received = one_round(link_of(300.0), updates=updates)
    assert np.isnan(received.estimate).all()
    assert received.arrived.all()
    assert np.isfinite(received.joules)


def test_everybody_scheduled_computes_and_is_charged_for_it():
    """Device 2 is scheduled without weight: it computes, and sends nothing."""
    link = AirLink(
        mean_gain=np.ones(K),
        compute_s=np.array([0.1, 0.2, 0.5, 0.3, 0.4]),
        compute_j=2.0,
        antennas=N,
        power_w=1.0,
        noise_psd_w_hz=1e-6,
    )
    channel = link.gains(np.random.default_rng(0))
    round = link.round(0, channel, 100, SHARE, {})
    assert not round.everybody_computes  # what the link states costs nobody anything
    weight = np.where(np.arange(K) == 2, 0.0, SHARE)
    chosen = np.array([True, True, True, True, False])
    decision = decide(round, np.ones(N, dtype=complex), chosen, weight)
    updates = np.random.default_rng(1).normal(size=(K, 100))
    args = (updates, decision, round, channel, link, np.random.default_rng(2))
    received = OverTheAir().begin(K, 100).transmit(*args)
    assert received.arrived.tolist() == [True, True, False, True, False]
    assert received.joules == pytest.approx(4 * 2.0 + received.energy_j.sum())
    assert received.seconds == pytest.approx(0.3 + 100 / link.bandwidth_hz)
    everybody = link.round(0, channel, 100, SHARE, {}, everybody_computes=True)
    args = (updates, decision, everybody, channel, link, np.random.default_rng(2))
    received = OverTheAir().begin(K, 100).transmit(*args)
    assert received.joules == pytest.approx(5 * 2.0 + received.energy_j.sum())
    assert received.seconds == pytest.approx(0.5 + 100 / link.bandwidth_hz)


def test_a_policy_may_allow_less_power_than_a_device_has():
    link = link_of(0.0)
    channel = link.gains(np.random.default_rng(0))
    round = link.round(0, channel, 100, SHARE, {})
    decision = decide(round, np.ones(N, dtype=complex))
    careful = Decision(
        decision.scheduled, decision.weight, decision.bandwidth_hz, np.full(K, 0.01), x=decision.x
    )
    updates = np.random.default_rng(1).normal(size=(K, 100))
    args = (updates, careful, round, channel, link, np.random.default_rng(2))
    for scheme in (OverTheAir(scale="own"), SharedMask(1.0)):
        received = scheme.begin(K, 100).transmit(*args)
        power = received.energy_j * link.bandwidth_hz / 100
        assert power.max() == pytest.approx(0.01)


def test_who_has_nothing_to_say_was_heard():
    updates = np.random.default_rng(1).normal(size=(K, 100))
    updates[3] = 0
    *_, received = one_round(link_of(20.0), OverTheAir(scale="own"), updates=updates)
    assert received.arrived.all()
    assert received.energy_j[3] == 0


def test_a_beam_of_another_shape_is_refused():
    link = link_of()
    channel = link.gains(np.random.default_rng(0))
    round = link.round(0, channel, 4, SHARE, {})
    args = (np.ones((K, 4)), decide(round, np.ones(N + 1)), round, channel, link)
    with pytest.raises(InvalidProblem, match=r"shape \(4,\); need \(3,\)"):
        OverTheAir().begin(K, 4).transmit(*args, np.random.default_rng(0))


def test_any_whole_number_of_antennas():
    assert link_of(antennas=np.int64(4)).gains(np.random.default_rng(0)).shape == (4, K)
    with pytest.raises(InvalidProblem, match="antennas"):
        link_of(antennas=True)


def test_zero_updates_send_nothing():
    *_, received = one_round(link_of(), updates=np.zeros((K, 4)))
    np.testing.assert_array_equal(received.estimate, 0)
    assert received.joules == 0


def test_one_antenna_needs_no_beam_and_several_do():
    for antennas in (1, 2):
        link = link_of(300.0, antennas=antennas)
        channel = link.gains(np.random.default_rng(0))
        round = link.round(0, channel, 4, SHARE, {})
        plain = decide(round, None)
        plain = Decision(plain.scheduled, plain.weight, plain.bandwidth_hz, plain.power_w)
        send = OverTheAir().begin(K, 4).transmit
        args = (np.ones((K, 4)), plain, round, channel, link, np.random.default_rng(1))
        if antennas == 1:
            np.testing.assert_allclose(send(*args).estimate, 1.0)
        else:
            with pytest.raises(InvalidProblem, match="2 antennas and no beamformer"):
                send(*args)


BAD = [
    ({"antennas": 0}, "antennas"),
    ({"antennas": 2.5}, "antennas"),
    ({"csi_error": 1.0}, "csi_error"),
    ({"phase_error_rad": 4.0}, "phase_error_rad"),
    ({"timing_offset": -0.1}, "timing_offset"),
    ({"fading": "nakagami"}, "fading"),
    ({"csi": "mean"}, "state csi_error"),
]


@pytest.mark.parametrize(("settings", "words"), BAD)
def test_bad_links_are_refused(settings, words):
    with pytest.raises(InvalidProblem, match=words):
        link_of(**settings)


def test_bad_schemes_and_wrong_links_are_refused(task):
    with pytest.raises(InvalidProblem, match="power_control"):
        OverTheAir(power_control="most")
    with pytest.raises(InvalidProblem, match="'digital packets' is not for an AirLink"):
        rr.fl.train(task, link_of(), Optimised(OTASelection, scheme=DigitalPacket()), rounds=1)
    from toys import make_link

    with pytest.raises(InvalidProblem, match="no complex channel"):
        OTASelection.from_round(make_link(0).round(0, np.ones(4), 10, np.full(4, 0.25), {}))


# -- robust selection in training ------------------------------------------------------------------


def test_the_errors_of_the_link_reach_the_problem_and_cost_devices(task):
    link = link_of(10.0, csi_error=0.01, phase_error_rad=0.2, timing_offset=0.05)
    round = link.round(0, link.gains(np.random.default_rng(0)), 10, SHARE, {})
    problem = OTASelectionImperfect.from_round(round)
    np.testing.assert_allclose(problem.csi_error, 0.01 * link.mean_gain)
    np.testing.assert_array_equal(problem.phase_error_rad, 0.2)
    np.testing.assert_array_equal(problem.timing_offset, 0.05)
    heard = {}
    for kind in (OTASelection, OTASelectionImperfect):
        policy = Optimised(kind, settings={"mse_target": link.mse_target(12.0)})
        heard[kind] = rr.fl.train(task, link, policy, rounds=5, seed=1).arrived.sum()
    assert 0 < heard[OTASelectionImperfect] < heard[OTASelection]
