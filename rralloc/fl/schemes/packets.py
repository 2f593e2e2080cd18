"""One packet for each update: error-free, or lost when the channel is worse than it was coded for.

A device codes its packet for ``margin`` times the gain that the server knows, at
r = b log2(1 + P margin g/(N0 b)); it arrives iff the actual gain is at least margin * g. The server
estimates  sum over arrived k of  weight_k update_k / Pr(arrival)  and uses nothing it did not
receive. Time: everybody side by side ends with the slowest; in turn, airtimes add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.link import Link
from rralloc.numerics.rates import rate
from rralloc.policy import Decision, Round
from rralloc.typing import Array


@dataclass(frozen=True, eq=False)
class Received:
    """What a round brought and cost: estimate ``(d,)``, who arrived ``(K,)``, s, J, uplink bits.

    ``energy_j``: what each device spent on sending ``(K,)``, J, where the scheme keeps account.
    ``details``: what else happened to each device ``(K,)``, for logs.
    """

    estimate: Array
    arrived: Array
    seconds: float
    joules: float
    bits: float
    energy_j: Array | None = None
    details: Mapping[str, Array] = field(default_factory=dict)


class Scheme(Protocol):
    """Anything with this method and a name; for a scheme that remembers, see ``WithMemory``."""

    @property
    def name(self) -> str:
        """For tables."""

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Send the scheduled rows of ``updates (K, d)`` over the actual ``gain (K,)``.

        A scheme with ``linear = True`` does no more with ``updates`` than ``updates[some]`` and
        ``weights @ updates``; it is then handed ``Updates``, which never holds all K rows.
        """


class Running(Protocol):
    """A scheme during one training run: it may remember, and knows what devices can report."""

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names that ``report`` knows; the engine's own (``gradient_norm``) come on top."""

    @property
    def modulus_bits(self) -> int | None:
        """Bits of one quantised modulus, for ``Round``; None where there is no such thing."""

    @property
    def header_bits(self) -> int | None:
        """Bits of a modulus packet's header, for ``Round``."""

    @property
    def payload_bit(self) -> float | None:
        """Bits of this round's packet; None leaves them to the link."""

    @property
    def everybody_reports(self) -> bool:
        """Whether the scheme itself needs reports, so that all devices compute in every round."""

    def report(self, updates: Array, names: Iterable[str]) -> dict[str, Array]:
        """The named statistics ``(K,)`` of what devices would send for ``updates (K, d)``."""

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """As ``Scheme.transmit``, once a round."""


class NothingToReport:
    """What a ``Running`` is without statistics, quantised moduli or reports of its own."""

    statistics: tuple[str, ...] = ()
    modulus_bits: int | None = None
    header_bits: int | None = None
    everybody_reports: bool = False

    def report(self, updates: Array, names: Iterable[str]) -> dict[str, Array]:
        """Nothing of its own."""
        return {}


class WithMemory(Protocol):
    """A scheme that remembers: each training run begins anew."""

    @property
    def name(self) -> str:
        """For tables."""

    def begin(self, devices: int, weights: int) -> Running:
        """A run of K ``devices`` that send vectors of ``weights`` entries."""


@dataclass(frozen=True)
class ErrorFree:
    """Every scheduled update arrives; time and energy are those of the allocated rates.

    Choose this when only the allocation's speed is the question, or as the upper reference.
    """

    name: str = "error-free"
    linear = True

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """The weighted sum of the scheduled updates."""
        arrived = decision.scheduled.copy()
        return _received(updates, decision.weight, arrived, decision, round, 1.0)


@dataclass(frozen=True)
class DigitalPacket:
    """One coded packet for each update; lost when the channel falls below what it was coded for.

    margin: fraction of the known gain to code for, > 0. With full channel knowledge any
        margin <= 1 always arrives; with the mean only, the loss probability is the fading law's.
    compensate: divide by the arrival probability, which keeps the estimate unbiased.

    Choose this when losses matter; a smaller margin is slower and surer.
    """

    margin: float = 1.0
    compensate: bool = True
    name: str = "digital packets"
    linear = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.margin) and self.margin > 0):
            raise InvalidProblem(f"DigitalPacket.margin = {self.margin} is not in (0, inf)")

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Lose what the channel does not carry; weigh the rest."""
        arrived = decision.scheduled & (gain >= self.margin * round.path_gain)
        success = 1.0 - link.loss_probability(self.margin)
        weight = decision.weight / success if self.compensate and success > 0 else decision.weight
        return _received(updates, weight, arrived, decision, round, self.margin)


def _received(
    updates: Array,
    weight: Array,
    arrived: Array,
    decision: Decision,
    round: Round,
    margin: float,
) -> Received:
    air = airtime_s(decision, round, margin)
    scheduled = decision.scheduled
    busy = scheduled | round.everybody_computes
    compute = np.where(busy, round.compute_s, 0.0)
    waiting = np.where(scheduled, round.waiting_s, 0.0)
    together = compute.max() + air.sum() if decision.in_turn else (waiting + air).max()
    energy = float((decision.power_w * air).sum() + round.compute_j * busy.sum())
    estimate = weight[arrived] @ updates[arrived]
    bits = float(round.payload_bit * scheduled.sum())
    return Received(estimate, arrived, float(together), energy, bits)


def airtime_s(decision: Decision, round: Round, margin: float = 1.0) -> Array:
    """Seconds on air ``(K,)`` at the coded rate; 0 for a device that does not send."""
    heard = margin * decision.power_w * round.path_gain / round.noise_psd_w_hz
    speed = rate(decision.bandwidth_hz, heard)
    if np.any(decision.scheduled & (speed <= 0)):
        lost = np.flatnonzero(decision.scheduled & (speed <= 0))
        raise InvalidProblem(
            f"round {round.index}: device {lost[0]} is scheduled but has no rate "
            f"({decision.bandwidth_hz[lost[0]]:g} Hz, gain {round.path_gain[lost[0]]:g})"
        )
    sends = decision.scheduled
    return np.where(sends, round.payload_bit / np.where(sends, speed, 1.0), 0.0)
