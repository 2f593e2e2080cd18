"""Downlink beamforming: the least power that gives every device its SINR.

    min  sum_k |w_k|^2    s.t.  |h_k^H w_k|^2 >= gamma_k (sum_{j != k} |h_k^H w_j|^2 + sigma_k^2)

One base station with N antennas serves K devices at once. The Lagrangian dual is power control in
a virtual uplink with the same channels: its powers are a fixed point, its receivers are the
directions of the beams, and a K x K linear system gives their powers.

Source: classic (uplink-downlink duality); spec rrm.md §15 item 9; the bound at any powers derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.channel import rayleigh_coefficients
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Model, offers
from rralloc.numerics.beams import normal, unit
from rralloc.numerics.shapes import batched
from rralloc.problem import Problem
from rralloc.problems._downlink_duality import (
    LOUD,
    downlink_powers,
    largest_multiple,
    receivers,
    uplink_log_powers,
)
from rralloc.problems._downlink_model import cone_program
from rralloc.typing import Array, Field, Point, Witness

WHO = 1e-6
"""Devices whose virtual uplink power is this share of the largest one cannot be served together."""


class DownlinkBeamforming(Problem):
    """The least total transmit power under SINR targets, one beam for each device.

    Problem
        min sum_k |w_k|^2  s.t.  |h_k^H w_k|^2/(sum_{j != k} |h_k^H w_j|^2 + sigma_k^2) >= gamma_k.

    Parameters
        channel: h ``(..., N, K)``, complex: antennas by devices.
        sinr_target: gamma ``(..., K)``, linear, > 0 and at most 1e10 (100 dB).
        noise_power: sigma^2 ``(..., K)``, W, > 0, default 1.
    Variables
        beamformer: w ``(..., N, K)``, complex, sqrt(W).
    Bound
        Lagrangian dual: virtual uplink powers lambda >= 0 (``sol.duals``: ``uplink_power``), taken
        t times as large, prove t sum_k lambda_k sigma_k^2 as long as
        t lambda_k h_k^H (I + t sum_j lambda_j h_j h_j^H)^-1 h_k <= gamma_k/(1 + gamma_k) for all k.
        The largest such t is used; if there is none, no power is enough.
    Errors
        InvalidProblem for targets or noise outside their range. Infeasible where a channel is
        zero, or where some devices' sum of gamma/(1 + gamma) is not below the dimension that their
        channels span (N for more than N devices): then no power is enough.
    Choose this when
        every device has a promised rate and power is what counts. For the capacity of one link at a
        given power see ``MIMOCapacity``; for one beam that all devices hear see ``Multicast``.
    Source
        Classic; rrm.md §15 item 9. Newton for the fixed point and the bound are derived.
    """

    sense = "min"
    unit = "W"
    source = "classic (uplink-downlink duality); rrm.md §15.9"
    bound_method = "Lagrangian dual at virtual uplink powers"
    differentiable = False

    channel: Field = data("N K", unit="1", dtype=complex, doc="channel amplitude")
    sinr_target: Field = data("K", unit="1", low=0, high=1e10, open_low=True, doc="promised SINR")
    noise_power: Field = data("K", unit="W", low=0, open_low=True, default=1.0, doc="noise power")

    beamformer = variable("N K", unit="W^0.5", dtype=complex, doc="beams, one column a device")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int | None = None,
        **settings: Any,
    ) -> Self:
        """Rayleigh channels CN(0, 1), N = K + 1 antennas and targets of 3 dB unless set."""
        shape = batched(batch, K + 1 if N is None else N, K)
        drawn = rayleigh_coefficients(shape, np.random.default_rng(rng))
        return cls(**{"channel": drawn, "sinr_target": 2.0} | settings)

    # -- evaluation -------------------------------------------------------------------------

    def sinr(self, x: Point) -> Array:
        """SINR of each device ``(..., K)``."""
        size = self.sizes["K"]
        heard = np.abs(self._full_channel.conj().swapaxes(-1, -2) @ x["beamformer"]) ** 2
        own = np.einsum("...kk->...k", heard)
        others = np.where(np.eye(size, dtype=bool), 0.0, heard).sum(-1)
        return np.asarray(own / (others + self.noise_power))

    def power_w(self, x: Point) -> Array:
        """Power of each beam ``(..., K)``, W."""
        w = np.asarray(x["beamformer"])
        return np.asarray((w.real**2 + w.imag**2).sum(-2))

    def objective(self, x: Point) -> Array:
        """Total power, W."""
        return np.asarray(self.power_w(x).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The promised SINR."""
        return (Constraint("SINR", self.sinr(x) - self.sinr_target, "1", self.sinr_target),)

    @property
    def _full_channel(self) -> Array:
        """h with both axes, also where one number stands for all of it."""
        tail = (self.sizes["N"], self.sizes["K"])
        return np.broadcast_to(self.channel, (*self.channel.shape[:-2], *tail))

    # -- lanes, unit columns ----------------------------------------------------------------

    @cached_property
    def _lanes(self) -> tuple[Array, Array, Array, Array]:
        """Unit columns ``(S, N, K)``, their lengths, targets and noise over |h|^2 ``(S, K)``."""
        size, count = self.sizes["K"], self.size

        def each(value: Array) -> Array:
            return np.broadcast_to(value, (*self.batch_shape, size)).reshape(count, size)

        full = (*self.batch_shape, self.sizes["N"], size)
        h = np.broadcast_to(self.channel, full).reshape(count, *full[-2:])
        length = np.linalg.norm(h, axis=-2)
        heard = np.where(length > 0, length, 1.0)
        noise = (np.sqrt(each(self.noise_power)) / heard) ** 2
        columns = unit(h.swapaxes(-1, -2)).swapaxes(-1, -2)
        return columns, length, each(self.sinr_target), noise

    def _shaped(self, lanes: Array) -> Array:
        return lanes.reshape(self.batch_shape + lanes.shape[1:])

    @cached_property
    def _uplink(self) -> Array:
        """Virtual uplink powers of unit columns ``(S, K)``, 0 for who hears nothing."""
        h, length, target, _ = self._lanes
        power = np.zeros(length.shape)
        heard = (length > 0).all(-1)
        power[heard] = np.exp(uplink_log_powers(h[heard], target[heard]))
        return power

    def _powered(self, directions: Array) -> Array:
        """Beams ``(S, N, K)`` of least power in these directions; NaN where none meets targets."""
        h, _, target, noise = self._lanes
        finite = np.isfinite(directions).all((-1, -2), keepdims=True)
        beams = unit(np.where(finite, directions, 0.0).swapaxes(-1, -2)).swapaxes(-1, -2)
        return beams * np.sqrt(downlink_powers(h, beams, target, noise))[:, None, :]

    @cached_property
    def _best(self) -> Array:
        """The optimal beams ``(S, N, K)``; NaN where the targets cannot be met."""
        return self._powered(receivers(self._lanes[0], self._uplink))

    # -- who cannot be served ---------------------------------------------------------------

    def _unserved(self) -> Array:
        """Virtual uplink powers ``(S, K)`` of the devices that drive each other up without end."""
        power = self._uplink
        return np.where(power >= WHO * power.max(-1, keepdims=True), power, 0.0)

    def infeasible(self) -> Array:
        """A channel is zero, or the sum of gamma/(1+gamma) of some devices is too large."""
        return self._shaped(self._hopeless)

    @cached_property
    def _hopeless(self) -> Array:
        h, length, target, _ = self._lanes
        hopeless = (length == 0).any(-1)
        if self.sizes["K"] > self.sizes["N"]:
            hopeless |= (target / (1 + target)).sum(-1) >= self.sizes["N"]
        loud = ~hopeless & (self._uplink.max(-1) >= np.exp(LOUD))
        if loud.any():
            hopeless[loud] = np.isinf(
                largest_multiple(h[loud], target[loud], self._unserved()[loud])
            )
        return hopeless

    def note(self) -> str:
        """Targets so close to what the channels allow that double precision has no answer."""
        edge = ~self._hopeless & np.isnan(self._best).any((-1, -2))
        if not edge.any():
            return ""
        return (
            f"{int(edge.sum())} of {self.size} instances: targets can be met, if at all, at more "
            "than 1e15 times the power that a device needs alone; no such point is computed"
        )

    def why_infeasible(self) -> str:
        """Who hears nothing, or whose targets exceed the dimensions of their channels."""
        h, length, target, _ = self._lanes
        silent = np.flatnonzero(length[0] == 0).tolist()
        if silent:
            return f"devices {silent} hear nothing (channel zero): no beam gives them an SINR"
        need, size, antennas = target[0] / (1 + target[0]), self.sizes["K"], self.sizes["N"]
        who = np.arange(size)
        if size <= antennas or need.sum() < antennas:
            who = np.flatnonzero(self._unserved()[0])
        room = int(np.linalg.matrix_rank(h[0][:, who], tol=1e-10))
        whom = f"all {size} devices" if who.size == size else f"devices {who.tolist()}"
        return (
            f"{whom} cannot have their SINR at once at any power: the targets sum to "
            f"{need[who].sum():.6g} in gamma/(1 + gamma), and {antennas} antennas tell only "
            f"{room} of their channels apart; serve fewer at once, lower targets or add antennas"
        )

    # -- points and bound -------------------------------------------------------------------

    def project(self, x: Point) -> dict[str, Array]:
        """The least powers in the directions of x; the best beams where these directions fail."""
        given = np.asarray(x["beamformer"]).reshape(self.size, self.sizes["N"], self.sizes["K"])
        beams = self._powered(given)
        failed = np.isnan(beams).any((-1, -2), keepdims=True)
        return {"beamformer": self._shaped(np.where(failed, self._best, beams))}

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """Random directions, projected."""
        return self.project({"beamformer": normal(rng, self.shape_of(type(self).beamformer))})

    def points(self) -> dict[str, Callable[[], Point]]:
        """Rules whose directions meet the targets in the whole batch (else they are not listed).

        ``regularised``: the uplink's receivers at the powers that each device needs alone.
        ``zero-forcing``: no interference at all. ``matched``: every beam along its own channel.
        """
        return {
            name: lambda w=beams: {"beamformer": self._shaped(w)}  # type: ignore[misc]  # bound now
            for name, beams in self._rules.items()
            if not np.isnan(beams).any()
        }

    @cached_property
    def _rules(self) -> dict[str, Array]:
        h, _, target, _ = self._lanes
        rules = {"regularised": receivers(h, target), "matched": h}
        if self.sizes["K"] <= self.sizes["N"]:
            rules["zero-forcing"] = np.linalg.pinv(h).conj().swapaxes(-1, -2)
        return {name: self._powered(directions) for name, directions in rules.items()}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``uplink_power``, else at the fixed point."""
        h, length, target, noise = self._lanes
        power = self._uplink
        if witness is not None and "uplink_power" in witness:
            given = np.asarray(witness["uplink_power"])
            if given.shape == (*self.batch_shape, self.sizes["K"]):  # else of another problem
                power = given.reshape(length.shape) * length**2
        power = np.where((power > 0) & np.isfinite(power), power, 0.0)
        proven = np.zeros(len(power))
        some = (power > 0).any(-1)
        size = power[some].max(-1, keepdims=True)
        power = power[some] / size
        times = largest_multiple(h[some], target[some], power)
        # The root is a rounding above or below: the proof stays on the safe side of it. At the edge
        # of what can be met rounding alone may remove every limit: then nothing is proven.
        times = np.where(np.isinf(times) & ~self._hopeless[some], 0.0, times * (1 - 1e-14))
        proven[some] = times * (power * noise[some]).sum(-1)
        return self._shaped(proven)

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Fixed point of the uplink powers, its receivers as beams, their powers."""
        length = self._lanes[1]
        return ClosedForm(
            lambda: {"beamformer": self._shaped(self._best)},
            lambda: {"uplink_power": self._shaped(self._uplink / length**2)},
        )

    @offers(Model)
    def model(self) -> Model:
        """A second-order cone program, as the phase of each beam is free."""
        size = self.sizes["N"], self.sizes["K"]
        return Model(
            ("DownlinkBeamforming", *size),
            lambda _: cone_program(*size),
            backends=("cvxpy",),
            reason="the program is conic; a general one would not see that it is convex",
        )
