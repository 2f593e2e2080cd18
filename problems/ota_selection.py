"""Over-the-air aggregation: which devices to hear, and with which receive beam.

Devices send at once and the channel adds up; the server hears sum_k phi_k s_k through one
unit-norm beam m. With power inversion at the devices,

    MSE(S, m) = (noise/P) max_{k in S} phi_k^2/|m^H h_k|^2 <= target,

so with g_k = h_k/phi_k and tau = noise/(P target) device k is served exactly where
|g_k^H m|^2 >= tau. The whole problem is: *find one unit vector that serves the most devices*. The
set of devices follows from m; no selection variable is needed.

A reconstruction, not a transcript: arXiv 1812.11750 (abstract); formulas of spec ota.md, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from rralloc.channel import rayleigh_coefficients, rician_array
from rralloc.errors import NotOffered
from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Coverage, offers
from rralloc.numerics.air import least_error
from rralloc.numerics.beams import generic, normal, unit
from rralloc.numerics.least_distance import max_min
from rralloc.numerics.shapes import batched
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.problems import _ota_bounds as bounds
from rralloc.problems._ota_caps import deepest
from rralloc.problems._ota_columns import normalised
from rralloc.problems._ota_proof import proven
from rralloc.problems._ota_round import act, stated
from rralloc.typing import Array, Field, Point, Witness

if TYPE_CHECKING:
    from rralloc.fl.schemes import OverTheAir

SERVED = 1 - 1e-9
"""A device counts as served from this share of the threshold on."""
AIM = 1 - 5e-10
"""The exact sweep aims here, so that rounding does not lose what it found."""


class OTASelection(Problem):
    """One receive beam that serves the most devices within an aggregation error.

    Problem
        max sum_{k in S} w_k  s.t.  (noise/P) phi_k^2/|m^H h_k|^2 <= target for k in S, |m| = 1.

    Parameters
        channel: h ``(..., N, K)``, complex: antennas by devices; the one positional argument.
        mse_target: gamma > 0, of the *sum* sum_k phi_k s_k (of the mean: times (sum phi)^2).
        noise_power: sigma^2 >= 0, W, of one antenna. transmit_power: P > 0, W, of one device.
        aggregation_weight: phi_k > 0 ``(..., K)``, in the error; default 1.
        value: w_k >= 0 ``(..., K)``, in the count; default 1.
    Variables
        beamformer: m ``(..., N)``, complex. Only its direction counts: any m is feasible, every
        evaluation divides by its norm, and zero serves nobody.
        selected: ``(..., K)``, derived: who is served, with relative tolerance 1e-9 on tau.
    Bound
        The least of: values of the devices strong enough by themselves; for any y >= 0,
        lambda_max(sum_k y_k g_k g_k^H)/tau + sum_k (w_k - y_k)^+ (``sol.duals``: ``dual_weight``);
        a tree of regions that is rebuilt and bounded here (``tree``, from solver ``exact``);
        for N = 2 the exact optimum. Rounded down where all w are whole. Useful for few antennas,
        few devices and a tight target; else expect a gap.
    Errors
        InvalidProblem for values outside their range.
    Choose this when
        updates are added up in the air and weak devices would spoil the sum for all.
    Source
        A reconstruction, not a transcript: arXiv 1812.11750 (abstract); MSE, normal form and bounds
        ota.md §2.1, §2.6, two antennas §3 (f), derived.
    """

    sense = "max"
    differentiable = False
    source = "arXiv 1812.11750 (abstract; a reconstruction); ota.md §2"
    bound_method = "dual weights of the devices or a tree of regions; exact for two antennas"
    default_solver: ClassVar[str | None] = "coverage"
    """It takes the formula where there is one, and ``effort`` everywhere."""

    channel: Field = data("N K", unit="1", dtype=complex, kw_only=False, doc="channel amplitude")
    mse_target: Field = data(unit="1", low=0, open_low=True, doc="largest error of the sum")
    noise_power: Field = data(unit="W", low=0, default=1.0, doc="noise power of an antenna")
    transmit_power: Field = data(
        unit="W", low=0, open_low=True, default=1.0, doc="largest power of a device"
    )
    aggregation_weight: Field = data(
        "K", unit="1", low=0, open_low=True, default=None, doc="weight in the sum"
    )
    value: Field = data("K", unit="1", low=0, high=1e300, default=None, doc="value of being served")

    beamformer = variable("N", unit="1", dtype=complex, doc="receive beam")
    selected = variable("K", unit="1", dtype=bool, derived=True, doc="who is served")

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int = 6,
        k_factor: float = 0.0,
        loss_db: float = 0.0,
        **settings: Any,
    ) -> Self:
        """Rayleigh channels CN(0, 1), N antennas; target -2 dB of noise over power.

        k_factor: direct over scattered power at a half-wavelength array, angles uniform in +-60
        degrees. loss_db: path losses uniform in [0, loss_db] dB.
        """
        rng = np.random.default_rng(rng)
        if k_factor > 0:
            angle = rng.uniform(-np.pi / 3, np.pi / 3, batched(batch, K))
            drawn = rician_array(angle, N, rng, k_factor=k_factor)
        else:
            drawn = rayleigh_coefficients(batched(batch, N, K), rng)
        if loss_db > 0:
            drawn = drawn * 10 ** (-rng.uniform(0, loss_db, batched(batch, 1, K)) / 20)
        return cls(**{"channel": drawn, "mse_target": 10**-0.2} | settings)

    # -- training ---------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """The channel as the server knows it, weights K n_k/n (mean 1).

        A policy that asks for ``gradient_norm`` gets weights n_k |u_k|, for ``OverTheAir(scale=
        "own")``. The target is 12 dB of noise over power unless ``settings`` give another; weaker
        transmitters count as farther away.
        """
        told = stated(round)
        size = np.asarray(round.statistics.get("gradient_norm", np.ones(round.share.shape)))
        phi = round.share * np.where((size > 0) & np.isfinite(size), size, 1.0)
        return cls(
            **told,
            mse_target=10**1.2 * told["noise_power"] / told["transmit_power"],
            aggregation_weight=phi / phi.mean(),
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Who is served sends; the aggregate is their weighted mean."""
        return act(round, x, self.served(np.asarray(x["beamformer"])))

    @classmethod
    def training_scheme(cls) -> OverTheAir:
        """Analog sums."""
        from rralloc.fl.schemes import OverTheAir

        return OverTheAir()

    # -- the normal form --------------------------------------------------------------------

    @cached_property
    def columns(self) -> Array:
        """g_k/sqrt(tau) ``(..., N, K)``: the threshold is 1."""
        h = self._full(self.channel, "N", "K")
        power, target = self.transmit_power, self.mse_target
        return normalised(h, power, target, self.noise_power, self._phi)

    @property
    def _phi(self) -> Array:
        """phi, of shape ``(..., K)`` or ``(1,)``."""
        return np.ones(1) if self.aggregation_weight is None else self.aggregation_weight

    @cached_property
    def values(self) -> Array:
        """w ``(..., K)``."""
        return self._full(np.ones(1) if self.value is None else self.value, "K")

    def _full(self, array: Array, *axes: str) -> Array:
        return np.broadcast_to(array, self.batch_shape + tuple(self.sizes[a] for a in axes))

    def gain(self, m: Array) -> Array:
        """|g_k^H m|^2/tau of the unit vector along m ``(..., K)``; 0 for m = 0."""
        y = self.columns.conj().swapaxes(-1, -2) @ unit(m)[..., None]
        return (y.real**2 + y.imag**2)[..., 0]

    def served(self, m: Array) -> Array:
        """Mask ``(..., K)`` of the devices whose error a beam along m keeps within the target."""
        return self.gain(m) >= SERVED

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """Value of the served devices; without values, their number."""
        return np.where(self.served(x["beamformer"]), self.values, 0.0).sum(-1)

    def complete(self, x: Point) -> dict[str, Array]:
        """``selected`` from the beam."""
        return {**x, "selected": self.served(x["beamformer"])}

    def project(self, x: Point) -> dict[str, Array]:
        """The beam at unit norm; zero stays zero."""
        return {**x, "beamformer": unit(x["beamformer"])}

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """A beam in a random direction."""
        return {"beamformer": unit(normal(rng, self.shape_of(type(self).beamformer)))}

    def mse(self, x: Point) -> Array:
        """Error of the sum over the served devices ``(...)``; 0 where nobody is served."""
        eta = self._eta(x["beamformer"])
        return np.where(eta > 0, self.noise_power / np.where(eta > 0, eta, 1.0), 0.0)

    def _eta(self, m: Array) -> Array:
        """P min_{k served} |m^H h_k|^2/phi_k^2 for unit m ``(...)``; 0 where nobody is served."""
        heard = self._heard(m)
        power = (heard.real**2 + heard.imag**2) * self.transmit_power[..., None]
        least = np.where(self.served(m), power, np.inf).min(-1)
        return np.where(np.isfinite(least), least, 0.0)

    def _heard(self, m: Array) -> Array:
        """m^H h_k/phi_k for unit m ``(..., K)``."""
        y = (unit(m).conj()[..., None, :] @ self.channel)[..., 0, :]
        return self._full(y / self._phi, "K")

    def transmit_scaling(self, x: Point) -> tuple[Array, Array]:
        """What devices multiply their symbols by, b ``(..., K)``, and the server's eta ``(...)``.

        With them sum_k eta^{-1/2} m^H h_k b_k s_k = sum_{k served} phi_k s_k and |b_k|^2 <= P; b is
        0 for the others. The weakest served device sends with all its power.
        """
        m = x["beamformer"]
        heard, chosen, eta = self._heard(m), self.served(m), self._eta(m)
        b = np.sqrt(eta)[..., None] / np.where(chosen, heard, 1.0)
        return np.where(chosen, b, 0.0), eta

    def least_error_scaling(self, x: Point) -> tuple[Array, Array, Array]:
        """Transmit scaling of least error for a given beam: b ``(..., K)``, eta, MSE ``(...)``.

        Every device sends; who is too weak to invert the channel sends with all its power and
        counts for less: the sum is biased. The error is that of the sum over *all* devices.
        """
        m = unit(np.asarray(x["beamformer"]))
        y = self._full((m.conj()[..., None, :] @ self.channel)[..., 0, :], "K")
        phi = self._full(self._phi, "K")
        c, power = np.abs(y), self.transmit_power[..., None]
        best = least_error(np.sqrt(power) * c, phi, self.noise_power)
        turn = np.where(c > 0, y.conj() / np.where(c > 0, c, 1.0), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = phi / (c * best.scale[..., None])
            b = turn * np.where(c > 0, np.minimum(wanted, np.sqrt(power)), 0.0)
            return b, best.scale**-2.0, best.mse

    # -- rules ------------------------------------------------------------------------------

    def points(self) -> dict[str, Callable[[], Point]]:
        """Beams that people use.

        ``all-devices``: the largest least gain over all devices that are heard at all.
        ``strongest``: matched to the strongest device. ``random``: a fixed random direction.
        """
        return {
            "all-devices": self._for_everybody,
            "strongest": self._for_the_strongest,
            "random": lambda: self.sample(np.random.default_rng(0)),
        }

    def _for_everybody(self) -> Point:
        """Phase-frozen ascent from the sum of matched filters and from the main direction."""
        m = np.zeros(self.shape_of(type(self).beamformer), dtype=complex)
        for index in np.ndindex(self.batch_shape):
            g = self.columns[index]
            g = g[:, np.abs(g).max(0) > 0]
            if g.shape[1]:
                unit = g / np.linalg.norm(g, axis=0)
                main = np.linalg.eigh(unit @ unit.conj().T)[1][:, -1]
                starts = unit.sum(1), main, generic(g)  # the last: no device is deaf to it
                # Everybody alike: what matters are ratios, so the typical column has norm 1.
                scale = np.exp(np.log(np.linalg.norm(g, axis=0)).mean())
                beams = [max_min(g / scale, start, steps=50, tol=1e-6) for start in starts]
                m[index] = max(beams, key=lambda beam: beam.gain).m
        return {"beamformer": m}

    def _for_the_strongest(self) -> Point:
        strength = np.linalg.norm(self.columns, axis=-2)
        pick = strength.argmax(-1)[..., None, None]
        return {"beamformer": unit(np.take_along_axis(self.columns, pick, -1)[..., 0])}

    # -- forms ------------------------------------------------------------------------------

    @offers(Coverage)
    def coverage(self) -> Coverage:
        """Normalised columns and threshold 1."""
        ones = np.ones(self.values.shape)
        return Coverage(self.columns, ones, self.values, lambda m: {"beamformer": m})

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """One antenna has no choice; for two, the deepest point of caps on a sphere."""
        if self.sizes["N"] > 2:
            raise NotOffered(f"no formula for N = {self.sizes['N']} antennas, only for 1 and 2")
        return ClosedForm(self._exact)

    def _exact(self) -> Point:
        m = np.ones(self.shape_of(type(self).beamformer), dtype=complex)
        for index in np.ndindex(self.batch_shape) if self.sizes["N"] == 2 else ():
            g, w = self.columns[index], self.values[index]
            value, beam = deepest(g, w, AIM)
            gain = np.abs(g.conj().T @ beam) ** 2
            if w[gain >= SERVED].sum() < value:  # rounding on the boundary: move inside
                near = gain >= 1 - 1e-6
                beam = max_min(g[:, near], beam).m if near.any() else beam
            m[index] = beam
        return {"beamformer": m}

    # -- what proves it -----------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The least certificate: strength alone, main direction, witness; N = 2: the optimum.

        A witness holds ``dual_weight`` y ``(..., K)``, or ``tree``: for each instance a tree of
        regions with multipliers, as solver ``exact`` leaves it, rebuilt and bounded here.
        """
        g, w = self.columns, self.values
        trials = [np.zeros(w.shape), w]
        if witness is not None and "dual_weight" in witness:
            trials.append(np.asarray(witness["dual_weight"]))
        claims = [bounds.relaxed(g, w, y) for y in trials]
        if self.sizes["N"] == 2:
            claims.append(self._most_for_two)
        if witness is not None and "tree" in witness:
            trees = np.broadcast_to(np.asarray(witness["tree"], dtype=object), self.batch_shape)
            claims.append(np.empty(self.batch_shape))
            for index in np.ndindex(self.batch_shape):
                claims[-1][index] = proven(g[index], w[index], trees[index])
        return bounds.whole(np.minimum.reduce(claims), w)

    @cached_property
    def _most_for_two(self) -> Array:
        """The optimum for two antennas ``(...)``, at a threshold that errs upwards."""
        most = np.empty(self.batch_shape)
        for index in np.ndindex(self.batch_shape):
            most[index] = deepest(self.columns[index], self.values[index], bounds.LOOSE).value
        return most
