"""Compressed over-the-air aggregation (A-DSGD, CSOverAir): sparsify, project, add up, recover.

Of d entries device k sends s < d symbols. With w_k the weight of its update, n who send, A
``(s - 1, d)`` with entries N(0, 1/(s - 1)) that both sides draw from one seed, and c_k the channel
along the beam,

    1. device   q_k = top_k(e_k + g_k)                  the rest stays in the memory e_k
    2.          z_k = [A (n w_k q_k); 1]                for equal weights, n w_k = 1
    3.          sends sqrt(alpha_k)/c_k z_k,  alpha_k = s P_k |c_k|^2/(|A n w_k q_k|^2 + 1)
    4. server   hears y = sum_k sqrt(alpha_k) z_k + noise and divides by its last entry:
                A u + noise,   u = n sum_k sqrt(alpha_k) w_k q_k / sum_k sqrt(alpha_k)
    5.          u from approximate message passing

With own alpha_k a device spends exactly s P_k, and u is biased towards who is loud; with the common
alpha = min_k alpha_k the sum is the wanted one, u = sum_k w_k q_k, and only the weakest spends all.

What has to be recovered is the *union* of the supports: require |union|/s <= 0.2 or so. Twenty
devices with independent supports of 0.1 s entries fill 1.29 s, and little comes back.

Source: spec ota.md §5; a reconstruction of arXiv 1901.00844 and 1907.09769. Weights, the common
alpha, the void rounds: derived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rralloc.fl.compress import TopK
from rralloc.fl.schemes.air_memory import AirMemoryRun, Channel, Exchanged, require, uses_of
from rralloc.fl.streams import Streams
from rralloc.numerics.amp import amp, guarded
from rralloc.typing import Array

CLEAR = 3.0
"""Standard deviations of noise by which the last symbol must exceed 0; else the round is void."""


@dataclass(frozen=True)
class AnalogCompressed:
    """Top-k entries, projected to fewer symbols, over an ``AirLink``.

    share: s/d in (0, 1], the channel uses; s >= 2. density: k/s in (0, 1], what a device keeps.
    threshold: of ``amp``, > 0. common_power: one alpha for all (unbiased), or each its own (as in
        the paper: weights follow the power that a device needs).
    error_feedback: what was not sent is added to the next update. steps: of ``amp``, at most.
    guard: shrink a recovery that is mostly noise (``numerics.amp.guarded``). A round is then never
        worse than no update, but training is slower: what is shrunk away is lost, while noise
        averages out over rounds. On digits it helped nowhere and cost up to 0.27 of accuracy.
    least_gain: share of the mean |m^H h|^2 of the scheduled, in [0, 1), below which a device stays
        silent and keeps everything; inverting a deep fade would cost all others.
    seed: of the projection; it is drawn once for a training run.

    One real number a channel use; s/B seconds. A round whose last symbol is not clear of the noise
    is void: everybody keeps everything. A takes 8 s d bytes.

    Choose this when d is large, supports agree or s is several times their union, and the SNR is
    low. Compare with ``SharedMask``, which needs no recovery and is hard to beat.
    """

    share: float = 0.5
    density: float = 0.05
    threshold: float = 1.4
    common_power: bool = True
    error_feedback: bool = True
    guard: bool = False
    steps: int = 50
    least_gain: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            "AnalogCompressed",
            {
                "share": (self.share, 0 < self.share <= 1, "in (0, 1]"),
                "density": (self.density, 0 < self.density <= 1, "in (0, 1]"),
                "threshold": (self.threshold, 0 < self.threshold < np.inf, "in (0, inf)"),
                "steps": (self.steps, self.steps >= 1, ">= 1"),
                "least_gain": (self.least_gain, 0 <= self.least_gain < 1, "in [0, 1)"),
            },
        )

    @property
    def name(self) -> str:
        """For tables."""
        words = [f"compressed over the air, s/d {self.share:g}, k/s {self.density:g}"]
        words += ["own power"] * (not self.common_power)
        words += ["no error feedback"] * (not self.error_feedback)
        words += ["guarded"] * self.guard
        return ", ".join(words)

    def uses(self, weights: int) -> int:
        """s, for d = ``weights``."""
        return uses_of(self.share, weights, least=2)

    def kept(self, weights: int) -> int:
        """k >= 1, for d = ``weights``."""
        return max(1, round(self.density * self.uses(weights)))

    def projection(self, weights: int) -> Array:
        """A ``(s - 1, d)``, N(0, 1/(s - 1))."""
        rows = self.uses(weights) - 1
        rng = Streams(self.seed).rng("projection")
        return rng.standard_normal((rows, weights)) / np.sqrt(rows)

    def begin(self, devices: int, weights: int) -> AnalogCompressedRun:
        """A run of K ``devices`` that hold vectors of d = ``weights`` entries."""
        return AnalogCompressedRun(self, devices, weights)


class AnalogCompressedRun(AirMemoryRun):
    """One training run: the memory of the devices, and the projection."""

    def __init__(self, scheme: AnalogCompressed, devices: int, weights: int) -> None:
        super().__init__(devices, weights, scheme.least_gain, scheme.error_feedback)
        self.scheme, self.A = scheme, scheme.projection(weights)
        self.top = TopK(scheme.kept(weights))

    @property
    def uses(self) -> int:
        """s."""
        return len(self.A) + 1

    def exchange(self, x: Array, weight: Array, air: Channel) -> Exchanged:
        """Project the largest entries, add, recover."""
        # 1. The largest entries, and 2. their projection with a last symbol that says how loud.
        q, senders = self.top(x), len(x)
        z = np.hstack([(senders * weight)[:, None] * q @ self.A.T, np.ones((senders, 1))])
        # 3. As loud as the energy of a round allows, for each or for the weakest.
        alpha = self.uses * air.power_w * air.gain / np.einsum("ks,ks->k", z, z)
        if self.scheme.common_power:
            alpha = np.full(senders, alpha.min())
        y, energy = air.add(z, np.sqrt(alpha))
        # 4. Divide by what all together made of the 1, if it can be told from noise.
        if not y[-1] > CLEAR * np.sqrt(air.noise_w):
            return Exchanged(np.zeros(self.weights), None, energy, self.uses)
        # 5. Recover.
        found = amp(
            self.A, y[:-1] / y[-1], threshold=self.scheme.threshold, steps=self.scheme.steps
        )
        return Exchanged(guarded(found) if self.scheme.guard else found.x, q, energy, self.uses)
