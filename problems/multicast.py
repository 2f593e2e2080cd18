"""Multicast: the shortest beam that every device hears.

    min |m|^2   s.t.  |g_k^H m| >= 1 for all k

It is what remains of over-the-air selection once the devices are chosen: with t* = 1/|m*|^2 the
largest least gain of a unit vector, a set can be served at threshold tau exactly if t* >= tau.
NP-hard in general, exact by semidefinite relaxation for up to three devices.

Source: Sidiropoulos, Davidson, Luo 2006 (abstract); spec ota.md §2.4, §3 (d1), (d3), derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.channel import rayleigh_coefficients
from rralloc.errors import InvalidProblem
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, SharedBeam, Surrogate, offers
from rralloc.numerics.beams import generic, normal, unit
from rralloc.numerics.least_distance import shortest
from rralloc.numerics.shapes import batched
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness

DEAF = 1e-12
"""A device that hears less than this share of the weakest one's strength hears nothing."""


class Multicast(Problem):
    """The shortest beam that every device hears with amplitude at least 1.

    Problem
        min |m|^2  s.t.  |g_k^H m| >= 1, k = 1..K.
    Parameters
        channel: g ``(..., N, K)``, complex: antennas by devices; the one positional argument.
    Variables
        beamformer: m ``(..., N)``, complex.
    Bound
        For any y >= 0: sum_k y_k/lambda_max(sum_k y_k g_k g_k^H) (``sol.duals``: ``dual_weight``),
        the value of the semidefinite relaxation at the best y. Without a witness y is the weakest
        device alone, or 1/|g_k|^2.
    Errors
        InvalidProblem: a channel that is zero throughout; nothing makes that device hear.
    Choose this when
        the devices are given and the least power (or the largest least gain) for all is wanted.
    Source
        Sidiropoulos, Davidson, Luo 2006 (abstract); ota.md §2.4, §3 (d1), (d3), derived.
    """

    differentiable = False
    source = "Sidiropoulos, Davidson, Luo 2006 (abstract); ota.md §2.4"
    bound_method = "dual weights of the devices"

    channel: Field = data("N K", unit="1", dtype=complex, kw_only=False, doc="channel amplitude")

    beamformer = variable("N", unit="1", dtype=complex, doc="beam")

    def check(self) -> None:
        """Every device hears something."""
        silent = np.abs(self.channel).max(-2) == 0
        if silent.any():
            where = np.argwhere(silent)[0].tolist()
            raise InvalidProblem(
                f"Multicast.channel: the channel of device {where} is zero throughout; no beam is "
                "heard there: leave it out"
            )

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        N: int = 6,
        **settings: Any,
    ) -> Self:
        """Rayleigh channels CN(0, 1), N antennas."""
        drawn = rayleigh_coefficients(batched(batch, N, K), np.random.default_rng(rng))
        return cls(**{"channel": drawn} | settings)

    # -- evaluation -------------------------------------------------------------------------

    def heard(self, m: Array) -> Array:
        """|g_k^H m| ``(..., K)``."""
        rows = self.channel.conj().swapaxes(-1, -2)
        return np.asarray(np.abs((rows @ m[..., None])[..., 0]))

    def objective(self, x: Point) -> Array:
        """|m|^2."""
        m = np.asarray(x["beamformer"])
        return np.asarray((m.real**2 + m.imag**2).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Everybody hears."""
        return (Constraint("amplitude", self.heard(x["beamformer"]) - 1.0, "1", 1.0),)

    def least_gain(self, x: Point) -> Array:
        """min_k |g_k^H m|^2/|m|^2 ``(...)``: what is served at threshold tau needs this >= tau."""
        return self.heard(unit(np.asarray(x["beamformer"]))).min(-1) ** 2

    def project(self, x: Point) -> dict[str, Array]:
        """The beam at the length at which the worst device just hears.

        One to which a device is deaf, or which is not finite, leans towards all of them first.
        """
        m = np.asarray(x["beamformer"])
        finite = np.isfinite(m).all(-1, keepdims=True)
        m = unit(np.where(finite, m, 0.0))
        deaf = self._worst(m) <= DEAF * np.linalg.norm(self.channel, axis=-2).min(-1)[..., None]
        m = unit(np.where(deaf, m + 0.1 * generic(self.channel), m))
        return {**x, "beamformer": m / self._worst(m)}

    def _worst(self, m: Array) -> Array:
        """min_k |g_k^H m| ``(..., 1)``."""
        return np.asarray(self.heard(m).min(-1, keepdims=True))

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """A random direction."""
        return self.project({"beamformer": normal(rng, self.shape_of(type(self).beamformer))})

    def points(self) -> dict[str, Callable[[], Point]]:
        """``matched``: sum of the matched filters. ``main``: the main direction of all of them."""
        return {
            "matched": lambda: self.project({"beamformer": self._balanced.sum(-1)}),
            "main": lambda: self.project({"beamformer": self._main}),
        }

    @cached_property
    def _balanced(self) -> Array:
        """g_k/|g_k|^2, at unit scale: weak devices count most."""
        strength = np.linalg.norm(self.channel, axis=-2, keepdims=True)
        return self.channel / strength * (strength.min(-1, keepdims=True) / strength)

    @property
    def _main(self) -> Array:
        g = self._balanced
        return np.asarray(np.linalg.eigh(g @ g.conj().swapaxes(-1, -2))[1][..., -1])

    # -- what proves it ---------------------------------------------------------------------

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The largest of what the weakest device alone, y = 1/|g|^2 and the witness prove."""
        strength = np.linalg.norm(self.channel, axis=-2)
        least = strength.min(-1, keepdims=True)
        claims = [least[..., 0] ** -2.0, self._proven((least / strength) ** 2)]
        if witness is not None and "dual_weight" in witness:
            claims.append(self._proven(np.asarray(witness["dual_weight"])))
        return np.asarray(np.maximum.reduce(claims))

    def _proven(self, y: Array) -> Array:
        """sum_k y_k/lambda_max(sum_k y_k g_k g_k^H) ``(...)``; negative entries count as 0."""
        if y.shape != (*self.batch_shape, self.sizes["K"]):  # not a witness of this problem
            return np.zeros(self.batch_shape)
        y = np.where((y > 0) & np.isfinite(y), y, 0.0)
        y = y / np.maximum(y.max(-1, keepdims=True), 1e-300)
        size = np.abs(self.channel).max((-2, -1))[..., None, None]
        g = self.channel / size * np.sqrt(y)[..., None, :]
        top = np.linalg.eigvalsh(g @ g.conj().swapaxes(-1, -2))[..., -1]
        rounding = 1 + 1e-12
        return y.sum(-1) / np.where(top > 0, top * rounding, np.inf) / size[..., 0, 0] ** 2

    # -- forms ------------------------------------------------------------------------------

    @offers(SharedBeam)
    def shared_beam(self) -> SharedBeam:
        """The columns as they are."""
        full = np.broadcast_to(self.channel, (*self.batch_shape, self.sizes["N"], self.sizes["K"]))
        return SharedBeam(full, lambda m: self.project({"beamformer": m}))

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """Phases frozen at x: |g_k^H m| >= Re(e^{-j theta_k} g_k^H m) >= 1."""
        return Surrogate(self._frozen)

    def _frozen(self, x: Point) -> Problem:
        rows = self.channel.conj().swapaxes(-1, -2)
        heard = (rows @ np.asarray(x["beamformer"])[..., None])[..., 0]
        return FrozenPhases(self.channel * np.exp(1j * np.angle(heard))[..., None, :])


class FrozenPhases(Problem):
    """The shortest vector in half-planes: least distance, solved exactly.

    Problem
        min |m|^2  s.t.  Re(g_k^H m) >= 1, k = 1..K.
    Choose this when
        never by hand: ``Multicast`` makes it at each point for ``sca``.
    Source
        ota.md §3 (d1), derived; Lawson and Hanson, chapter 23.
    """

    differentiable = False

    channel: Field = data("N K", unit="1", dtype=complex, kw_only=False, doc="turned channel")

    beamformer = variable("N", unit="1", dtype=complex, doc="beam")

    def objective(self, x: Point) -> Array:
        """|m|^2."""
        m = np.asarray(x["beamformer"])
        return np.asarray((m.real**2 + m.imag**2).sum(-1))

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Everybody in the half-plane."""
        heard = self.channel.conj().swapaxes(-1, -2) @ np.asarray(x["beamformer"])[..., None]
        return (Constraint("real part", heard[..., 0].real - 1.0, "1", 1.0),)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Non-negative least squares, instance by instance."""
        return ClosedForm(self._nearest)

    def _nearest(self) -> Point:
        m = np.empty(self.shape_of(type(self).beamformer), dtype=complex)
        for index in np.ndindex(self.batch_shape):
            g = self.channel[index]
            # At unit scale of the weakest column the answer has size about 1.
            scale = np.linalg.norm(g, axis=0).min()
            rows = g.conj().T / scale
            found = shortest(rows)
            if found is None:  # nothing lies in all half-planes: there is no point
                m[index] = np.nan
                continue
            m[index] = found.x / scale / (rows @ found.x).real.min()
        return {"beamformer": m}
