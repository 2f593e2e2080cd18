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
        heard, power = beam.conj() @ gain, power_of(decision, round)
        sends = decision.scheduled & (decision.weight > 0) & (power > 0) & (np.abs(heard) > 0)
        rows = np.asarray(updates, dtype=float)
        # 1. Symbols of mean power at most 1, and the sum that is wanted of them.
        size = rms(rows, sends)
        if not np.isfinite(size).all():  # diverged training goes on with what it has
            lost = np.full(rows.shape[1], np.nan)
            return analog(lost, sends, decision, np.zeros(len(sends)), round, link)
        nu = np.where(sends, size.max(), 0.0) if self.scheme.scale == "common" else size
        symbols = rows * np.where(nu > 0, 1 / np.where(nu > 0, nu, 1.0), 0.0)[:, None]
        phi = np.where(sends, decision.weight * nu, 0.0)
        if not phi.any():
            return silence(rows.shape[1], sends, decision, round)
        # 2. What they are multiplied by.
        noise = link.noise_w * float(np.linalg.norm(beam)) ** 2 / 2
        factor, eta = self._factors(heard, phi, power, noise)
        energy = symbol_energy(factor, symbols, round, link)
        # 3. The air adds them up.
        total = link.hear(symbols, factor, beam, gain, rng)
        return analog(total / np.sqrt(eta), sends, decision, energy, round, link)

    def _factors(self, heard: Array, phi: Array, power: Array, noise: float) -> tuple[Array, float]:
        """b ``(K,)`` and eta."""
        on = phi > 0
        c = np.where(on, np.abs(heard), 1.0)
        turn = np.where(on, heard.conj() / c, 0.0)
        if self.scheme.power_control == "inversion":
            eta = float((power[on] * c[on] ** 2 / phi[on] ** 2).min())
            return turn * np.sqrt(eta) * phi / c, eta
        z = least_error(np.sqrt(power[on]) * c[on], phi[on], noise).scale
        eta = float(1 / z**2)
        return turn * np.minimum(np.sqrt(eta) * phi / c, np.sqrt(power)), eta


def rms(updates: Array, sends: Array) -> Array:
    """Root mean square entry of the rows that are sent ``(K,)``; inf or NaN: training diverged."""
    size = np.zeros(len(updates))
    with np.errstate(over="ignore", invalid="ignore"):
        size[sends] = np.sqrt(np.mean(updates[sends] ** 2, axis=1))
    return size


def power_of(decision: Decision, round: Round) -> Array:
    """P_k ``(K,)``: what the policy allows, at most what the device has."""
    return np.minimum(decision.power_w, np.broadcast_to(round.power_w, decision.scheduled.shape))


def air_of(link: Link) -> AirLink:
    """The link, if it adds up."""
    if not isinstance(link, AirLink):
        raise InvalidProblem("over-the-air schemes need a link that adds up: fl.AirLink")
    return link


def beam_of(decision: Decision, channel: Array) -> Array:
    """The decided beam ``(N,)``; 1 for a single antenna without one."""
    if "beamformer" in decision.x:
        beam = np.asarray(decision.x["beamformer"])
        if beam.shape != channel.shape[:1]:
            raise InvalidProblem(
                f"Decision.x['beamformer'] has shape {beam.shape}; need ({len(channel)},), one "
                "entry for each antenna"
            )
        return beam
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
    estimate: Array,
    arrived: Array,
    decision: Decision,
    energy_j: Array,
    round: Round,
    link: AirLink,
) -> Received:
    """What a round of one channel use an entry brought and cost; all scheduled devices compute."""
    waiting, joules = computing(decision, round, arrived)
    return Received(
        estimate=estimate,
        arrived=arrived,
        seconds=waiting + len(estimate) / link.bandwidth_hz,
        joules=float(energy_j.sum()) + joules,
        bits=0.0,
        energy_j=energy_j,
    )


def silence(weights: int, arrived: Array, decision: Decision, round: Round) -> Received:
    """A round in which nothing is sent: the model stays, and no time passes on air."""
    waiting, joules = computing(decision, round, arrived)
    return Received(np.zeros(weights), arrived, waiting, joules, 0.0, np.zeros(len(arrived)))


def computing(decision: Decision, round: Round, sends: Array) -> tuple[float, float]:
    """Seconds until the last who sends has computed (all, if nobody sends), and J of all who do."""
    busy = decision.scheduled | round.everybody_computes
    awaited = sends if sends.any() else busy
    waiting = np.where(awaited, round.waiting_s, 0.0).max()
    return float(waiting), float(round.compute_j * busy.sum())
