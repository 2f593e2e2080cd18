"""What one round of MADS is made of: fields, variables, value, constraints, projection.

The optimum, its proof and the other forms are in mads.py. Source: spec mads.md §2.6-2.7, derived.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from rralloc.errors import InvalidProblem, NotOffered
from rralloc.fields import Constraint, data, option, variable
from rralloc.numerics.rates import efficiency
from rralloc.problem import Problem
from rralloc.problems import _mads_kernel as kernel
from rralloc.problems._mads_kernel import Devices, Gain, Packet
from rralloc.typing import Array, Field, Point

CODINGS = ("index", "bitmap", "dense", "best")
FINITE = float(np.finfo(float).max)
"""The least value allowed is any finite one: a negative value is silence, -inf a mistake."""


class Upload(Problem):
    """Fields and evaluation; not a problem that is offered by itself."""

    sense = "max"
    source = "arXiv 2506.07328 (abstract, reviews; a reconstruction); mads.md §2, derived"

    value: Field = data("N", unit="1", low=-FINITE, inf=True, doc="value of a kept coordinate, V w")
    energy_price: Field = data("N", unit="1/J", low=0, inf=True, doc="price of energy (backlog), Q")
    contact_s: Field = data("N", unit="s", low=0, doc="upload time in this round, tau")
    snr_per_watt: Field = data("N", unit="1/W", low=0, doc="gain over noise power, g = h/(N0 B)")
    model_size: Field = data("N", unit="1", low=1, doc="number of parameters, s")
    bits_per_coordinate: Field = data(
        "N", unit="bit", low=0, open_low=True, doc="bits of a kept coordinate, b"
    )
    bandwidth_hz: Field = data("N", unit="Hz", low=0, open_low=True, doc="bandwidth, B")
    power_max_w: Field = data("N", unit="W", low=0, doc="largest transmit power")
    integer: bool = option(default=False, choices=(True, False), doc="keep a whole number")
    circuit_power_w: Field = data("N", unit="W", low=0, default=0.0, doc="circuits' power")
    header_bits: Field = data("N", unit="bit", low=0, default=0.0, doc="bits of a header, b0")
    coding: str = option(default="index", choices=CODINGS, doc="how the positions are sent")
    dense_bits_per_coordinate: Field = data(
        "N", unit="bit", low=0, open_low=True, default=None, doc="bits without the position, q"
    )
    residual: Field = data(
        "N s", unit="1", low=0, default=None, doc="squared entries of the update"
    )
    energy_budget_j: Field = data("N", unit="J", low=0, default=None, doc="energy left to spend")

    kept = variable("N", unit="1", low=0, high="model_size", scale="kept_max", doc="coordinates")
    power_w = variable(
        "N", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="transmit power"
    )
    airtime_s = variable("N", unit="s", low=0, high="contact_s", scale="contact_s", doc="time")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """2410 parameters over 4 kHz, a fifth of the contacts missed: all four cases occur."""
        missed = rng.random(shape) >= 0.8
        return {
            "value": 1.2 * rng.gamma(2.0, 0.5, size=shape) / 2410,
            "energy_price": rng.uniform(0.02, 1.0, size=shape),
            "contact_s": np.where(missed, 0.0, rng.exponential(4.0, size=shape)),
            "snr_per_watt": 10 ** rng.uniform(0.5, 3.5, size=shape),
            "model_size": 2410,
            "bits_per_coordinate": 44,
            "bandwidth_hz": 4000.0,
            "power_max_w": 0.2,
        }

    def check(self) -> None:
        """A curve has s entries; without positions a coordinate still has bits."""
        if self.residual is not None and (self.model_size != self.sizes["s"]).any():
            raise InvalidProblem(
                f"MADS.residual has {self.sizes['s']} entries for each device; model_size is "
                f"{self.model_size.flat[0]:g}, give as many"
            )
        if self.coding != "index" and not (self.dense_bits > 0).all():
            raise InvalidProblem(
                "MADS.bits_per_coordinate leaves nothing beside the position, b <= ceil(log2 s); "
                "give dense_bits_per_coordinate for this coding"
            )

    # -- what the kernel needs ----------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """k is a whole number: asked for, or because a curve is given."""
        return bool(self.integer) or self.residual is not None

    @property
    def linear_bits(self) -> bool:
        """k coordinates take k b bits: no header, no choice of coding."""
        return self.coding == "index" and not self.header_bits.any()

    @property
    def dense_bits(self) -> Array:
        """q: given, or b - ceil(log2 s)."""
        if self.dense_bits_per_coordinate is not None:
            return np.asarray(self.dense_bits_per_coordinate)
        return self.bits_per_coordinate - np.ceil(np.log2(self.model_size))

    @cached_property
    def devices(self) -> Devices:
        """The arrays of the kernel; circuits and budget only where they are used."""
        return Devices(
            *(self.value, self.energy_price, self.contact_s, self.snr_per_watt),
            *(self.model_size, self.bandwidth_hz, self.power_max_w),
            circuit=self.circuit_power_w if self.circuit_power_w.any() else None,
            budget=self.energy_budget_j,
        )

    @cached_property
    def packets(self) -> tuple[Packet, ...]:
        """The ways of sending k coordinates that this instance allows (V3)."""
        b0, s, q = self.header_bits, self.model_size, self.dense_bits
        ways = {
            "index": lambda: Packet(self.bits_per_coordinate, b0 if b0.any() else None),
            "bitmap": lambda: Packet(q, b0 + s),
            "dense": lambda: Packet(np.zeros_like(q), b0 + s * q),
        }
        return tuple(ways[name]() for name in CODINGS[:3] if self.coding in (name, "best"))

    @cached_property
    def gain(self) -> Gain:
        """W k, or W sum_{j <= k} c_(j)/mean(c)."""
        if self.residual is None:
            return Gain(self.value)
        entries = -np.sort(-self.residual, axis=-1)
        mean = entries.mean(-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            worth = self.value[..., None] * (entries / np.where(mean > 0, mean, 1.0))
        return Gain(self.value, np.where(entries > 0, worth, 0.0))

    def _largest(self, y: Array | float = np.inf) -> Array:
        """The largest k that some packet carries at efficiency y within the limits ``(..., N)``."""
        found = [kernel.most(self.devices, packet, y) for packet in self.packets]
        return self._floor(np.maximum.reduce(found))

    def _floor(self, kept: Array) -> Array:
        return np.floor(kept * (1 + kernel.ROUNDING)) if self.whole else kept

    @cached_property
    def kept_max(self) -> Array:
        """The largest k that fits ``(..., N)``."""
        return self._full(self._largest())

    def _full(self, values: Array) -> Array:
        return np.broadcast_to(values, self.shape_of(type(self).kept))

    # -- evaluation -------------------------------------------------------------------------

    def energy_j(self, x: Point) -> Array:
        """t (p + P_c [k > 0]) ``(..., N)``, J."""
        sends = np.real(x["kept"]) > 0
        return x["airtime_s"] * (x["power_w"] + np.where(sends, self.circuit_power_w, 0.0))

    def objective(self, x: Point) -> Array:
        """Value of what is kept minus the price of the energy; -inf at an infinite price."""
        kept, energy = x["kept"], self.energy_j(x)
        with np.errstate(invalid="ignore"):
            each = self.gain.of(kept) - np.where(energy != 0, self.energy_price * energy, 0.0)
            free = np.isfinite(self.energy_price) | (np.real(energy) <= 0)
            return np.where(free.all(-1), np.where(free, each, 0.0).sum(-1), -np.inf)

    def gradient(self, x: Point) -> dict[str, Array]:
        """W, -Q t, -Q p; refused where sending has a fixed cost or k is whole."""
        self._refuse_kinks()
        shape = self.shape_of(type(self).kept)
        return {
            "kept": np.broadcast_to(self.value, shape),
            "power_w": np.broadcast_to(-self.energy_price * x["airtime_s"], shape),
            "airtime_s": np.broadcast_to(-self.energy_price * x["power_w"], shape),
        }

    def needed_bits(self, kept: Array) -> Array:
        """Bits that k coordinates take, by the shortest packet; 0 for none."""
        sizes = [packet.size(kept) for packet in self.packets]
        if self.linear_bits:
            return sizes[0]
        return np.where(np.real(kept) > 0, np.minimum.reduce(sizes), 0.0)

    def sent_bits(self, x: Point) -> Array:
        """t B log2(1 + p g); 0 where p g <= -1, outside the domain."""
        return x["airtime_s"] * (self.bandwidth_hz * efficiency(x["power_w"] * self.snr_per_watt))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The upload fits; the energy is there; k is whole."""
        kept = x["kept"]
        room = self.sent_bits(x) - self.needed_bits(kept)
        found = [Constraint("upload fits", room, "bit", self.needed_bits(self.kept_max))]
        if self.energy_budget_j is not None:
            left = self.energy_budget_j - self.energy_j(x)
            found.append(Constraint("energy budget", left, "J", self.energy_budget_j))
        if self.whole:
            found.append(Constraint("kept is whole", kept - np.rint(kept), "1", 1.0, equality=True))
        return tuple(found)

    def project(self, x: Point) -> dict[str, Array]:
        """Clip p and t, shorten t to the energy budget, keep no more than then fits."""
        power = np.clip(x["power_w"], 0, self.power_max_w)
        time = np.clip(x["airtime_s"], 0, self.contact_s)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.energy_budget_j is not None:
                drawn = power + self.circuit_power_w
                lasts = np.where(drawn > 0, self.energy_budget_j / drawn, np.inf)
                time = np.minimum(time, lasts)
            room = self.sent_bits({"power_w": power, "airtime_s": time})
            fits = [self._fitting(packet, room) for packet in self.packets]
        kept = self._floor(np.clip(x["kept"], 0, np.maximum.reduce(fits)))
        return {
            "kept": self._full(kept),
            "power_w": self._full(np.where(kept > 0, power, 0.0)),
            "airtime_s": self._full(np.where(kept > 0, time, 0.0)),
        }

    def _fitting(self, packet: Packet, room: Array) -> Array:
        """The largest k whose packet has at most so many bits."""
        part = (room - (0.0 if packet.header is None else packet.header)) / packet.bits
        part = np.where(packet.bits > 0, np.clip(part, 0.0, self.model_size), 0.0)
        return np.where(packet.size(self.model_size) <= room, self.model_size, part)

    def _refuse_kinks(self) -> None:
        """Derivatives say nothing where sending the first bit costs a jump, or k is whole."""
        if self.whole:
            raise NotOffered("a whole number of coordinates has no derivative")
        if not self.linear_bits or self.circuit_power_w.any():
            raise NotOffered("header, circuit power or a choice of coding: sending costs a jump")
