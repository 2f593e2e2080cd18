"""Sign-prioritised federated learning: signs and moduli in separate packets, signs first.

In a round, with the memory (``reference.py``) that every device shares with the server,

    prepare    device   sign bits and moduli of u_k; reports G, E, D, H, scale, mean, tau
    (policy)   server   decides shares of band and power from the reports
    deliver    channel  each packet arrives or not
    receive    server   sum_k w_k [f_k + C_k (a_k c_k + M_k b_k (v_k - c_k))]; moves its memory
    exchange   device   moves its memory by what was acknowledged, hears the broadcast

A reconstruction of the published idea, of which only abstract and summaries were at hand; not a
transcript of the paper. Source: spec spfl.md (idea: arXiv 2603.10763, abstract).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np

from rralloc.errors import InvalidProblem, UnknownName
from rralloc.fl.link import Link
from rralloc.fl.schemes.compensation import Compensation, best_multiple, fit, square
from rralloc.fl.schemes.estimators import Estimator, Statistics, Success, combine, scaling
from rralloc.fl.schemes.packets import Received
from rralloc.fl.schemes.plan import HEADER_BITS, Fading, Packets, plan
from rralloc.fl.schemes.quantiser import error_energy, grid, negative, quantise, signed
from rralloc.fl.schemes.reference import (
    Heard,
    Reference,
    Reports,
    Side,
    State,
    beyond,
)
from rralloc.policy import Decision, Round
from rralloc.typing import Array


@dataclass(frozen=True, eq=False)
class Message:
    """What the devices have ready in a round: sign bits, moduli to send ``(K, d)``, reports."""

    negative: Array
    modulus: Array
    reports: Reports


@dataclass(frozen=True)
class SignModulus:
    """Sign packets, modulus packets, and what the server makes of those that arrive.

    estimator: ``plain``, ``sign_unbiased``, ``unbiased``, ``optimal_scaling`` (``estimators.py``);
        None takes ``plain`` for single packets and innovations, else ``optimal_scaling``.
    compensation: what replaces a lost modulus: ``zero``, ``constant``, ``global``, ``ema``,
        ``memory`` or ``best`` (``compensation.py``).
    reference: ``none`` sends gradients; ``stale`` replaces a lost one by the last reconstruction;
        ``innovation`` sends the difference to what the server already has (``reference.py``).
    rescale: innovations only: the reference is first scaled by the best scalar, one more float.
    bits: b per modulus, 1 to 32.
    clip: c > 0, for ``plain``: a modulus packet carries min(|u_j|, c mean |u|); None, all of it.
        What is cut off counts in D, and with innovations comes back in the next round. Their tails
        are heavy, and large entries that arrive whole make training diverge at step sizes that
        signs survive.
    variance_weight: lam of ``optimal_scaling``, >= 0.
    fading: ``common`` or ``independent`` fades of the two packets; packets: what is sent
        (``plan.py``).

    The allocation is read from ``decision.x``: ``bandwidth_share`` beta, ``sign_power_share``
    alpha, ``sign_band_share`` theta, all ``(K,)``; ``decision.weight`` is w (also of a device that
    is off: its prediction counts, so give the data share). The link needs ``csi="mean"``, Rayleigh
    fading and ``uplink_s``. A round lasts computing plus uplink time; energy is radiated power
    times uplink time, plus computing; reports and broadcasts cost neither time nor energy.

    Choose this when bandwidth is scarce: with ``reference="innovation"`` it is the scheme to beat
    (also ``packets="one-bit"``); ``packets="single"`` is the rival that a study must show.
    """

    estimator: Estimator | None = None
    compensation: Compensation = "memory"
    reference: Reference = "none"
    rescale: bool = False
    bits: int = 3
    clip: float | None = None
    variance_weight: float = 1.0
    fading: Fading = "common"
    packets: Packets = "sign-modulus"

    def __post_init__(self) -> None:
        if self.estimator is None:
            simple = self.packets == "single" or self.reference == "innovation"
            object.__setattr__(self, "estimator", "plain" if simple else "optimal_scaling")
        choices = {
            "estimator": Estimator,
            "compensation": Compensation,
            "reference": Reference,
            "fading": Fading,
            "packets": Packets,
        }
        for field, known in choices.items():
            if getattr(self, field) not in get_args(known):
                raise UnknownName(field, getattr(self, field), get_args(known))
        if not (isinstance(self.bits, int) and 1 <= self.bits <= 32):
            raise InvalidProblem(f"SignModulus.bits = {self.bits!r} is not a whole number in 1..32")
        if not 0 <= self.variance_weight < np.inf:
            raise InvalidProblem(
                f"SignModulus.variance_weight = {self.variance_weight} is not in [0, inf)"
            )
        if self.clip is not None and not 0 < self.clip < np.inf:
            raise InvalidProblem(
                f"SignModulus.clip = {self.clip} is not in (0, inf); None for none"
            )
        if self.clip is not None and self.estimator != "plain":
            raise InvalidProblem(
                f"SignModulus.clip needs estimator='plain', not {self.estimator!r}, which counts "
                "on moduli that are right on average"
            )
        if self.packets == "one-bit" and self.compensation == "zero":
            raise InvalidProblem(
                "SignModulus: one-bit packets with compensation='zero' tell the server nothing; "
                "choose another compensation"
            )
        if self.rescale and self.reference != "innovation":
            raise InvalidProblem(
                f"SignModulus.rescale needs reference='innovation', not {self.reference!r} "
                "(stale is always scaled)"
            )

    @property
    def name(self) -> str:
        """Packets, estimator, compensation, reference."""
        tau = " + tau" if self.rescale else ""
        told = "" if self.reference == "none" else f", {self.reference}{tau}"
        told += "" if self.clip is None else f", clip {self.clip:g}"
        return f"{self.packets}, {self.estimator}, {self.compensation}{told}"

    @property
    def scales_reference(self) -> bool:
        """Whether every device reports tau in every round."""
        return self.rescale or self.reference == "stale"

    def begin(self, devices: int, weights: int) -> Session:
        """A training run of ``devices`` K with vectors of ``weights`` l entries."""
        return Session(self, State.begin(devices, weights))

    # -- one round ----------------------------------------------------------------------------

    def prepare(self, side: Side, updates: Array) -> Message:
        """What devices know before the decision: ``updates (K, d)`` and their own side."""
        multiple = np.ones(len(updates))
        if self.scales_reference:
            multiple, _ = best_multiple(updates, side.reference)
        predicted = side.prediction(multiple)
        sent = updates - predicted if self.reference == "innovation" else updates
        modulus, minus = np.abs(sent), negative(sent)
        mean, energy = modulus.mean(axis=1), square(sent)
        found, gbar = fit(self.compensation, side.memory, modulus, mean)
        if self.reference == "stale":
            energy, found = beyond(predicted, updates, signed(gbar, minus), found)
        carried = self._carried(modulus, mean)
        rounding = error_energy(carried, grid(carried, self.bits))
        lost = rounding + square(modulus - carried)
        statistics = Statistics(energy, found.error, lost, found.energy)
        reports = Reports(statistics, found.scale, mean, found.flat, multiple)
        return Message(minus, carried, reports)

    def _carried(self, modulus: Array, mean: Array) -> Array:
        """What a modulus packet is about: the moduli ``(K, d)``, clipped."""
        if self.clip is None:
            return modulus
        return np.minimum(modulus, self.clip * mean[:, None])

    def exchange(
        self,
        state: State,
        message: Message,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> tuple[Received, State]:
        """Send over ``gain (K,)``, estimate, and move both sides.

        ``rng`` gives the modulus packets' own fades first (also when they are not used), then the
        rounding, so that schemes compared with one seed meet the same fades.
        """
        _require(link)
        chosen = plan(self.packets, message.modulus.shape[1], self.bits, decision, round)
        fading: Fading = "common" if self.packets == "single" else self.fading
        sign_ok, modulus_ok = chosen.decoded(*_fades(fading, gain, link, rng))
        heard = self.deliver(message, sign_ok, modulus_ok, rng)
        success = chosen.success(fading)
        estimate, server = self.receive(
            state.server, heard, message.reports, success, decision.weight
        )
        acknowledged = state.device.increments(
            self.reference, self.compensation, heard, message.reports
        )
        device = state.device.after(self.reference, self.compensation, heard, acknowledged)
        received = Received(
            estimate,
            sign_ok,
            _seconds(decision, round),
            _joules(decision, round, chosen.power_share),
            chosen.bits,
        )
        return received, State(device.told(server.memory.common), server)

    def deliver(
        self, message: Message, sign_ok: Array, modulus_ok: Array, rng: np.random.Generator
    ) -> Heard:
        """The packets that arrived; what was in the others ends here."""
        moduli = message.modulus[modulus_ok]
        if len(moduli):
            uniform = rng.random(message.modulus.shape)[modulus_ok]
            moduli = quantise(moduli, grid(moduli, self.bits), uniform)
        return Heard(sign_ok, modulus_ok, message.negative[sign_ok], moduli)

    def receive(
        self, side: Side, heard: Heard, reports: Reports, success: Success, weight: Array
    ) -> tuple[Array, Side]:
        """The server: estimate ``(d,)`` from memory, packets and reports; its new memory."""
        new = side.increments(self.reference, self.compensation, heard, reports)
        by = scaling(
            cast(Estimator, self.estimator),
            success,
            reports.statistics,
            weight,
            self.variance_weight,
        )
        added = combine(by, weight, heard.sign_ok, heard.both_ok, new.guess, new.full)
        estimate = weight @ new.prediction + added
        common = side.memory.to_broadcast(self.compensation, heard.modulus, estimate)
        return estimate, side.after(self.reference, self.compensation, heard, new).told(common)


class Session:
    """One training run of a scheme with memory; ``state`` is replaced in every round."""

    statistics: tuple[str, ...] = Statistics._fields
    header_bits: int = HEADER_BITS
    payload_bit: None = None  # two lengths, not one: see modulus_bits and header_bits

    def __init__(self, scheme: SignModulus, state: State) -> None:
        self.scheme, self.state = scheme, state
        self._ready: tuple[Array, Message] | None = None

    @property
    def modulus_bits(self) -> int:
        """b."""
        return self.scheme.bits

    @property
    def everybody_reports(self) -> bool:
        """Whether all devices compute in every round, since the server needs their tau."""
        return self.scheme.scales_reference

    def report(self, updates: Array, names: Iterable[str]) -> dict[str, Array]:
        """Statistics ``(K,)`` of what the devices would send for ``updates (K, d)``."""
        known = self._message(updates).reports.statistics
        return {name: getattr(known, name).copy() for name in names}

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """One round; afterwards both sides remember it."""
        message = self._message(updates)
        received, self.state = self.scheme.exchange(
            self.state, message, decision, round, gain, link, rng
        )
        self._ready = None
        return received

    def _message(self, updates: Array) -> Message:
        """Prepared once a round."""
        if self._ready is None or self._ready[0] is not updates:
            self._ready = updates, self.scheme.prepare(self.state.device, updates)
        return self._ready[1]


def _fades(
    fading: Fading, gain: Array, link: Link, rng: np.random.Generator
) -> tuple[Array, Array]:
    """The unit-mean fades ``(K,)`` of sign and modulus packets; a device without gain has 0."""
    heard = link.mean_gain > 0
    fade = np.where(heard, gain / np.where(heard, link.mean_gain, 1.0), 0.0)
    own = rng.standard_exponential(fade.shape)
    return fade, fade if fading == "common" else own


def _require(link: Link) -> None:
    if link.csi != "mean" or link.fading != "rayleigh":
        raise InvalidProblem(
            "sign and modulus packets meet Rayleigh fading that nobody knows: "
            f"use csi='mean' and fading='rayleigh', not {link.csi!r} and {link.fading!r}"
        )


def _seconds(decision: Decision, round: Round) -> float:
    """Computing of all that compute, then the uplink time."""
    busy = decision.scheduled | round.everybody_computes
    return float(np.where(busy, round.compute_s, 0.0).max()) + (round.uplink_s or 0.0)


def _joules(decision: Decision, round: Round, power_share: Array) -> float:
    """Radiated power times uplink time, and computing."""
    busy = decision.scheduled | round.everybody_computes
    radiated = float((decision.power_w * power_share).sum()) * (round.uplink_s or 0.0)
    return radiated + round.compute_j * float(busy.sum())
