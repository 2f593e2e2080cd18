"""A shared random mask over the air: all devices send the same entries, drawn anew each round.

    1. both sides   S_t: s of d entries, uniform without replacement, from seed and round
    2. device k     q_k = x_k on S_t, 0 elsewhere;  x_k = e_k + g_k, the rest stays in the memory
    3.              sends sqrt(eta)/c_k w_k q_k,  eta = min_k s P_k |c_k|^2/|w_k q_k|^2
    4. server       hears sqrt(eta) sum_k w_k q_k + noise on S_t, and divides by sqrt(eta)

The supports agree by construction, so that the sum has s entries whatever K is, and nothing has to
be recovered: the estimate is unbiased on S_t, with noise sigma^2 |m|^2/(2 eta) an entry. An entry
waits d/s rounds on average for its turn; the memory adds up meanwhile.

Source: spec ota.md §5, where it is the strongest baseline; a known idea (shared patterns), this
form: derived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rralloc.fl.schemes.air_memory import AirMemoryRun, Channel, Exchanged, require, uses_of
from rralloc.fl.streams import Streams
from rralloc.typing import Array


@dataclass(frozen=True)
class SharedMask:
    """The same s random entries of every update, uncompressed over an ``AirLink``.

    share: s/d in (0, 1], the channel uses; s >= 1. error_feedback: what was not sent is added to
        the next update; without it the step is only s/d of the update, on average.
    least_gain: share of the mean |m^H h|^2 of the scheduled, in [0, 1), below which a device stays
        silent and keeps everything. seed: of the masks.

    One real number a channel use; s/B seconds. The scale eta is told for free.

    Choose this when the uplink should be shorter by d/s and no recovery may fail. On digits it is
    about 0.01 below sending everything at s/d = 0.1, and 0.04 to 0.06 at 0.05.
    """

    share: float = 0.1
    error_feedback: bool = True
    least_gain: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            "SharedMask",
            {
                "share": (self.share, 0 < self.share <= 1, "in (0, 1]"),
                "least_gain": (self.least_gain, 0 <= self.least_gain < 1, "in [0, 1)"),
            },
        )

    @property
    def name(self) -> str:
        """For tables."""
        words = [f"shared mask over the air, s/d {self.share:g}"]
        words += ["no error feedback"] * (not self.error_feedback)
        return ", ".join(words)

    def uses(self, weights: int) -> int:
        """s, for d = ``weights``."""
        return uses_of(self.share, weights)

    def mask(self, index: int, weights: int) -> Array:
        """S_t: the s entries of round t = ``index``, in rising order."""
        rng = Streams(self.seed).rng("mask", index)
        return np.sort(rng.permutation(weights)[: self.uses(weights)])

    def begin(self, devices: int, weights: int) -> SharedMaskRun:
        """A run of K ``devices`` that hold vectors of d = ``weights`` entries."""
        return SharedMaskRun(self, devices, weights)


class SharedMaskRun(AirMemoryRun):
    """One training run: the memory of the devices."""

    def __init__(self, scheme: SharedMask, devices: int, weights: int) -> None:
        super().__init__(devices, weights, scheme.least_gain, scheme.error_feedback)
        self.scheme = scheme

    @property
    def uses(self) -> int:
        """s."""
        return self.scheme.uses(self.weights)

    def exchange(self, x: Array, weight: Array, air: Channel) -> Exchanged:
        """Send this round's entries."""
        # 1. The entries of this round, and 2. what each device has there.
        mask = self.scheme.mask(self.index, self.weights)
        q, estimate = np.zeros_like(x), np.zeros(self.weights)
        q[:, mask] = x[:, mask]
        # 3. As loud as the weakest allows.
        symbols = weight[:, None] * x[:, mask]
        energy = np.einsum("ks,ks->k", symbols, symbols)
        if not energy.any():
            return Exchanged(estimate, q, np.zeros(air.senders.size), self.uses)
        most = self.uses * air.power_w * air.gain
        eta = float((most[energy > 0] / energy[energy > 0]).min())
        y, used = air.add(symbols, np.sqrt(eta))
        # 4. The sum on the mask; 0 elsewhere.
        estimate[mask] = y / np.sqrt(eta)
        return Exchanged(estimate, q, used, self.uses)
