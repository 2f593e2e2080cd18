"""Over-the-air aggregation on several subcarriers: one beam for each, one set of devices for all.

A device takes part on every subcarrier or not at all, as its update is spread over all of them.
With its power split equally, P/F each, and g_k[f] = h_k[f]/phi_k,

    k is served  iff  min_f |m_f^H g_k[f]|^2/tau_f >= 1,  tau_f = noise_f/((P/F) target_f).

The equal split is conservative: a device that is weak on one subcarrier may not move power there.
The set follows from the beams, as with one subcarrier; here F unit vectors must agree on it.

Source: ota.md section 7 (multipath), derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, SubcarrierCoverage, offers
from rralloc.numerics.beams import normal, unit
from rralloc.numerics.counts import require_whole
from rralloc.numerics.least_distance import max_min
from rralloc.numerics.shapes import batched
from rralloc.problem import Problem
from rralloc.problems import _ota_bounds as bounds
from rralloc.problems._ota_caps import deepest
from rralloc.problems._ota_columns import normalised
from rralloc.problems.ota_selection import SERVED
from rralloc.typing import Array, Field, Point, Witness


class OTAWideband(Problem):
    """A receive beam for every subcarrier that together serve the most devices.

    Problem
        max sum_{k in S} w_k  s.t.  (noise_f F/P) phi_k^2/|m_f^H h_k[f]|^2 <= target_f for k in S
        and every f, |m_f| = 1.

    Parameters
        channel: h ``(..., F, N, K)``, complex: subcarriers, antennas, devices; positional.
        mse_target: gamma > 0 ``(..., F)``, of the sum sum_k phi_k s_k on a subcarrier.
        noise_power: sigma^2 >= 0 ``(..., F)``, W, of one antenna on a subcarrier.
        transmit_power: P > 0, W, of one device on *all* subcarriers; each gets P/F (conservative).
        aggregation_weight: phi_k > 0 ``(..., K)``; default 1. value: w_k >= 0 ``(..., K)``;
        default 1.
    Variables
        beamformer: m ``(..., F, N)``, complex; only directions count, zero serves nobody.
        selected: ``(..., K)``, derived: served on every subcarrier, tolerance as in OTASelection.
    Bound
        The least over the subcarriers of the bounds of OTASelection, on the devices that every
        subcarrier could serve alone (``sol.duals``: ``dual_weight`` ``(..., F, K)``); exact sweeps
        of each subcarrier for N = 2; one antenna is exact. It does not see that the subcarriers
        must agree on the set: expect a gap that grows with F.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        the channel is frequency-selective (multipath) and updates are sent over OFDM. Where it is
        flat, OTASelection with transmit_power P/F is the same and quicker.
    Source
        ota.md section 7, derived.
    """

    sense = "max"
    differentiable = False
    source = "ota.md section 7 (multipath), derived"
    bound_method = "the tightest subcarrier alone: dual weights, exact sweep for two antennas"

    channel: Field = data("F N K", unit="1", dtype=complex, kw_only=False, doc="channel amplitude")
    mse_target: Field = data("F", unit="1", low=0, open_low=True, doc="largest error of the sum")
    noise_power: Field = data("F", unit="W", low=0, default=1.0, doc="noise power of an antenna")
    transmit_power: Field = data(
        unit="W", low=0, open_low=True, default=1.0, doc="largest power of a device"
    )
    aggregation_weight: Field = data(
        "K", unit="1", low=0, open_low=True, default=None, doc="weight in the sum"
    )
    value: Field = data("K", unit="1", low=0, high=1e300, default=None, doc="value of being served")

    beamformer = variable("F N", unit="1", dtype=complex, doc="receive beam of a subcarrier")
    selected = variable("K", unit="1", dtype=bool, derived=True, doc="who is served")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int = 4,
        F: int = 8,
        taps: int = 3,
        **settings: Any,
    ) -> Self:
        """Rayleigh taps of power ~ e^{-l}, sum 1, seen on F subcarriers; P = F, target -2 dB."""
        require_whole("OTAWideband.random: taps", taps)
        power = np.exp(-np.arange(float(taps)))
        amplitude = np.sqrt(power / power.sum())
        turn = np.exp(-2j * np.pi * np.outer(np.arange(F), np.arange(taps)) / F)  # discrete Fourier
        taps_of = normal(np.random.default_rng(rng), batched(batch, taps, N, K))
        seen = np.einsum("fl,...lnk->...fnk", turn * amplitude, taps_of)
        drawn = {"channel": seen, "mse_target": 10**-0.2, "transmit_power": float(F)}
        return cls(**drawn | settings)

    # -- the normal form ----------------------------------------------------------------------

    @cached_property
    def columns(self) -> Array:
        """g_k[f]/sqrt(tau_f) ``(..., F, N, K)``: the threshold is 1."""
        h, phi = self._full(self.channel, "F", "N", "K"), self._phi[..., None, :]
        share = self._share[..., None]
        return normalised(h, share, self.mse_target, self.noise_power, phi)

    @cached_property
    def values(self) -> Array:
        """w ``(..., K)``."""
        return self._full(np.ones(1) if self.value is None else self.value, "K")

    @property
    def _phi(self) -> Array:
        return self._full(
            np.ones(1) if self.aggregation_weight is None else self.aggregation_weight, "K"
        )

    @property
    def _share(self) -> Array:
        """Power of a device on one subcarrier."""
        return np.asarray(self.transmit_power / self.sizes["F"])

    def _full(self, array: Array, *axes: str) -> Array:
        return np.broadcast_to(array, self.batch_shape + tuple(self.sizes[a] for a in axes))

    def gain(self, m: Array) -> Array:
        """|g_k[f]^H m_f|^2/tau_f of unit vectors along m ``(..., F, K)``; 0 for m_f = 0."""
        y = self.columns.conj().swapaxes(-1, -2) @ unit(m)[..., None]
        return (y.real**2 + y.imag**2)[..., 0]

    def served(self, m: Array) -> Array:
        """Mask ``(..., K)`` of the devices that the beams serve on every subcarrier."""
        return np.asarray(self.gain(m).min(-2) >= SERVED)

    # -- evaluation ---------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """Value of the served devices; without values, their number."""
        return np.where(self.served(x["beamformer"]), self.values, 0.0).sum(-1)

    def complete(self, x: Point) -> dict[str, Array]:
        """``selected`` from the beams."""
        return {**x, "selected": self.served(x["beamformer"])}

    def project(self, x: Point) -> dict[str, Array]:
        """Every beam at unit norm; zero stays zero."""
        return {**x, "beamformer": unit(x["beamformer"])}

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """Beams in random directions."""
        return {"beamformer": unit(normal(rng, self.shape_of(type(self).beamformer)))}

    def mse(self, x: Point) -> Array:
        """Error of the sum on every subcarrier ``(..., F)``; 0 where nobody is served."""
        _, eta = self.transmit_scaling(x)
        return np.where(eta > 0, self.noise_power / np.where(eta > 0, eta, 1.0), 0.0)

    def transmit_scaling(self, x: Point) -> tuple[Array, Array]:
        """What devices multiply their symbols by, b ``(..., F, K)``, and eta ``(..., F)``.

        As in OTASelection on every subcarrier, with |b_k[f]|^2 <= P/F.
        """
        m, chosen = x["beamformer"], self.served(x["beamformer"])[..., None, :]
        y = (unit(m).conj()[..., None, :] @ self.channel)[..., 0, :]
        heard = self._full(y / self._phi[..., None, :], "F", "K")
        power = (heard.real**2 + heard.imag**2) * self._share[..., None, None]
        least = np.where(chosen, power, np.inf).min(-1)
        eta = np.where(np.isfinite(least), least, 0.0)
        b = np.sqrt(eta)[..., None] / np.where(chosen, heard, 1.0)
        return np.where(chosen, b, 0.0), eta

    # -- rules --------------------------------------------------------------------------------

    def points(self) -> dict[str, Callable[[], Point]]:
        """Beams that people use.

        ``all-devices``: on every subcarrier the largest least gain over all devices that every
        subcarrier hears. ``per-subcarrier-strongest``: matched to the strongest device of each.
        ``random``: fixed random directions.
        """
        return {
            "all-devices": self._for_everybody,
            "per-subcarrier-strongest": self._for_the_strongest,
            "random": lambda: self.sample(np.random.default_rng(0)),
        }

    def _for_everybody(self) -> Point:
        m = np.zeros(self.shape_of(type(self).beamformer), dtype=complex)
        heard = (np.abs(self.columns).max(-2) > 0).all(-2)
        for index in np.ndindex(m.shape[:-1]):
            g = self.columns[index][:, heard[index[:-1]]]
            if g.shape[1]:
                norm = np.linalg.norm(g, axis=0)
                start = (g / norm).sum(1)
                # Everybody alike: what matters are ratios, so the typical column has norm 1.
                m[index] = max_min(g / np.exp(np.log(norm).mean()), start, steps=50, tol=1e-6).m
        return {"beamformer": m}

    def _for_the_strongest(self) -> Point:
        pick = np.linalg.norm(self.columns, axis=-2).argmax(-1)[..., None, None]
        return {"beamformer": unit(np.take_along_axis(self.columns, pick, -1)[..., 0])}

    # -- forms --------------------------------------------------------------------------------

    @offers(SubcarrierCoverage)
    def subcarrier_coverage(self) -> SubcarrierCoverage:
        """Normalised columns."""
        return SubcarrierCoverage(self.columns, self.values, lambda m: {"beamformer": m})

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """One antenna has no choice."""
        if self.sizes["N"] > 1:
            raise NotOffered(f"no formula for N = {self.sizes['N']} antennas, only for 1")
        return ClosedForm(lambda: {"beamformer": self._ones})

    @property
    def _ones(self) -> Array:
        return np.ones(self.shape_of(type(self).beamformer), dtype=complex)

    # -- what proves it -----------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The least bound of a subcarrier alone."""
        if self.sizes["N"] == 1:
            return self.objective({"beamformer": self._ones})
        # 1. Only devices that every subcarrier could serve by itself.
        g = self.columns
        able = bounds.hopeful(g).all(-2)
        w = np.where(able, self.values, 0.0)
        each = np.broadcast_to(w[..., None, :], g.shape[:-2] + w.shape[-1:])
        # 2. Strength alone, main direction, witness, on every subcarrier.
        trials = [np.zeros(each.shape), each]
        if witness is not None and "dual_weight" in witness:
            trials.append(np.asarray(witness["dual_weight"]))
        claims = [bounds.relaxed(g, each, y).min(-1) for y in trials]
        if self.sizes["N"] == 2:
            claims.append(self._most_for_two)
        return bounds.whole(np.minimum.reduce(claims), w)

    @cached_property
    def _most_for_two(self) -> Array:
        """The least optimum of a subcarrier for two antennas ``(...)``, erring upwards."""
        w = np.where(bounds.hopeful(self.columns).all(-2), self.values, 0.0)
        most = np.empty(self.columns.shape[:-2])
        for index in np.ndindex(most.shape):
            most[index] = deepest(self.columns[index], w[index[:-1]], bounds.LOOSE).value
        return np.asarray(most.min(-1))
