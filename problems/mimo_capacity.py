"""MIMO capacity: the best covariance for one link with several antennas at both ends.

    max  log2 det(I + H Q H^H)    s.t.  tr Q <= P,  Q Hermitian, Q >= 0

H is the channel amplitude over the noise amplitude [W^-1/2]. With H = U S V^H the optimum is
Q = V diag(p) V^H, where p fills water over the eigenchannels of gain s_i^2: `WaterFilling`.

Source: classic (Telatar 1999); spec rrm.md §15 "Extras"; the evaluation in digits is derived.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np

from rralloc.channel import rayleigh_coefficients
from rralloc.fields import Constraint, data, variable
from rralloc.forms import ClosedForm, Handle, Model, offers
from rralloc.numerics.beams import normal
from rralloc.numerics.logexp import LN2
from rralloc.numerics.shapes import batched, within_budget
from rralloc.problem import Problem
from rralloc.problems.water_filling import WaterFilling
from rralloc.typing import Array, Field, Point, Witness

OUTSIDE = 1e-9
"""How far below -1 an eigenvalue may lie by rounding before a covariance is outside the domain."""


class MIMOCapacity(Problem):
    """The capacity of one link with several antennas, channel known at both ends.

    Problem
        max log2 det(I + H Q H^H)  s.t.  tr Q <= P, Q = Q^H, least eigenvalue of Q >= 0.

    Parameters
        channel: H ``(..., M, N)``, complex, W^-1/2: receive by transmit antennas, amplitude over
        the noise amplitude.
        power_budget_w: P ``(...)``, W, >= 0.
    Variables
        covariance: Q ``(..., N, N)``, complex, W: of what is sent.
    Bound
        That of ``WaterFilling`` over the eigenchannels, as for any nu > 0 the maximum of
        log det(I + H Q H^H) - (tr Q - P)/nu over Q >= 0 is that of its diagonal in V.
    Errors
        InvalidProblem for a negative budget, missing or infinite values.
    Choose this when
        one link has several antennas and the transmitter knows the channel. Parallel channels
        without matrices are ``WaterFilling``; several devices are ``DownlinkBeamforming``.
    Source
        Classic; rrm.md §15 "Extras".
    """

    sense = "max"
    unit = "bit/s/Hz"
    source = "classic (Telatar 1999); rrm.md §15"
    bound_method = "Lagrangian dual at the water level"
    differentiable = False

    channel: Field = data("M N", unit="W^-0.5", dtype=complex, doc="amplitude over the noise's")
    power_budget_w: Field = data(unit="W", low=0, doc="total power")

    covariance = variable(
        "N N", unit="W", dtype=complex, scale="power_budget_w", doc="transmit covariance"
    )

    @classmethod
    def random(
        cls,
        *,
        K: int,
        batch: int | tuple[int, ...] | None = None,
        rng: np.random.Generator | int | None = None,
        M: int | None = None,
        **settings: Any,
    ) -> Self:
        """Rayleigh channel CN(0, 1) with K transmit and M receive antennas (K unless set), 10 W."""
        shape = batched(batch, K if M is None else M, K)
        drawn = rayleigh_coefficients(shape, np.random.default_rng(rng))
        return cls(**{"channel": drawn, "power_budget_w": 10.0} | settings)

    # -- eigenchannels ----------------------------------------------------------------------

    @cached_property
    def _eigen(self) -> tuple[Array, Array]:
        """Singular values s ``(..., r)`` and the columns of V ``(..., N, r)``, r = min(M, N)."""
        tail = (self.sizes["M"], self.sizes["N"])
        full = np.broadcast_to(self.channel, (*self.channel.shape[:-2], *tail))
        _, s, rows = np.linalg.svd(full, full_matrices=False)
        return s, rows.conj().swapaxes(-1, -2)

    @cached_property
    def parallel(self) -> WaterFilling:
        """The parallel channels that remain: gains s_i^2, the same budget."""
        return WaterFilling(gain=self._eigen[0] ** 2, power_budget_w=self.power_budget_w)

    def _rotated(self, q: Array) -> Array:
        """V^H Q V ``(..., r, r)``, Hermitian part."""
        v = self._eigen[1]
        return _hermitian(v.conj().swapaxes(-1, -2) @ _hermitian(q) @ v)

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """log2 det(I + H Q H^H), bit/s/Hz; -inf where that is not positive.

        As sum_i log(1 + s_i^2 q_ii) + log det(I + E), with q the rotated Q and
        E_ij = s_i s_j q_ij/sqrt((1 + s_i^2 q_ii)(1 + s_j^2 q_jj)) off the diagonal: a weak
        eigenchannel keeps its digits beside a strong one, and small rates theirs; what is lost is
        log(1 + 1e-16 SNR) where Q ties eigenchannels of that SNR closely together.
        """
        given, finite = _finite(x["covariance"])
        s, q = self._eigen[0], self._rotated(given)
        snr = s**2 * np.einsum("...ii->...i", q).real
        inside = (snr > -1).all(-1) & finite
        snr = np.where(inside[..., None], snr, 0.0)
        share = s / np.sqrt(1 + snr)
        mixed = (
            share[..., :, None] * np.where(np.eye(s.shape[-1]) > 0, 0.0, q) * share[..., None, :]
        )
        eigen = np.linalg.eigvalsh(mixed)
        inside &= (eigen > -1 - OUTSIDE).all(-1)
        # For Q >= 0 no eigenvalue of I + E is below 1/(1 + the largest SNR): rounding may be.
        with np.errstate(divide="ignore"):
            lost = np.log1p(np.where(inside[..., None], np.maximum(eigen, -1.0), 0.0))
        direct = np.log1p(snr)
        nats = direct.sum(-1) + np.maximum(lost, -direct.max(-1, keepdims=True)).sum(-1)
        return np.where(inside, nats / LN2, -np.inf)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """Total power, and what makes a matrix a covariance."""
        q = np.asarray(x["covariance"])
        total = self.power_budget_w
        slack = total - np.einsum("...ii->...i", q).real.sum(-1)
        skew = np.abs(q - q.conj().swapaxes(-1, -2))
        numbers, finite = _finite(q)
        least = np.where(finite, np.linalg.eigvalsh(_hermitian(numbers))[..., 0], np.nan)
        return (
            Constraint("total power", slack, "W", total),
            Constraint("Hermitian", skew, "W", total[..., None, None], equality=True),
            Constraint("least eigenvalue", least, "W", total),
        )

    def project(self, x: Point) -> dict[str, Array]:
        """Hermitian part, eigenvalues clipped to >= 0 and scaled down onto the budget."""
        power, v = np.linalg.eigh(_hermitian(_finite(x["covariance"])[0]))
        return {"covariance": _built(v, within_budget(power, self.power_budget_w))}

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        """A random Wishart matrix at the full budget."""
        drawn = normal(rng, self.shape_of(type(self).covariance))
        q = drawn @ drawn.conj().swapaxes(-1, -2)
        size = np.einsum("...ii->...i", q).real.sum(-1)
        return self.project({"covariance": q * (self.power_budget_w / size)[..., None, None]})

    def points(self) -> dict[str, Callable[[], Point]]:
        """``isotropic``: what one sends who does not know H; ``strongest``: one stream."""
        size = self.sizes["N"]
        total = self.power_budget_w[..., None, None]

        def isotropic() -> Point:
            return {"covariance": self._whole(total / size * np.eye(size, dtype=complex))}

        def strongest() -> Point:
            v = self._eigen[1][..., :1]
            return {"covariance": self._whole(total * _hermitian(v @ v.conj().swapaxes(-1, -2)))}

        return {"isotropic": isotropic, "strongest": strongest}

    def _whole(self, q: Array) -> Array:
        return np.broadcast_to(q, self.shape_of(type(self).covariance))

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``water_level_w``, else at the level read off V^H Q V."""
        if witness is not None and "water_level_w" in witness:
            return self.parallel.bound(None, witness)
        q = self._rotated(_finite((x if x is not None else self.initial())["covariance"])[0])
        powers = np.maximum(np.einsum("...ii->...i", q).real, 0.0)
        return self.parallel.bound({"power_w": powers})

    # -- forms ------------------------------------------------------------------------------

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """Singular values, water over their squares, back through V."""
        filled = self.parallel.view(ClosedForm)

        def point() -> Point:
            power = np.asarray(filled.point()["power_w"])
            return {"covariance": self._whole(_built(self._eigen[1], power))}

        return ClosedForm(point, filled.witness)

    @offers(Model)
    def model(self) -> Model:
        """log det of a semidefinite Y = V^H Q V/P: real, as the mean of Y and its conjugate is."""
        size = self._eigen[0].shape[-1]
        return Model(
            ("MIMOCapacity", size),
            lambda _: _cvxpy(size),
            backends=("cvxpy",),
            reason="a semidefinite matrix needs a conic engine",
        )


