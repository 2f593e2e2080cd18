"""One round of a sign-modulus scheme, by hand: links, rounds, allocations, and a peeking server."""

from __future__ import annotations

import dataclasses

import numpy as np
from toys import decision

from rralloc.channel import NOISE_PSD_W_PER_HZ
from rralloc.fl import Link, SignModulus
from rralloc.fl.schemes import State
from rralloc.fl.schemes.compensation import ModulusMemory
from rralloc.fl.schemes.quantiser import grid, quantise
from rralloc.fl.schemes.reference import Heard, Side

SHARE = np.array([0.4, 0.3, 0.2, 0.1])
REPORTS = ("gradient_energy", "compensation_error", "quantization_error", "compensation_energy")


def link_of(snr, *, rate=1.0, weights=6, bits=3, **settings):
    """Whole-band SNRs ``snr (K,)``; all bits of one device over B T are ``rate`` bit/s/Hz."""
    snr = np.asarray(snr, dtype=float)
    total = weights * (1 + bits) + 64
    given = {
        "mean_gain": snr * NOISE_PSD_W_PER_HZ * 1e6 / 0.1,
        "compute_s": 0.1,
        "uplink_s": total / (rate * 1e6),
        "csi": "mean",
    }
    return Link(**given | settings)


def round_of(scheme, link, weights=6, share=SHARE, index=0):
    """What the server knows, without reports."""
    return link.round(
        index, link.mean_gain, weights, share, {}, modulus_bits=scheme.bits, header_bits=64
    )


def allocate(round, beta=0.25, alpha=0.5, theta=0.3):
    """An allocation; a scalar stands for all devices."""
    each = np.ones(round.devices)
    return decision(
        round,
        bandwidth_share=beta * each,
        sign_power_share=alpha * each,
        sign_band_share=theta * each,
    )


def remembering(devices, weights, kind="innovation", seed=5):
    """Both sides with moduli and references from earlier rounds."""
    rng = np.random.default_rng(seed)
    own = np.abs(rng.normal(size=(devices, weights)))
    reference = rng.normal(size=(devices, weights)) * (kind != "none")
    common = np.abs(rng.normal(size=weights))

    def side():
        memory = ModulusMemory(own.copy(), np.ones(devices, dtype=bool), common.copy())
        return Side(memory, reference.copy())

    return State(side(), side())


def peeks(scheme, state, updates, choice, round, gain, link, seed=0):
    """Whether the content of lost packets changes the estimate or what either side remembers.

    The reports stay: they reach the server by another way.
    """
    message = scheme.prepare(state.device, updates)

    def run(sent):
        return scheme.exchange(state, sent, choice, round, gain, link, np.random.default_rng(seed))

    plain, after = run(message)
    watched, seen = watch(scheme)
    watched.exchange(state, message, choice, round, gain, link, np.random.default_rng(seed))
    sign_ok, modulus_ok = seen[0].sign_ok, seen[0].modulus_ok
    other = np.random.default_rng(99).normal(size=updates.shape)
    forged = dataclasses.replace(
        message,
        negative=np.where(sign_ok[:, None], message.negative, other < 0),
        modulus=np.where(modulus_ok[:, None], message.modulus, np.abs(other)),
    )
    found, then = run(forged)
    same = np.array_equal(plain.estimate, found.estimate)
    same &= after.server.content() == then.server.content()
    return not (same and after.device.content() == then.device.content())


def watch(scheme):
    """The same scheme, and a list of the packets that arrive in each round."""
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Watched(type(scheme)):
        def deliver(self, message, sign_ok, modulus_ok, rng):
            heard = super().deliver(message, sign_ok, modulus_ok, rng)
            truth = dataclasses.replace(heard, sign_ok=sign_ok, modulus_ok=modulus_ok)
            seen.append(truth)
            return heard

    fields = dataclasses.fields(scheme)
    return Watched(**{f.name: getattr(scheme, f.name) for f in fields}), seen


@dataclasses.dataclass(frozen=True)
class Peeking(SignModulus):
    """A server that uses moduli of packets that were lost."""

    def deliver(self, message, sign_ok, modulus_ok, rng):
        uniform = rng.random(message.modulus.shape)
        moduli = quantise(message.modulus, grid(message.modulus, self.bits), uniform)
        everyone = np.ones(len(sign_ok), dtype=bool)
        return Heard(sign_ok, everyone, message.negative[sign_ok], moduli)


@dataclasses.dataclass(frozen=True)
class PeekingAtSigns(SignModulus):
    """A server that uses the signs of packets that were lost."""

    def deliver(self, message, sign_ok, modulus_ok, rng):
        heard = super().deliver(message, sign_ok, modulus_ok, rng)
        return dataclasses.replace(
            heard, sign_ok=np.ones(len(sign_ok), dtype=bool), negative=message.negative
        )
