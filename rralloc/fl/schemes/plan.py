"""Which packets are sent, over what, and when they are decoded.

In the uplink time T device k has the share beta of the band B. It splits it theta : 1 - theta, and
its power alpha : 1 - alpha, between a sign packet of l bits and a modulus packet of l b + b0 bits.
With gamma = P rho/(B N0), r_s = l/(B T) and r_m = (l b + b0)/(B T), and phi of
``rralloc.channel.packets``, the packets are decoded iff the unit-mean fade |h|^2 reaches

    s = phi(theta beta; gamma, r_s)/alpha,       m = phi((1 - theta) beta; gamma, r_m)/(1 - alpha).

fading        q = P(sign)    p = P(modulus | sign)
------        -----------    ---------------------
common        e^-s           e^-(m - s)^+              both packets see one fade
independent   e^-s           e^-m                      the modulus packet has a fade of its own

packets        what is sent
-------        ------------
sign-modulus   the two packets; alpha = 1 or theta = 1: signs only
single         one packet with everything, all power, rate r_s + r_m; p = 1
one-bit        the sign packet alone on the device's whole band, all power; p = 0

Without alpha in the decision, alpha = theta (the same power density in both); without theta,
theta = l/(l + l b + b0) (the same spectral efficiency in both). Under common fading with these two
the packets live and die together: the single packet is that point of sign-modulus. Source: spec
spfl.md §2.1, §2.3 and correction 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rralloc.channel.packets import fade_threshold
from rralloc.errors import InvalidProblem
from rralloc.fl.schemes.estimators import Success
from rralloc.policy import Decision, Round
from rralloc.typing import Array

Fading = Literal["common", "independent"]
Packets = Literal["sign-modulus", "single", "one-bit"]

HEADER_BITS = 64
"""b0: the ends of the quantiser's range, two 32-bit floats."""


@dataclass(frozen=True, eq=False)
class PacketPlan:
    """Packets of one round; arrays are ``(K,)``."""

    sign_fade: Array
    """s, the least fade that decodes the sign packet; inf if none is sent."""
    modulus_fade: Array
    """m, the same for the modulus packet."""
    sign_sent: Array
    modulus_sent: Array
    power_share: Array
    """Share of the device's power that is radiated."""
    bits: float
    """Bits of all packets that are sent."""

    def decoded(self, fade: Array, modulus_fade: Array) -> tuple[Array, Array]:
        """Which sign and which modulus packets arrive, for the fades ``(K,)`` they meet."""
        sign_ok = self.sign_sent & (fade >= self.sign_fade)
        return sign_ok, self.modulus_sent & (modulus_fade >= self.modulus_fade)

    def success(self, fading: Fading) -> Success:
        """q and p of these very packets."""
        s, m = self.sign_fade, self.modulus_fade
        if fading == "independent":
            return Success(np.exp(-s), np.exp(-m))
        possible = np.isfinite(s) & np.isfinite(m)
        later = np.where(possible, np.maximum(m, s) - np.where(possible, s, 0.0), np.inf)
        return Success(np.exp(-s), np.exp(-later))


def plan(
    packets: Packets, weights: int, modulus_bits: int, decision: Decision, round: Round
) -> PacketPlan:
    """The packets of ``decision`` for vectors of ``weights`` entries with b = ``modulus_bits``."""
    signs, moduli = float(weights), float(weights * modulus_bits + HEADER_BITS)
    share = signs / (signs + moduli)
    beta, alpha, theta = _shares(decision, round, share)
    if packets == "single":
        signs, moduli, alpha, theta = signs + moduli, 0.0, np.ones_like(beta), np.ones_like(beta)
    if packets == "one-bit":
        alpha, theta = np.ones_like(beta), np.ones_like(beta)
    on = decision.scheduled & (beta > 0)
    sign_sent = on & (alpha > 0) & (theta > 0)
    modulus_sent = on & (alpha < 1) & (theta < 1)
    hertz_seconds = round.bandwidth_hz * _uplink_s(round)
    snr = decision.power_w * round.path_gain / (round.bandwidth_hz * round.noise_psd_w_hz)

    def threshold(sent: Array, band: Array, power: Array, bits: float) -> Array:
        phi = fade_threshold(np.where(sent, band, 0.0), snr, np.array(bits / hertz_seconds))
        return np.where(sent, phi / np.where(sent, power, 1.0), np.inf)

    s = threshold(sign_sent, theta * beta, alpha, signs)
    m = threshold(modulus_sent, (1 - theta) * beta, 1 - alpha, moduli)
    power = np.where(sign_sent, alpha, 0.0) + np.where(modulus_sent, 1 - alpha, 0.0)
    bits = signs * float(sign_sent.sum()) + moduli * float(modulus_sent.sum())
    if packets == "single":
        m, modulus_sent = s, sign_sent
    return PacketPlan(s, m, sign_sent, modulus_sent, power, bits)


def _uplink_s(round: Round) -> float:
    if round.uplink_s is None:
        raise InvalidProblem(
            f"round {round.index}: packets of fixed length need a fixed uplink time; give the link "
            "uplink_s, or build it with Link.loaded"
        )
    return round.uplink_s


def _shares(decision: Decision, round: Round, proportional: float) -> tuple[Array, Array, Array]:
    """beta, alpha, theta ``(K,)``; what the decision does not say has its default."""
    x, equal = decision.x, np.full(round.devices, proportional)
    beta = np.asarray(x.get("bandwidth_share", decision.bandwidth_hz / round.bandwidth_hz))
    theta = np.asarray(x.get("sign_band_share", equal))
    alpha = np.asarray(x.get("sign_power_share", theta))
    for name, value in (("bandwidth", beta), ("sign band", theta), ("sign power", alpha)):
        fine = (value >= -1e-9) & (value <= 1 + 1e-9)
        if not fine.all():
            k = int(np.flatnonzero(~fine)[0])
            raise InvalidProblem(
                f"round {round.index}: {name} share of device {k} is {value[k]:g}, not in [0, 1]"
            )
    total = float(np.where(decision.scheduled, beta, 0.0).sum())
    if total > 1 + 1e-6:
        raise InvalidProblem(f"round {round.index}: bandwidth shares sum to {total:g} > 1")
    return np.clip(beta, 0.0, 1.0), np.clip(alpha, 0.0, 1.0), np.clip(theta, 0.0, 1.0)