def _finite(q: Array) -> tuple[Array, Array]:
    """q with 0 in the place of what is not a number, and whether there was nothing of that."""
    finite = np.isfinite(q)
    return np.where(finite, q, 0.0), np.asarray(finite.all((-1, -2)))


def _hermitian(q: Array) -> Array:
    q = np.asarray(q)
    return (q + q.conj().swapaxes(-1, -2)) / 2


def _built(v: Array, power: Array) -> Array:
    """V diag(p) V^H, Hermitian to the last digit."""
    return _hermitian((v * power[..., None, :]) @ v.conj().swapaxes(-1, -2))


def _cvxpy(size: int) -> Handle:
    """Not in H itself, which a parametrised model may not have on both sides of Q."""
    import cvxpy as cp

    y = cp.Variable((size, size), PSD=True)
    gain = cp.Parameter((size, size), symmetric=True)
    noise = cp.Parameter((size, size), diag=True)
    model = cp.Problem(cp.Maximize(cp.log_det(noise + cp.multiply(gain, y))), [cp.trace(y) <= 1])

    def assign(problem: MIMOCapacity) -> None:
        # Row and column i over sqrt(1 + s_i^2 P/r), which is about what the optimum has there.
        s = problem._eigen[0] * np.sqrt(problem.power_budget_w)
        loud = np.sqrt(1 + s**2 / size)
        gain.value = np.outer(s / loud, s / loud)
        noise.value = np.diag(1 / loud**2)

    def point(problem: MIMOCapacity) -> Point:
        v = problem._eigen[1]
        q = v @ y.value @ v.conj().T
        return {"covariance": _hermitian(q) * problem.power_budget_w}

    return Handle(model, assign, point)
