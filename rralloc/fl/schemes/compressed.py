"""Compressed updates over any digital link, with or without a memory of what was not sent.

In a round, with C the compressor and ``computed`` the devices that have an update to send,

    x_k = memory.gather(g_k)          k computed: what device k would like to send
    q_k = C(x_k)                      k scheduled: what it sends
    estimate, arrived = link(q)       the inner scheme loses packets and weighs the others
    memory.release(q_k)               k arrived: what need not be sent again

=================  ===============================  ==========================================
memory             gather                           release
=================  ===============================  ==========================================
Forgetful          x = g                            --
ErrorMemory        e <- e + g,   x = e              e <- e - q
MomentumMemory     u <- m u + g,                    v <- v - q
                   v <- v + u,   x = v              u <- 0 where q != 0 (masking)
=================  ===============================  ==========================================

A packet that is lost stays in the memory: devices hear which arrived. A device that computed
without being scheduled (``round.everybody_computes``) remembers its update; one that did not
compute has none, and its memory rests. So with an error memory, for each device and always,

    sum over rounds of g that it computed  =  sum over rounds of q that arrived  +  e.

Nothing being lost for good, weights that make up for absence count late packets twice: with a
memory use ``DigitalPacket(compensate=False)`` where packets are lost and, where everybody computes,
the plain shares n_k/n as weights.
Source: rrm.md §7 (lost packets, unscheduled devices: derived).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.compress import Compressor, TopK
from rralloc.fl.link import Link
from rralloc.fl.schemes.packets import DigitalPacket, NothingToReport, Received, Scheme
from rralloc.fl.updates import clipped
from rralloc.numerics.counts import is_count
from rralloc.policy import Decision, Round
from rralloc.typing import Array


class Memory(Protocol):
    """What devices keep between rounds."""

    def gather(self, g: Array, computed: Array) -> Array:
        """Take in ``g (K, d)`` of the devices that ``computed (K,)``; what each would send."""

    def release(self, sent: Array, arrived: Array) -> None:
        """Let go of ``sent (K, d)`` where it ``arrived (K,)``."""


class Forgetful:
    """No memory: each round sends its own update, and what is lost is lost."""

    def gather(self, g: Array, computed: Array) -> Array:
        """The updates themselves."""
        return g

    def release(self, sent: Array, arrived: Array) -> None:
        """Nothing to let go of."""


class ErrorMemory:
    """Error feedback: e <- e + g;  e <- e - q."""

    def __init__(self, devices: int, weights: int) -> None:
        self.unsent: Array = np.zeros((devices, weights))
        """e ``(K, d)``."""

    def gather(self, g: Array, computed: Array) -> Array:
        """e <- e + g."""
        self.unsent[computed] += g[computed]
        return self.unsent

    def release(self, sent: Array, arrived: Array) -> None:
        """e <- e - q."""
        self.unsent[arrived] -= sent[arrived]


class MomentumMemory(ErrorMemory):
    """The memory of DGC: u <- m u + g, v <- v + u;  v <- v - q, u <- 0 where sent."""

    def __init__(
        self, devices: int, weights: int, momentum: float, longest: float | None, masking: bool
    ) -> None:
        super().__init__(devices, weights)
        self.momentum, self.longest, self.masking = momentum, longest, masking
        self.velocity: Array = np.zeros((devices, weights))
        """u ``(K, d)``; v is ``unsent``."""

    def gather(self, g: Array, computed: Array) -> Array:
        """u <- m u + g clipped to ``longest``;  v <- v + u."""
        u = self.velocity
        u[computed] = self.momentum * u[computed] + clipped(g[computed], self.longest)
        return super().gather(u, computed)

    def release(self, sent: Array, arrived: Array) -> None:
        """v <- v - q;  u <- 0 where q != 0."""
        super().release(sent, arrived)
        if self.masking:
            self.velocity[arrived[:, None] & (sent != 0)] = 0.0


@dataclass(frozen=True)
class DGC:
    """Deep gradient compression: top-k of a momentum memory, in four steps.

    With momentum m, K devices and the gradient g_k of a device (clipped: step 2),

    1. momentum correction   u <- m u + g,  v <- v + u;  send the k largest of v
    2. local clipping        g <- g min(1, clip/(sqrt K ||g||)), before it is taken in
    3. factor masking        v <- 0 and u <- 0 where sent (here: where the packet arrived)
    4. warm-up               density base^((e + 1)/(E + 1)) at epoch e = 0..E-1, then base

    density: base, in (0, 1]; k = max(1, ceil(density d)).
    momentum: m in [0, 1). It replaces the server's own; m = 0 is top-k with error feedback.
    clip: bound on the gradient norm, > 0, or None for no clipping. On label-sorted shards it hurts.
    warm_up: E >= 0 epochs of ``rounds_per_epoch`` >= 1 rounds. Packets are longer meanwhile.
    masking: step 3 for u; v is cleared in any case.

    bits: k (32 + ceil log2 d), the k of the round. Source: rrm.md §7; arXiv 1712.01887.

    Choose this when: packets must shrink a hundredfold or more and training uses momentum; give it
    to ``Compressed`` in the place of a compressor. Without momentum, ``TopK`` with error feedback
    is simpler and as good.
    """

    density: float = 0.001
    momentum: float = 0.9
    clip: float | None = None
    warm_up: int = 0
    rounds_per_epoch: int = 1
    masking: bool = True

    def __post_init__(self) -> None:
        allowed = {
            "density": (0 < self.density <= 1, "in (0, 1]"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "clip": (self.clip is None or 0 < self.clip < np.inf, "None or in (0, inf)"),
            "warm_up": (is_count(self.warm_up, 0), "a whole number >= 0"),
            "rounds_per_epoch": (is_count(self.rounds_per_epoch, 1), "a whole number >= 1"),
        }
        for option, (fine, range_) in allowed.items():
            if not fine:
                raise InvalidProblem(f"DGC.{option} = {getattr(self, option)!r} is not {range_}")

    @property
    def name(self) -> str:
        """DGC, its density, and what differs from its default."""
        told = [f"{100 * self.density:g}%"]
        told += [f"momentum {self.momentum:g}"] * (self.momentum != 0.9)
        told += [] if self.clip is None else [f"clip {self.clip:g}"]
        told += [f"warm-up {self.warm_up}"] * (self.warm_up > 0)
        told += ["no masking"] * (not self.masking)
        return f"DGC({', '.join(told)})"

    def density_at(self, index: int) -> float:
        """The density of round ``index`` = 0, 1, ...: base^((e + 1)/(E + 1)), then base."""
        epoch = min(index // self.rounds_per_epoch, self.warm_up)
        return float(self.density ** ((epoch + 1) / (self.warm_up + 1)))

    def memory(self, devices: int, weights: int) -> MomentumMemory:
        """An empty memory of K ``devices``."""
        longest = None if self.clip is None else self.clip / float(np.sqrt(devices))
        return MomentumMemory(devices, weights, self.momentum, longest, self.masking)


@dataclass(frozen=True)
class Compressed:
    """Devices send C(x) instead of x over a digital link; the packet is as long as C says.

    compressor: C (``rralloc.fl.compress``), or ``DGC``, which brings its own memory.
    error_feedback: what C left out is added to the next update; so is what the link lost. For
        compressors with relative error < 1: ``ScaledSign``, ``TopK``, ``QSGD`` with s near
        sqrt d. With a larger one (``RandK``, ``QSGD`` with few levels) the memory grows and grows.
    link: what carries the packets: ``DigitalPacket``, ``ErrorFree`` or anything with the
        ``transmit`` of a ``Scheme``. Losses, weights, time and energy are its affair. With a
        memory, ``DigitalPacket(compensate=False)`` where packets are lost.

    Floats have 32 bits, whatever ``Link.bits_per_weight`` says. ``rng`` first rounds, row by row
    of the scheduled devices, then goes to the link.
    Source: rrm.md §7; the memory's behaviour under losses: derived.

    Choose this when: the uplink is slow enough that a shorter packet is worth a coarser update.
    ``Compressed(TopK(0.01), error_feedback=True)`` is the one to beat.
    """

    compressor: Compressor | DGC
    error_feedback: bool = False
    link: Scheme = field(default_factory=DigitalPacket)

    def __post_init__(self) -> None:
        known = isinstance(self.compressor, DGC) or hasattr(self.compressor, "relative_error")
        if not known or isinstance(self.compressor, type):
            raise InvalidProblem(
                f"Compressed.compressor = {self.compressor!r} is not a compressor; "
                "give for instance TopK(0.01), QSGD(4) or DGC(0.01)"
            )
        if not hasattr(self.link, "transmit") or isinstance(self.link, type):
            raise InvalidProblem(
                f"Compressed.link = {self.link!r} has no transmit; "
                "give a scheme without memory such as DigitalPacket() or ErrorFree()"
            )

    @property
    def name(self) -> str:
        """Compressor, memory, link."""
        told = [self.compressor.name, self.link.name]
        if self.error_feedback and not isinstance(self.compressor, DGC):
            told.insert(1, "error feedback")
        return ", ".join(told)

    def begin(self, devices: int, weights: int) -> CompressedRun:
        """A training run of K ``devices`` that send vectors of d = ``weights`` entries."""
        memory: Memory = Forgetful()
        if isinstance(self.compressor, DGC):
            memory = self.compressor.memory(devices, weights)
        elif self.error_feedback:
            memory = ErrorMemory(devices, weights)
        return CompressedRun(self, memory, weights)


class CompressedRun(NothingToReport):
    """One training run: the memory of the devices and the number of the round."""

    def __init__(self, scheme: Compressed, memory: Memory, weights: int) -> None:
        self.scheme, self.memory, self.weights = scheme, memory, weights
        self.index = 0
        """Rounds so far."""

    @property
    def compressor(self) -> Compressor:
        """This round's C."""
        given = self.scheme.compressor
        return TopK(given.density_at(self.index)) if isinstance(given, DGC) else given

    @property
    def payload_bit(self) -> float:
        """Bits of one packet of this round."""
        return self.compressor.bits(self.weights)

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Compress what the scheduled rows of ``updates (K, d)`` and the memory hold, and send it.

        ``round.payload_bit`` is replaced by this round's packet, so that time and energy are right
        whoever made the round.
        """
        scheduled = decision.scheduled
        wanted = self.memory.gather(updates, scheduled | round.everybody_computes)
        sent = np.zeros_like(updates)
        # Diverged training goes on with what it has, as with every other scheme.
        known = scheduled & np.isfinite(wanted).all(axis=1)
        sent[scheduled & ~known] = wanted[scheduled & ~known]
        sent[known] = self.compressor(wanted[known], rng)
        packets = replace(round, payload_bit=self.payload_bit)
        received = self.scheme.link.transmit(sent, decision, packets, gain, link, rng)
        self.memory.release(sent, received.arrived)
        self.index += 1
        return received
