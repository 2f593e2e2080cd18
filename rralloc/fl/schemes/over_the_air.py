"""Over-the-air aggregation: all devices send at once, and the channel adds.

With weights a_k of the updates u_k, scales nu_k and symbols s_k = u_k/nu_k of mean power <= 1, the
wanted sum is sum_k a_k u_k = sum_k phi_k s_k, phi_k = a_k nu_k. Along a beam m with c_k = m^H h_k,

    device       sends b_k s_k, |b_k|^2 <= P_k
    server       hears r = Re(m^H y)/sqrt(eta) = sum_k Re(c_k b_k)/sqrt(eta) s_k + noise

    inversion    b_k = sqrt(eta) phi_k c_k^*/|c_k|^2,  eta = min_k P_k |c_k|^2/phi_k^2
    least error  b_k = c_k^*/|c_k| min(sqrt(eta) phi_k/|c_k|, sqrt(P_k)), eta of least error

Inversion is unbiased and as loud as the weakest device lets it be. Least error lets weak devices
send with all they have; the sum is then biased against them.

Source: ota.md §2.1, §2.2, §2.5 (scales), §6 (common scale); derived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.air_link import AirLink
from rralloc.fl.link import Link
from rralloc.fl.schemes.packets import NothingToReport, Received
from rralloc.numerics.air import least_error
from rralloc.policy import Decision, Round
from rralloc.typing import Array

ROUNDING = 1e-9
"""Relative excess over the power limit that is rounding."""


@dataclass(frozen=True)
class OverTheAir:
    """Analog sums over an ``AirLink``, along the beam of ``Decision.x["beamformer"]``.

    power_control: ``inversion`` (unbiased) or ``least-error`` (weak devices are heard less).
    scale: ``common``, one nu = the largest root mean square entry of a scheduled update; or
        ``own``, each device its own, which the server must be told.

    Without a beam a single antenna is taken as it is. Nobody scheduled, or nobody heard: the model
    stays. One real entry for each channel use: d/B seconds; no bits. Scales are told for free.
    Raises InvalidProblem: the link is no ``AirLink``, or several antennas come without a beam.

    Choose this when updates are dense and the sum is all the server needs; ``OTASelection`` decides
    whom to hear.
    """

    power_control: Literal["inversion", "least-error"] = "inversion"
    scale: Literal["common", "own"] = "common"

    def __post_init__(self) -> None:
        options = {"power_control": ("inversion", "least-error"), "scale": ("common", "own")}
        for name, known in options.items():
            if getattr(self, name) not in known:
                words = " or ".join(map(repr, known))
                raise InvalidProblem(f"OverTheAir.{name} = {getattr(self, name)!r} is not {words}")

    @property
    def name(self) -> str:
        """For tables."""
        words = ["over the air"]
        words += [self.power_control] * (self.power_control != "inversion")
        words += ["own scales"] * (self.scale != "common")
        return ", ".join(words)

    def begin(self, devices: int, weights: int) -> OverTheAirRun:
        """A run; nothing is remembered."""
        return OverTheAirRun(self)


class OverTheAirRun(NothingToReport):
    """One training run."""

    over_the_air = True
    payload_bit: float | None = None

    def __init__(self, scheme: OverTheAir) -> None:
        self.scheme = scheme

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Send the scheduled rows of ``updates (K, d)`` over the channel ``gain (N, K)``."""
        link, beam = air_of(link), beam_of(decision, gain)
        heard = beam.conj() @ gain
        sends = decision.scheduled & (decision.weight > 0) & (np.abs(heard) > 0)
        # 1. Symbols of mean power at most 1, and the sum that is wanted of them.
        symbols, nu = self._symbols(np.asarray(updates, dtype=float), sends)
        phi = np.where(sends, decision.weight * nu, 0.0)
        sends = sends & (phi > 0)
        if not sends.any():
            return silence(updates.shape[1], round, sends)
        # 2. What they are multiplied by.
        noise = link.noise_w * float(np.linalg.norm(beam)) ** 2 / 2
        factor, eta = self._factors(heard, phi, sends, np.asarray(round.power_w), noise)
        energy = symbol_energy(factor, symbols, round, link)
        # 3. The air adds them up.
        total = link.hear(symbols, factor, beam, gain, rng)
        return analog(total / np.sqrt(eta), sends, energy, round, link)

    def _symbols(self, updates: Array, sends: Array) -> tuple[Array, Array]:
        """s ``(K, d)``, 0 for who is silent, and the scales nu ``(K,)``."""
        size = np.sqrt(np.einsum("kd,kd->k", updates, updates) / updates.shape[1])
        nu = np.where(sends & np.isfinite(size), size, 0.0)
        if self.scheme.scale == "common":
            nu = np.where(sends, nu.max(), 0.0)
        with np.errstate(invalid="ignore"):  # a diverged update stays what it is
            symbols = updates / np.where(nu > 0, nu, 1.0)[:, None]
        return np.where(sends[:, None], symbols, 0.0), nu

    def _factors(
        self, heard: Array, phi: Array, sends: Array, power: Array, noise: float
    ) -> tuple[Array, float]:
        """b ``(K,)`` and eta."""
        c = np.where(sends, np.abs(heard), 1.0)
        turn = np.where(sends, heard.conj() / c, 0.0)
        if self.scheme.power_control == "inversion":
            eta = float((power * c**2 / np.where(sends, phi, 1.0) ** 2)[sends].min())
            return turn * np.sqrt(eta) * phi / c, eta
        z = least_error(np.sqrt(power[sends]) * c[sends], phi[sends], noise).scale
        eta = float(1 / z**2)
        return turn * np.minimum(np.sqrt(eta) * phi / c, np.sqrt(power)), eta


