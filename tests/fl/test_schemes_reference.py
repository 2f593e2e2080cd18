"""What both sides remember: in step over lossy rounds, blind to what was lost, contracting."""

import dataclasses
import itertools

import numpy as np
import pytest
from scheme_toys import (
    SHARE,
    Peeking,
    PeekingAtSigns,
    allocate,
    link_of,
    peeks,
    remembering,
    round_of,
    watch,
)

from rralloc.fl.schemes import SignModulus, State, plan

REFERENCES = [
    {"reference": "none"},
    {"reference": "stale"},
    {"reference": "innovation"},
    {"reference": "innovation", "rescale": True},
]
KINDS = ["zero", "constant", "global", "ema", "memory", "best"]
PACKETS = [*itertools.product(["sign-modulus", "single"], KINDS)]
PACKETS += [("one-bit", kind) for kind in KINDS[1:]]
SNR = [1.0, 2.0, 4.0, 15.0]


def rounds(scheme, count=80, seed=0, weights=6):
    """States, gradients and receipts of a run with changing gradients and allocations."""
    link = link_of(SNR, weights=weights)
    rng = np.random.default_rng(seed)
    state, g = State.begin(4, weights), rng.normal(size=(4, weights))
    for t in range(count):
        g = 0.9 * g + 0.3 * rng.normal(size=g.shape) * (t % 11 > 0)
        round = round_of(scheme, link, weights, index=t)
        choice = allocate(
            round, rng.dirichlet(np.ones(4)), rng.uniform(0.2, 1), rng.uniform(0.2, 0.9)
        )
        message = scheme.prepare(state.device, g)
        gain = link.gains(rng)
        received, new = scheme.exchange(state, message, choice, round, gain, link, rng)
        yield state, g, message, received, new, (choice, round, gain, link)
        state = new


@pytest.mark.parametrize("fading", ["common", "independent"])
@pytest.mark.parametrize(("packets", "compensation"), PACKETS)
@pytest.mark.parametrize("settings", REFERENCES, ids=lambda s: "-".join(map(str, s.values())))
def test_both_sides_stay_the_same_bit_by_bit(settings, compensation, packets, fading):
    scheme = SignModulus(**settings, compensation=compensation, packets=packets, fading=fading)
    arrived = []
    for *_, received, state, _ in rounds(scheme):
        assert state.in_sync
        assert not np.shares_memory(state.device.reference, state.server.reference)
        assert np.isfinite(received.estimate).all()
        arrived.append(received.arrived)
    assert 0.05 < np.mean(arrived) < 0.95  # some were lost, some were not
    assert state.device.reference.any() == (scheme.reference != "none")


@pytest.mark.parametrize("settings", REFERENCES[1:], ids=lambda s: "-".join(map(str, s.values())))
def test_one_device_alone_in_plain_words(settings):
    """Device 2 keeps its own books, from its gradient, its packets and the acknowledgements."""
    scheme, k = SignModulus(**settings, compensation="memory", fading="independent"), 2
    watched, seen = watch(scheme)
    d, memory, both, lone = np.zeros(6), None, 0, 0
    for t, (state, g, *_, new, _) in enumerate(rounds(watched, 200)):
        assert len(seen) == t + 1
        heard, g = seen[t], g[k]
        scaled = scheme.rescale or scheme.reference == "stale"
        tau = (g @ d / (d @ d) if d.any() else 0.0) if scaled else 1.0
        sent = g - tau * d if scheme.reference == "innovation" else g
        common = state.device.memory.common  # broadcast
        gbar = common if memory is None else memory
        gbar = np.full(6, np.abs(sent).mean()) if gbar is None else gbar
        guess = np.where(sent < 0, -1, 1) * gbar * (np.abs(sent) @ gbar / max(gbar @ gbar, 1e-300))
        moduli = heard.modulus[heard.modulus_ok[:k].sum()] if heard.modulus_ok[k] else None
        if heard.sign_ok[k]:
            decoded = guess if moduli is None else np.where(sent < 0, -1, 1) * moduli
            both, lone = both + (moduli is not None), lone + (moduli is None)
            if scheme.reference == "innovation":
                d = tau * d + decoded
            elif moduli is not None or ((g - guess) ** 2).sum() < ((g - tau * d) ** 2).sum():
                d = decoded
            else:
                d = tau * d
        if moduli is not None:
            memory = moduli if memory is None else (memory + moduli) / 2
        np.testing.assert_allclose(new.server.reference[k], d, rtol=1e-9, atol=1e-9)
    assert min(both, lone) > 5


def test_a_device_that_believes_in_a_lost_packet_falls_out_of_step():
    """The check above can fail: here the device moves although no acknowledgement came."""
    scheme = SignModulus(reference="innovation")
    for state, _, _, received, new, _ in rounds(scheme):
        if received.arrived.all():
            continue
        deaf = dataclasses.replace(new.device, reference=state.device.reference + 1.0)
        assert not State(deaf, new.server).in_sync
        return


@pytest.mark.parametrize("fading", ["common", "independent"])
@pytest.mark.parametrize(("packets", "compensation"), PACKETS)
@pytest.mark.parametrize("settings", REFERENCES, ids=lambda s: "-".join(map(str, s.values())))
def test_nobody_uses_what_was_lost(settings, compensation, packets, fading):
    scheme = SignModulus(**settings, compensation=compensation, packets=packets, fading=fading)
    lost = 0
    for state, g, _, received, _, (choice, round, gain, link) in rounds(scheme, 12):
        assert not peeks(scheme, state, g, choice, round, gain, link)
        lost += (~received.arrived).sum()
    assert lost > 5


