"""MADS when nobody knows how long a contact lasts: an upload arrives whole or not at all.

    max  sum_n W_n k_n e^(-t_n/c_n) - Q_n p_n c_n (1 - e^(-t_n/c_n))
    s.t. k_n b <= t_n B log2(1 + p_n g_n),  0 <= k_n <= s,  0 <= p_n <= p_max,  0 <= t_n <= c_n

The contact is Exp(mean c): it outlasts t with probability e^(-t/c), and power is spent until upload
or contact ends. In a = t/c and the nats z = ln(1 + p g) a device is worth, in c W B/(b ln 2),

    f(z, a) = z a e^-a - (e^z - 1)(1 - e^-a)/u   with   z <= z_max,  a z <= d (the whole model)

where u = W B g/(b Q ln 2), d = s b ln 2/(B c). Given a, z = ln(u a/(e^a - 1)) is best; given z,
a = 1 - (e^z - 1)/(u z). With q(x) = 1 - (1 - e^-x)/x both hold where q(z) = e^a q(a); along the
best z the left side falls and the right side rises in a: one root, the maximum. If its a z is
more than d, the best is on a z = d, where f rises and then falls in a.

A reconstruction, not a transcript: arXiv 2506.07328; V6 of mads.md §2.7 with correction 12; the
reduction to roots and the bound are derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Smooth, offers
from rralloc.numerics.logexp import LN2, expm1_over_x
from rralloc.numerics.rates import efficiency
from rralloc.problem import Problem
from rralloc.problems._mads_unknown_kernel import EPS, Lanes, ceiling, plan
from rralloc.problems._mads_upload import FINITE
from rralloc.problems.mads import Case
from rralloc.smooth import scaled
from rralloc.solution import codes
from rralloc.typing import Array, Field, Point, Witness

BLOCK = 2048
"""Devices whose cells are bounded at once: what fits the cache."""


class MADSUnknownContact(Problem):
    """How much a device uploads, how fast, when it does not know how long it can.

    Problem
        max sum_n W_n k_n e^(-t_n/c_n) - Q_n p_n c_n (1 - e^(-t_n/c_n))
        s.t. k_n b <= t_n B log2(1 + p_n g_n), k_n <= s, p_n <= p_max, t_n <= c_n.
        Contacts are Exp(mean c_n). The upload counts if it is complete when the contact ends.

    Parameters, all ``(..., N)``
        value: W of a kept coordinate that arrives; <= 0 never sends. energy_price: Q, 1/J; inf is
        silence, 0 sends at p_max (sooner is surer). contact_mean_s: c, s; 0 is silence.
        snr_per_watt: g = h/(N0 B), 1/W (twice the bandwidth halves it). model_size: s >= 1
        parameters. bits_per_coordinate: b. bandwidth_hz: B, Hz. power_max_w: p_max, W.
    Variables
        kept: k. power_w: p, W. airtime_s: t planned, s; to plan for more than c never pays. All
        ``(..., N)``; 0 where a device is silent.
    Bound
        With D = 1 - e^-a a device is worth z A(D) - (e^z - 1) D/u, A concave: on a cell of D its
        tangent makes that linear in D, so the ends decide, with the best z of each in closed form;
        the model's end a z <= d is priced. ``sol.duals``: ``airtime_share`` a ``(..., N)``, around
        which the cells are laid.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        contacts end without notice and a part of an upload is worth nothing. Where the server
        takes what has arrived, use MADS: short of the whole model its power needs no contact time.
    Source
        A reconstruction, not a transcript: arXiv 2506.07328 (abstract) and public reviews; V6
        mads.md §2.7, derived.
    """

    sense = "max"
    source = "arXiv 2506.07328 (abstract, reviews; a reconstruction); mads.md §2.7 V6, derived"
    bound_method = "tangents on cells of the chance that the contact ends, dense cap priced"

    value: Field = data("N", unit="1", low=-FINITE, doc="value of a kept coordinate, V w")
    energy_price: Field = data("N", unit="1/J", low=0, inf=True, doc="price of energy (backlog), Q")
    contact_mean_s: Field = data("N", unit="s", low=0, doc="mean length of a contact, c")
    snr_per_watt: Field = data("N", unit="1/W", low=0, doc="gain over noise power, g = h/(N0 B)")
    model_size: Field = data("N", unit="1", low=1, doc="number of parameters, s")
    bits_per_coordinate: Field = data(
        "N", unit="bit", low=0, open_low=True, doc="bits of a kept coordinate, b"
    )
    bandwidth_hz: Field = data("N", unit="Hz", low=0, open_low=True, doc="bandwidth, B")
    power_max_w: Field = data("N", unit="W", low=0, doc="largest transmit power")

    kept = variable("N", unit="1", low=0, high="model_size", scale="kept_max", doc="coordinates")
    power_w = variable(
        "N", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="transmit power"
    )
    # t <= c loses nothing: beyond a = 1, at the same z, z a e^-a falls and the cost rises.
    airtime_s = variable(
        "N", unit="s", low=0, high="contact_mean_s", scale="contact_mean_s", doc="planned time"
    )

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """2410 parameters over 4 kHz, as ``MADS``; contacts of 4 s in the mean."""
        return {
            "value": 1.2 * rng.gamma(2.0, 0.5, size=shape) / 2410,
            "energy_price": rng.uniform(0.02, 1.0, size=shape),
            "contact_mean_s": rng.exponential(4.0, size=shape),
            "snr_per_watt": 10 ** rng.uniform(0.5, 3.5, size=shape),
            "model_size": 2410,
            "bits_per_coordinate": 44,
            "bandwidth_hz": 4000.0,
            "power_max_w": 0.2,
        }

    # -- evaluation -------------------------------------------------------------------------

    def _elapsed(self, x: Point) -> Array:
        """t/c; where c = 0, infinite for any t > 0."""
        t, c = x["airtime_s"], self.contact_mean_s
        with np.errstate(over="ignore"):
            return np.where(c > 0, t / np.where(c > 0, c, 1.0), np.where(np.real(t) > 0, np.inf, 0))

    def delivery_probability(self, x: Point) -> Array:
        """e^(-t/c) ``(..., N)``: how likely the contact outlasts the upload."""
        return np.exp(-self._elapsed(x))

    def expected_energy_j(self, x: Point) -> Array:
        """p c (1 - e^(-t/c)) ``(..., N)``, J: power is spent until upload or contact ends."""
        return -x["power_w"] * self.contact_mean_s * np.expm1(-self._elapsed(x))

    def objective(self, x: Point) -> Array:
        """Expected value of what arrives minus the price of the energy; -inf at infinite price."""
        energy = self.expected_energy_j(x)
        with np.errstate(invalid="ignore"):
            paid = np.where(energy != 0, self.energy_price * energy, 0.0)
            each = self.value * x["kept"] * self.delivery_probability(x) - paid
            free = np.isfinite(self.energy_price) | (np.real(energy) <= 0)
            return np.where(free.all(-1), np.where(free, each, 0.0).sum(-1), -np.inf)

    def sent_bits(self, x: Point) -> Array:
        """t B log2(1 + p g); 0 where p g <= -1, outside the domain."""
        return x["airtime_s"] * (self.bandwidth_hz * efficiency(x["power_w"] * self.snr_per_watt))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The upload fits."""
        b = self.bits_per_coordinate
        return (
            Constraint("upload fits", self.sent_bits(x) - x["kept"] * b, "bit", self.kept_max * b),
        )

    def project(self, x: Point) -> dict[str, Array]:
        """Clip p and t, keep no more than then fits."""
        power = np.clip(x["power_w"], 0, self.power_max_w)
        time = np.clip(x["airtime_s"], 0, self.contact_mean_s)
        room = self.sent_bits({"power_w": power, "airtime_s": time}) / self.bits_per_coordinate
        kept = np.clip(x["kept"], 0, np.minimum(room, self.model_size))
        plan = {"kept": kept, "power_w": power, "airtime_s": time}
        return {name: self._full(np.where(kept > 0, v, 0.0)) for name, v in plan.items()}

    @cached_property
    def kept_max(self) -> Array:
        """The largest k that a mean contact carries ``(..., N)``."""
        _, cap, z_max = self._lanes
        return self.model_size * (np.minimum(z_max, cap) / cap)

    def _full(self, values: Array) -> Array:
        return np.broadcast_to(values, self.shape_of(type(self).kept))

    # -- the optimum ------------------------------------------------------------------------

    @cached_property
    @np.errstate(all="ignore")
    def _lanes(self) -> Lanes:
        nats = self.model_size * self.bits_per_coordinate * LN2 / self.bandwidth_hz
        cap = np.maximum(nats / self.contact_mean_s, 1e-307)
        per_joule = self.snr_per_watt * self.bandwidth_hz / self.bits_per_coordinate / LN2
        u = self.value / self.energy_price * per_joule
        z_max = np.minimum(np.log1p(self.power_max_w * self.snr_per_watt), 709.0)  # e^709 is finite
        able = (u > 1) & np.isfinite(cap) & (z_max > 0)
        return Lanes(*[self._full(v) for v in (np.where(able, u, 0.0), cap, z_max)])

    @cached_property
    def _best(self) -> tuple[Array, Array]:
        return plan(self._lanes)

    @np.errstate(all="ignore")
    def _point(self, a: Array, z: Array) -> Point:
        """The point that sends z nats for a share a of the mean contact; silence at z = 0."""
        share = a * z / self._lanes.cap
        found = {
            "kept": self.model_size * np.where(share < 1 - EPS, share, 1.0),
            "power_w": np.minimum(np.expm1(z) / self.snr_per_watt, self.power_max_w),
            "airtime_s": self.contact_mean_s * a,
        }
        return {name: self._full(np.where(share > 0, v, 0.0)) for name, v in found.items()}

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """At most two roots of monotone functions for each device."""
        return ClosedForm(
            lambda: self._point(*self._best), lambda: {"airtime_share": self._best[0]}
        )

    def cases(self) -> Any:
        """``Case`` of each device at the optimum ``(..., N)``; DENSE also at all of p_max."""
        (a, z), (_, cap, z_max) = self._best, self._lanes
        sending = np.where(z < z_max, Case.ENERGY, Case.POWER)
        sending = np.where(a * z < cap * (1 - EPS), sending, Case.DENSE)
        return codes(np.where(a * z > 0, sending, Case.SILENT), Case)

    def points(self) -> dict[str, Callable[[], Point]]:
        """What people would plan.

        ``half-mean-contact``, ``mean-contact``: what MADS sends in a contact that is known to last
        so long. ``max-power``: the best duration at p_max. ``silent``.
        """
        return {
            "half-mean-contact": partial(self._as_if_known, 0.5),
            "mean-contact": partial(self._as_if_known, 1.0),
            "max-power": self._at_full_power,
            "silent": lambda: self._point(np.zeros(1), np.zeros(1)),
        }

    def _as_if_known(self, share: float) -> Point:
        u, cap, z_max = self._lanes
        z = np.minimum(np.log(np.maximum(u, 1.0)), np.minimum(z_max, cap / share))
        return self._point(np.full(z.shape, share), z)

    @np.errstate(all="ignore")
    def _at_full_power(self) -> Point:
        u, cap, z_max = self._lanes
        a = np.minimum(1 - expm1_over_x(z_max) / u, cap / z_max)
        return self._point(np.where(u > 1, np.maximum(a, 0.0), 0.0), z_max)

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Each variable divided by its scale; not concave, so a start decides."""
        if not np.isfinite(self.energy_price).all():
            raise NotOffered("some price of energy is infinite")
        return scaled(self)

    # -- what proves it -----------------------------------------------------------------------

    @np.errstate(all="ignore")
    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The sum of the devices' bounds, cells laid around the witness's a or the optimum's."""
        told = (witness or {}).get("airtime_share", self._best[0])
        centre, flat = self._full(told).ravel(), [v.ravel() for v in self._lanes]
        worth = np.zeros(centre.size)
        for first in range(0, centre.size, BLOCK):
            block = slice(first, first + BLOCK)
            worth[block] = ceiling(Lanes(*[v[block] for v in flat]), centre[block])
        part = worth.reshape(self._lanes.cap.shape) / self._lanes.cap
        return np.where(part > 0, self.value * self.model_size * part, 0.0).sum(-1)
