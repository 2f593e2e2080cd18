"""SCA's convex problems for SP-FL: the majorant at a point, jointly, in the bands, in the powers.

    joint       Newton (arrow) in (b, alpha), or (x_s, x_m, alpha) with a free split
    bandwidth   fixed split: one price, :mod:`_spfl_pressure`; free split: Newton in (x_s, x_m)
    power       alpha/(1 - alpha) = sqrt(W_s phi_s/(W_m phi_m)) where the majorant is linear in s
                and m (``plain``), else the root of its derivative in logit(alpha)

The joint one keeps alpha >= theta_s/(theta_s + theta_m) under common fading where both packets have
one spectral efficiency: exactly m >= s, and nothing below is better. Elsewhere max(s, m) is kept,
which is convex but has a kink that may stop Newton early; SCA then stalls, it never ascends.
Source: spec spfl.md §3.2 with correction 2; the general majorant derived.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import Constraint, variable
from rralloc.forms import ClosedForm, Level, Separable, Surrogate, offers
from rralloc.numerics.roots import guarded_newton
from rralloc.problems._spfl_blocks import Held, check_summable, refuse_restricted
from rralloc.problems._spfl_majorant import Majorant
from rralloc.problems._spfl_pressure import pressure_level
from rralloc.problems.spfl import SPFL
from rralloc.typing import Array, Point

EDGE = 34.0
"""Logits of alpha beyond this are 0 and 1: a double has no digit left for 1 - alpha."""


def surrogate(problem: SPFL) -> Surrogate:
    """The majorant in all variables at once."""
    refuse_restricted(problem)
    check_summable(problem)
    return Surrogate(lambda x: JointMajorant.at(problem, x))


class JointMajorant(Held):
    """The convex surrogate of SP-FL at the point held, in all variables."""

    differentiable = False  # made to be solved by its forms alone
    moves: ClassVar[tuple[bool, bool]] = (True, True)
    """Bands and powers."""

    bandwidth_share = variable("K", unit="1", low=0, high="most_band", doc="share of the band")
    sign_power_share = variable(
        "K", unit="1", low="least_power", high="most_power", doc="power on the signs"
    )
    split = variable(
        "K",
        unit="1",
        low="least_split",
        high=1,
        name="sign_band_share",
        when="free_split",
        doc="band of the signs",
    )

    @cached_property
    def majorant(self) -> Majorant:
        """The surrogate itself."""
        return Majorant(self, self.anchor, band=self.moves[0], power=self.moves[1])

    def losses(self, x: Point) -> Array:
        """The surrogate of each J_k ``(..., K)``."""
        return self.majorant.value(self.whole(x))

    # -- the feasible set: smaller around a point with a dead packet ------------------------------

    @property
    def most_band(self) -> Array:
        """What a device has, if its signs, or with a fixed split its moduli, are never decoded."""
        mute = self.majorant.mute & (self.held_power < 1.0) & (not self.free_split)
        most = self.packet_bands(self.anchor)[0] if self.free_split else self.held_band
        return np.where(self.majorant.lost | mute, most, 1.0)

    @property
    def least_split(self) -> Array:
        """1, all to the signs, for a device whose moduli have power but are never decoded."""
        unheard = self.majorant.mute & ~self.majorant.lost & (self.held_power < 1.0)
        return np.where(unheard, 1.0, 0.0)

    @property
    def most_power(self) -> Array:
        """Held for a device that is not decoded."""
        return np.where(self.majorant.lost, self.held_power, 1.0)

    @property
    def least_power(self) -> Array:
        """Likewise; 1 for a sign-only device; m >= s where that is a bound on alpha."""
        stays = self.majorant.lost | (self.majorant.mute & (self.held_power >= 1.0))
        return np.where(stays, self.held_power, self._least_useful_power())

    def _least_useful_power(self) -> Array | float:
        if self.free_split or not self.common:
            return 0.0
        even = np.abs(self.theta_s * self.modulus_rate - self.theta_m * self.sign_rate)
        alike = even <= 1e-12 * (self.theta_m * self.sign_rate)
        share = self.theta_s / (self.theta_s + self.theta_m)
        return np.where(alike, np.minimum(share, self.held_power), 0.0)

    # -- forms ----------------------------------------------------------------------------------

    def separable(self) -> Separable:
        """Convex, in the coordinates of the majorant."""
        flat = self if len(self.batch_shape) == 1 else self.flat()
        majorant = flat.majorant
        coordinates, shape = majorant.coordinates, majorant.y0.shape
        lower, upper = np.zeros(shape), np.ones(shape)
        most = np.broadcast_to(flat.most_band, shape[:-1])
        if flat.moves[0]:
            upper[..., 0] = most
        if flat.moves[0] and flat.free_split:
            upper[..., 1] = np.where(flat.least_split == 1.0, 0.0, most)
        if flat.moves[1]:
            lower[..., -1], upper[..., -1] = flat.least_power, flat.most_power
        return Separable(
            local=majorant.local,
            row=coordinates.row,
            budget=np.ones(flat.size),
            lower=lower,
            upper=upper,
            convex=np.ones(flat.size, dtype=bool),
            point=coordinates.point,
            coordinates=coordinates.read,
        )

    def surrogate(self) -> Surrogate:
        """It is one."""
        raise NotOffered(f"{type(self).__name__} is a surrogate already")


class BandwidthMajorant(JointMajorant):
    """The convex surrogate of the bandwidth step."""

    moves = (True, False)
    variables = (JointMajorant.bandwidth_share, JointMajorant.split)

    @offers(Level)
    def level(self) -> Level:
        """Fixed split: one price of band."""
        if self.free_split:
            raise NotOffered("free split: two bands for each device; see 'newton'")
        flat = self if len(self.batch_shape) == 1 else self.flat()
        return pressure_level(flat, flat.majorant, flat.held_power)


class PowerMajorant(JointMajorant):
    """The convex surrogate of the power step: every device alone."""

    moves = (False, True)
    variables = (JointMajorant.sign_power_share,)

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """None: nothing is shared."""
        return ()

    def separable(self) -> Separable:
        """Nothing is shared, so there is a formula."""
        raise NotOffered("the power step couples no devices; see 'closed-form'")

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """A formula where the majorant is linear in s and m, else a bracketed root."""
        falling = all(p.u <= 0 and p.v <= 0 and np.all(p.c <= 0) for p in self.majorant.parts)
        best = self.balanced if falling else self.stationary

        def point() -> Point:
            alpha = np.where(self.majorant.lost, self.held_power, best())
            return {"sign_power_share": np.clip(alpha, self.least_power, 1.0)}

        return ClosedForm(point)

    def balanced(self) -> Array:
        """alpha/(1 - alpha) = sqrt(W_s phi_s/(W_m phi_m)), the weights as logarithms.

        Under common fading m is at least s: alpha >= phi_s/(phi_s + phi_m).
        """
        phi_s, phi_m = self.thresholds(*self.packet_bands(self.anchor))
        with np.errstate(all="ignore"):
            logs = [np.log(-p.c) + p.z0 for p in self.majorant.parts]
            W_s, W_m = (
                np.logaddexp.reduce(
                    [a + np.log(-getattr(p, way)) for a, p in zip(logs, self.majorant.parts)]
                )
                for way in ("u", "v")
            )
            z = 0.5 * (W_s + np.log(phi_s) - W_m - np.log(phi_m))
            z = np.where(np.isneginf(W_m), np.inf, z)
            if self.common:
                z = np.maximum(z, np.log(phi_s / phi_m))
            alpha = 1.0 / (1.0 + np.exp(-z))
        return np.where(np.isnan(alpha), self.held_power, alpha)

    def stationary(self) -> Array:
        """The root of the majorant's derivative in z = logit(alpha), bracketed."""
        shape = self.majorant.lost.shape
        low, high = np.full(shape, -EDGE), np.full(shape, EDGE)
        with np.errstate(divide="ignore"):
            z = np.log(self.held_power) - np.log1p(-self.held_power)
        z = np.clip(np.broadcast_to(z, shape), 0.9 * low, 0.9 * high)
        step, done = high - low, self.majorant.lost
        for _ in range(100):
            alpha = 1.0 / (1.0 + np.exp(-z))
            _, slope, bend = self.majorant.local(alpha[..., None], scaled=True)
            inner = alpha * (1.0 - alpha)
            rise, twice = slope[..., 0], bend[..., 0, 0]
            low, high = np.where(rise <= 0, z, low), np.where(rise >= 0, z, high)
            curved = twice * inner + rise * (1.0 - 2.0 * alpha)
            trial = guarded_newton(z, rise, curved, low, high, step, "linear")
            step = np.where(done, 0.0, np.abs(trial - z))
            z = np.where(done, z, trial)
            done = done | (step <= 1e-14 * (1.0 + np.abs(z))) | (high - low <= 1e-14)
            if done.all():
                break
        return np.where(z > EDGE - 1e-6, 1.0, 1.0 / (1.0 + np.exp(-z)))