@pytest.mark.parametrize("cheat", [Peeking, PeekingAtSigns])
@pytest.mark.parametrize("settings", REFERENCES, ids=lambda s: "-".join(map(str, s.values())))
def test_a_server_that_peeks_is_caught(settings, cheat):
    scheme = cheat(**settings)
    caught = [
        peeks(scheme, state, g, choice, round, gain, link)
        for state, g, _, _, _, (choice, round, gain, link) in rounds(SignModulus(**settings), 12)
    ]
    assert any(caught)


def test_innovations_are_error_feedback():
    """The estimate of the plain estimator is the mean of the references after the round."""
    for _, _, _, received, state, _ in rounds(SignModulus(reference="innovation")):
        np.testing.assert_allclose(
            received.estimate, SHARE @ state.server.reference, rtol=1e-9, atol=1e-12
        )


def test_a_lost_packet_leaves_the_reference_and_the_server_uses_it():
    scheme, link = SignModulus(reference="innovation"), link_of(SNR)
    round, state = round_of(scheme, link), remembering(4, 6)
    message = scheme.prepare(state.device, np.ones((4, 6)))
    rng = np.random.default_rng(0)
    silent = 0 * link.mean_gain
    received, new = scheme.exchange(state, message, allocate(round), round, silent, link, rng)
    assert not received.arrived.any()
    np.testing.assert_array_equal(new.server.reference, state.server.reference)
    np.testing.assert_allclose(received.estimate, SHARE @ state.server.reference, rtol=1e-12)
    stale = SignModulus(reference="stale")
    g = np.random.default_rng(1).normal(size=(4, 6))
    message = stale.prepare(state.device, g)
    received, _ = stale.exchange(state, message, allocate(round), round, silent, link, rng)
    d = state.server.reference
    tau = (g * d).sum(1) / (d**2).sum(1)
    np.testing.assert_allclose(received.estimate, (SHARE * tau) @ d, rtol=1e-12)


@pytest.mark.parametrize("packets", ["sign-modulus", "single", "one-bit"])
def test_stale_remembers_the_reconstruction_itself(packets):
    """Everything arrives: single and double packets leave the quantised gradient, up to a step."""
    scheme, link = SignModulus(reference="stale", packets=packets), link_of([1e9] * 4)
    round, state = round_of(scheme, link), remembering(4, 6)
    g = np.random.default_rng(1).normal(size=(4, 6))
    message = scheme.prepare(state.device, g)
    _, new = scheme.exchange(
        state, message, allocate(round), round, link.mean_gain, link, np.random.default_rng(0)
    )
    found = new.server.reference
    if packets == "one-bit":
        used = message.reports.scale > 0
        expected = np.where(g < 0, -1, 1) * message.reports.scale[:, None] * state.server.memory.own
        np.testing.assert_allclose(found[used], expected[used], rtol=1e-9)
        assert used.any()
    else:
        step = (np.abs(g).max(1) - np.abs(g).min(1)) / 7
        assert (np.abs(found - g) <= step[:, None] * (1 + 1e-9)).all()


def test_sending_brings_the_reference_nearer_by_what_the_objective_says():
    """E||g - d'||^2 = (1-q) G + q(1-p) E + q p D; 3000 rounds, 4 standard errors."""
    scheme = SignModulus(reference="innovation", estimator="optimal_scaling")
    link, trials = link_of(SNR, rate=0.5), 3000
    round, state = round_of(scheme, link), remembering(4, 6)
    choice = allocate(round, 0.25, 0.6, 0.3)
    g = np.random.default_rng(3).normal(size=(4, 6))
    message = scheme.prepare(state.device, g)
    rng = np.random.default_rng(4)
    left = np.zeros((trials, 4))
    for t in range(trials):
        _, new = scheme.exchange(state, message, choice, round, link.gains(rng), link, rng)
        left[t] = ((g - new.server.reference) ** 2).sum(1)
    q, p = plan("sign-modulus", 6, 3, choice, round).success("common")
    G, E, D, _ = message.reports.statistics
    expected = (1 - q) * G + q * (1 - p) * E + q * p * D
    spread = left.std(0, ddof=1) / np.sqrt(trials)
    assert (np.abs(left.mean(0) - expected) <= 4 * spread + 1e-12).all()
    assert (expected < G).all()


@pytest.mark.parametrize("settings", REFERENCES[1:2] + REFERENCES[3:], ids=["stale", "tau"])
def test_a_scaled_reference_never_makes_it_worse(settings):
    for _, g, message, *_ in rounds(SignModulus(**settings)):
        G, E, _, H = message.reports.statistics
        assert ((g**2).sum(1) * (1 + 1e-12) >= G).all()
        assert (G >= E).all()
        assert (H >= 0).all()


@pytest.mark.parametrize(
    ("settings", "estimator"),
    list(itertools.product(REFERENCES, ["plain", "sign_unbiased", "unbiased", "optimal_scaling"])),
    ids=str,
)
def test_zero_gradients_are_nothing_special(settings, estimator):
    """Zero from the start, and after something was remembered."""
    scheme, link = SignModulus(**settings, estimator=estimator), link_of(SNR)
    round, rng = round_of(scheme, link), np.random.default_rng(0)
    for state in (State.begin(4, 6), remembering(4, 6, scheme.reference)):
        for _ in range(8):
            message = scheme.prepare(state.device, np.zeros((4, 6)))
            received, state = scheme.exchange(
                state, message, allocate(round), round, link.gains(rng), link, rng
            )
            assert np.isfinite(received.estimate).all()
            assert np.isfinite(message.reports.statistics).all()
            if scheme.reference != "innovation" or scheme.rescale:
                assert not received.estimate.any()
            assert state.in_sync
