"""What schemes share that send part of an update over the air and remember the rest.

In a round, with m the beam, h_k the channel and g_k the update of device k,

    1. heard     c_k = m^H h_k;  silent where |c_k|^2 < least_gain mean |c|^2 of the scheduled
    2. gather    x_k = e_k + g_k           who is scheduled has computed, silent or not
    3. exchange  q_k, a part of x_k, is sent;  the server estimates sum_k w_k q_k
    4. release   e_k = x_k - q_k           who sent; the others keep all of x_k

so that for each device  sum of g = sum of q + e  always. Every round has the same number of channel
uses, one real number each, and device k spends at most (uses P_k)/B in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rralloc.errors import InvalidProblem
from rralloc.fl.air_link import AirLink
from rralloc.fl.link import Link
from rralloc.fl.schemes.compressed import ErrorMemory, Forgetful, Memory
from rralloc.fl.schemes.over_the_air import (
    air_of,
    beam_of,
    computing,
    power_of,
    rms,
    symbol_energy,
)
from rralloc.fl.schemes.packets import NothingToReport, Received
from rralloc.policy import Decision, Round
from rralloc.typing import Array


@dataclass(frozen=True, eq=False)
class Channel:
    """The air in one round, for the n devices that send.

    known: hhat ``(N, K)``. beam: m ``(N,)``. power: P ``(K,)``. senders: who they are ``(K,)``; the
    rest is ``(n,)``.
    """

    link: AirLink
    round: Round
    known: Array
    beam: Array
    power: Array
    senders: Array
    rng: np.random.Generator

    @property
    def heard(self) -> Array:
        """c_k."""
        return np.asarray(self.beam.conj() @ self.known[:, self.senders])

    @property
    def gain(self) -> Array:
        """|c_k|^2 ``(n,)``."""
        return np.asarray(np.abs(self.heard) ** 2)

    @property
    def power_w(self) -> Array:
        """P_k."""
        return np.asarray(self.power[self.senders])

    @property
    def noise_w(self) -> float:
        """sigma^2 |m|^2/2, the power of the noise in Re(m^H y)."""
        return self.link.noise_w * float(np.linalg.norm(self.beam)) ** 2 / 2

    def add(self, symbols: Array, scale: Array | float) -> tuple[Array, Array]:
        """sum_k scale_k symbols_k + noise ``(uses,)`` of rows ``(n, uses)``, and J ``(K,)``.

        Each device divides by its c_k first, so that nothing but ``scale`` is left of the channel.
        """
        everybody = np.zeros((self.senders.size, symbols.shape[1]))
        everybody[self.senders] = symbols
        factor = np.zeros(self.senders.size, dtype=complex)
        factor[self.senders] = scale / self.heard
        energy = symbol_energy(factor, everybody, self.round, self.link)
        return self.link.hear(everybody, factor, self.beam, self.known, self.rng), energy


class Exchanged(NamedTuple):
    """The estimate ``(d,)``, what each sender gave away ``(n, d)`` and J ``(K,)``.

    ``given`` is None where nothing got through: then all keep all. bits: of all packets together.
    """

    estimate: Array
    given: Array | None
    energy_j: Array
    uses: int
    bits: float = 0.0


class AirMemoryRun(NothingToReport):
    """One training run: the memory of the devices, and the number of the round."""

    over_the_air = True
    payload_bit: float | None = None

    def __init__(self, devices: int, weights: int, least_gain: float, remembers: bool) -> None:
        self.weights, self.least_gain = weights, least_gain
        self.memory: Memory = ErrorMemory(devices, weights) if remembers else Forgetful()
        self.index = 0
        """Rounds so far."""

    @property
    def uses(self) -> int:
        """Channel uses of a round."""
        raise NotImplementedError

    def exchange(self, x: Array, weight: Array, air: Channel) -> Exchanged:
        """Send part of the rows ``x (n, d)`` and estimate their sum with ``weight (n,)``."""
        raise NotImplementedError

    def transmit(
        self,
        updates: Array,
        decision: Decision,
        round: Round,
        gain: Array,
        link: Link,
        rng: np.random.Generator,
    ) -> Received:
        """Send what fits of memory and update over the channel ``gain (N, K)``."""
        link, beam = air_of(link), beam_of(decision, gain)
        # 1. Who is heard.
        heard, scheduled = np.abs(beam.conj() @ gain) ** 2, decision.scheduled
        power = power_of(decision, round)
        mean = heard[scheduled].mean() if scheduled.any() else 0.0
        sends = scheduled & (decision.weight > 0) & (power > 0) & (heard > 0)
        sends &= heard >= self.least_gain * mean
        # 2. What each would like to send.
        computed = scheduled | round.everybody_computes
        x, weight = self.memory.gather(updates, computed)[sends], decision.weight[sends]
        # 3. What gets through.
        air = Channel(link, round, gain, beam, power, sends, rng)
        if not sends.any():
            done = Exchanged(np.zeros(self.weights), None, np.zeros(len(sends)), 0)
        elif not np.isfinite(rms(x, np.ones(len(x), dtype=bool))).all():  # diverged: go on with it
            done = Exchanged(np.full(self.weights, np.nan), x, np.zeros(len(sends)), self.uses)
        else:
            done = self.exchange(x, weight, air)
        # 4. What need not be sent again.
        arrived = sends & (done.given is not None)
        if done.given is not None:
            rows = np.zeros((len(sends), self.weights))
            rows[sends] = done.given
            self.memory.release(rows, arrived)
        self.index += 1
        waiting, joules = computing(decision, round, sends & (done.uses > 0))
        return Received(
            estimate=done.estimate,
            arrived=arrived,
            seconds=waiting + done.uses / link.bandwidth_hz,
            joules=float(done.energy_j.sum()) + joules,
            bits=done.bits,
            energy_j=done.energy_j,
        )


def uses_of(share: float, weights: int, least: int = 1) -> int:
    """s: ``share`` of d channel uses, at least ``least``."""
    return max(round(share * weights), least)


def require(label: str, options: dict[str, tuple[object, bool, str]]) -> None:
    """InvalidProblem for the first option ``name: (value, fine, range)`` that is not fine."""
    for name, (value, fine, range_) in options.items():
        if not fine:
            raise InvalidProblem(f"{label}.{name} = {value!r} is not {range_}")
