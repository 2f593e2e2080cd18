"""What MinMaxLatency and DeviceCount share: the uplink's fields and the band a time needs.

r_k(b) = b log2(1 + P_k g_k/(N0 b)) [bit/s], latency c_k + S_k/r_k(b_k) [s], and its inverse: the
least band with which device k finishes by time t. Source: spec rrm.md §5, derived.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rralloc.channel import NOISE_PSD_W_PER_HZ, Cell, macro_3gpp, rayleigh
from rralloc.fields import Constraint, data
from rralloc.numerics.logexp import LN2
from rralloc.numerics.rates import min_bandwidth, min_bandwidth_slope, rate
from rralloc.numerics.shapes import within_budget
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point

# A time t is a proven lower bound once more than the whole band is needed to finish by then. From
# a point alone the times tried lie this far (relatively) below its latency.
LADDER = np.array([0.0, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])


class Uplink(Problem):
    """Fields and quantities that both problems share; not a problem by itself."""

    sense = "min"
    unit = "s"
    source = "arXiv 2007.07174, 1911.03878 (ideas); rrm.md §5, derived"

    path_gain: Field = data("K", unit="1", low=0, doc="channel power gain")
    compute_s: Field = data("K", unit="s", low=0, doc="time to compute the update")
    payload_bit: Field = data("K", unit="bit", low=0, doc="size of the update")
    power_w: Field = data("K", unit="W", low=0, doc="transmit power")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")
    noise_psd_w_hz: Field = data(
        unit="W/Hz", low=0, open_low=True, default=NOISE_PSD_W_PER_HZ, doc="noise density"
    )

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Devices uniform in a 500 m cell, 3GPP macro path loss, Rayleigh fading.

        c ~ U(0.1, 0.5) s, 0.1 W each, 1 Mbit updates, 1 MHz.
        """
        count = int(np.prod(shape))
        distance = Cell(500.0, 50.0).drop(count, rng).distance_m.reshape(shape)
        return {
            "path_gain": macro_3gpp(distance) * rayleigh(shape, rng),
            "compute_s": rng.uniform(0.1, 0.5, size=shape),
            "payload_bit": 1e6,
            "power_w": 0.1,
            "bandwidth_budget_hz": 1e6,
        }

    @property
    def snr_bandwidth_hz(self) -> Array:
        """a_k = P_k g_k/N0, Hz."""
        return self.power_w * self.path_gain / self.noise_psd_w_hz[..., None]

    def latency(self, bandwidth_hz: Array) -> Array:
        """c_k + S_k/r_k(b_k) ``(..., K)``; inf without band or channel, c_k without payload."""
        speed = rate(bandwidth_hz, self.snr_bandwidth_hz)
        empty = np.real(speed) <= 0
        air = np.where(empty, np.inf, self.payload_bit / np.where(empty, 1.0, speed))
        return self.compute_s + np.where(self.payload_bit > 0, air, 0.0)

    def needed(self, time_s: Array) -> Array:
        """Least band ``(..., K)`` to finish by ``time_s (...)``; inf if never."""
        window = time_s[..., None] - self.compute_s
        with np.errstate(divide="ignore", invalid="ignore"):
            speed = np.where(window > 0, self.payload_bit / window, np.inf)
        speed = np.where(self.payload_bit > 0, speed, np.where(window >= 0, 0.0, np.inf))
        return min_bandwidth(speed, self.snr_bandwidth_hz)

    def needed_slope(self, time_s: Array, band: Array) -> Array:
        """Derivative of ``needed``: 1/r'(b) times dR/dt = -S/(t-c)^2."""
        window = time_s[..., None] - self.compute_s
        with np.errstate(all="ignore"):
            fall = min_bandwidth_slope(band, self.snr_bandwidth_hz) * self.payload_bit / window**2
        return np.where((band > 0) & (window > 0), -fall, 0.0)

    @property
    def earliest_s(self) -> Array:
        """c_k + S_k ln2/a_k ``(..., K)``: with infinite band; no device is ever faster."""
        with np.errstate(divide="ignore", invalid="ignore"):
            air = self.payload_bit * LN2 / self.snr_bandwidth_hz
        return self.compute_s + np.where(self.payload_bit > 0, air, 0.0)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band."""
        slack = self.bandwidth_budget_hz - x["bandwidth_hz"].sum(-1)
        return (Constraint("total bandwidth", slack, "Hz", self.bandwidth_budget_hz),)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip to b >= 0 and scale down onto the band."""
        return {"bandwidth_hz": within_budget(x["bandwidth_hz"], self.bandwidth_budget_hz)}
