"""Digital distributed SGD (D-DSGD): all devices at the capacity of the shared channel, few entries.

M devices share s uses of a Gaussian channel with real noise sigma^2 a use. Each may send

    R = min_j s/(2 j) log2(1 + (sum of the j weakest P_k |c_k|^2)/sigma^2)     bits

the largest rate that all can have at once; for equal gains it is s/(2 M) log2(1 + M P/sigma^2). A
device with x = e + g keeps q entries of one common value,

    1. q        = max{q: log2 binom(d, q) + 33 <= R}            places, one float and a sign
    2. mu+, mu- = means of the positive among the q largest, of the negative among the q smallest
    3. sends mu+ at its places if mu+ > |mu-|, else mu- at its places; the rest stays in the memory

With q = 0 nothing fits and nothing is sent, in no time.

Source: spec ota.md §5; a reconstruction of arXiv 1901.00844. Unequal gains (symmetric capacity of
the multiple access channel): derived.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rralloc.fl.schemes.air_memory import AirMemoryRun, Channel, Exchanged, require, uses_of
from rralloc.typing import Array

VALUE_BITS = 33
"""Bits of the common value and its sign."""


@dataclass(frozen=True)
class DigitalDSGD:
    """Sign-grouped means at the capacity of an ``AirLink``: the digital rival of analog sums.

    share: s/d in (0, 1], the channel uses; s >= 1. error_feedback: what was not sent is added to
        the next update. least_gain: share of the mean |m^H h|^2 of the scheduled, in [0, 1), below
        which a device stays silent and keeps everything.

    Ideal codes: what is within capacity arrives without error, at any length. Errors of the channel
    knowledge, phases and delays of the link do not touch it.

    Choose this when a comparison needs its digital row. It wins where M P/sigma^2 is large; at low
    power not one entry fits.
    """

    share: float = 0.5
    error_feedback: bool = True
    least_gain: float = 0.01

    def __post_init__(self) -> None:
        require(
            "DigitalDSGD",
            {
                "share": (self.share, 0 < self.share <= 1, "in (0, 1]"),
                "least_gain": (self.least_gain, 0 <= self.least_gain < 1, "in [0, 1)"),
            },
        )

    @property
    def name(self) -> str:
        """For tables."""
        words = [f"digital DSGD, s/d {self.share:g}"]
        words += ["no error feedback"] * (not self.error_feedback)
        return ", ".join(words)

    def uses(self, weights: int) -> int:
        """s, for d = ``weights``."""
        return uses_of(self.share, weights)

    def begin(self, devices: int, weights: int) -> DigitalDSGDRun:
        """A run of K ``devices`` that hold vectors of d = ``weights`` entries."""
        return DigitalDSGDRun(self, devices, weights)


class DigitalDSGDRun(AirMemoryRun):
    """One training run: the memory of the devices."""

    def __init__(self, scheme: DigitalDSGD, devices: int, weights: int) -> None:
        super().__init__(devices, weights, scheme.least_gain, scheme.error_feedback)
        self.scheme = scheme

    @property
    def uses(self) -> int:
        """s."""
        return self.scheme.uses(self.weights)

    def exchange(self, x: Array, weight: Array, air: Channel) -> Exchanged:
        """Send as many places as fit, and one value."""
        count = entries(rate_bits(air.power_w * air.gain / air.noise_w, self.uses), self.weights)
        energy = np.zeros(air.senders.size)
        if count == 0:
            return Exchanged(np.zeros(self.weights), None, energy, 0)
        q = grouped(x, count)
        energy[air.senders] = self.uses * air.power_w / air.link.bandwidth_hz
        bits = len(x) * packet_bits(count, self.weights)
        return Exchanged(weight @ q, q, energy, self.uses, bits)


def rate_bits(snr: Array, uses: int) -> float:
    """R: bits that each of n devices with ``snr (n,)`` a real use can send in ``uses`` uses."""
    together = np.cumsum(np.sort(snr))
    each = np.log2(1.0 + together) / (2.0 * np.arange(1, len(snr) + 1))
    return uses * float(each.min())


def packet_bits(count: int, weights: int) -> float:
    """log2 binom(d, q) + 33."""
    whole, part, rest = (math.lgamma(n + 1) for n in (weights, count, weights - count))
    return (whole - part - rest) / math.log(2) + VALUE_BITS


def entries(bits: float, weights: int) -> int:
    """The largest q <= d/2 whose packet has at most ``bits``; 0 if not even one fits."""
    low, high = 0, weights // 2  # packets grow up to d/2
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if packet_bits(middle, weights) <= bits else (low, middle - 1)
    return low


def grouped(x: Array, count: int) -> Array:
    """Each row of ``x (n, d)`` reduced to one value at up to ``count`` places."""
    out = np.zeros_like(x)
    for row, to in zip(x, out, strict=True):
        order = np.argsort(row, kind="stable")
        low, high = order[:count], order[::-1][:count]
        low, high = low[row[low] < 0], high[row[high] > 0]
        mean_low = float(row[low].mean()) if low.size else 0.0
        mean_high = float(row[high].mean()) if high.size else 0.0
        if mean_high > -mean_low:
            to[high] = mean_high
        else:
            to[low] = mean_low
    return out