def air_of(link: Link) -> AirLink:
    """The link, if it adds up."""
    if not isinstance(link, AirLink):
        raise InvalidProblem("over-the-air schemes need a link that adds up: fl.AirLink")
    return link


def beam_of(decision: Decision, channel: Array) -> Array:
    """The decided beam ``(N,)``; 1 for a single antenna without one."""
    if "beamformer" in decision.x:
        return np.asarray(decision.x["beamformer"])
    if len(channel) > 1:
        raise InvalidProblem(
            f"{len(channel)} antennas and no beamformer in Decision.x; use a policy that decides "
            "on one, such as Optimised(OTASelection)"
        )
    return np.ones(1, dtype=complex)


def symbol_energy(factor: Array, symbols: Array, round: Round, link: AirLink) -> Array:
    """J ``(K,)`` of ``factor_k symbols_k``; more than P on average over the uses is an error."""
    used = np.abs(factor) ** 2 * np.einsum("kn,kn->k", symbols, symbols)
    mean, most = used / symbols.shape[1], np.broadcast_to(round.power_w, used.shape)
    above = mean > most * (1 + ROUNDING)
    if above.any():
        k = int(np.argmax(np.where(above, mean - most, -np.inf)))
        raise InvalidProblem(
            f"round {round.index}: device {k} would send at {mean[k]:g} W, above its {most[k]:g} W"
        )
    return np.asarray(used / link.bandwidth_hz)


def analog(
    estimate: Array, arrived: Array, energy_j: Array, round: Round, link: AirLink, uses: int = 0
) -> Received:
    """What a round of ``uses`` channel uses (0: one for each entry) brought and cost."""
    busy = arrived | round.everybody_computes
    waiting = float(np.where(arrived, round.waiting_s, 0.0).max())
    return Received(
        estimate=estimate,
        arrived=arrived,
        seconds=waiting + (uses or len(estimate)) / link.bandwidth_hz,
        joules=float(energy_j.sum() + round.compute_j * busy.sum()),
        bits=0.0,
        energy_j=energy_j,
    )


def silence(weights: int, round: Round, nobody: Array) -> Received:
    """A round in which nobody sends: the model stays, and no time passes on air."""
    idle = round.compute_s.max() if round.everybody_computes else 0.0
    joules = round.compute_j * len(nobody) if round.everybody_computes else 0.0
    zero = np.zeros(weights)
    return Received(zero, nobody & False, float(idle), joules, 0.0, np.zeros(len(nobody)))
