"""The product of SINRs: power control as a geometric program.

    max  prod_k SINR_k(p)     s.t.  0 <= p <= P,     SINR_k = G_kk p_k/(s_k + sum_{j != k} G_kj p_j)

with row = receiver, column = transmitter. Convex in the logarithms of the powers. Source: spec
rrm.md §15 item 8; Yates 1995 for the fixed point; Newton steps, surrogate and bound derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rralloc.fields import data, variable
from rralloc.forms import ClosedForm, Model, Smooth, Surrogate, offers
from rralloc.problem import Problem
from rralloc.problems._interference import Links, times
from rralloc.problems._power_control_models import PRODUCT, LogProduct, log_model
from rralloc.problems._sinr_product import balanced, dual_log_product, interference_share
from rralloc.typing import Array, Field, Point, Witness


class SINRProduct(Links):
    """The largest product of SINRs: proportional fairness at high SINR.

    Problem
        max_p prod_k G_kk p_k/(s_k + sum_{j!=k} G_kj p_j)  s.t.  0 <= p <= P.

    Parameters
        gain: G ``(..., K, K)``, >= 0, row = receiver, column = transmitter. A link with G_kk = 0
            makes the optimum 0, and ``message`` names it.
        noise_w: s ``(..., K)``, W, > 0. power_max_w: P ``(..., K)``, W, > 0.
    Variables
        power_w: p ``(..., K)``, W.
    Bound
        Dual of the geometric program: any matrix W >= 0 with row and column sums at most 1 gives
        log prod <= sum_k log(G_kk P_k)
                    - sum_i [w_i0 log(s_i/w_i0) + sum_j W_ij log(G_ij P_j/W_ij)],
        w_i0 = 1 - sum_j W_ij: the shares of noise and of each interferer in what i hears.
        NaN where the product leaves the range of floating-point numbers.
    Choose this when
        all links work at high SINR, where the product is the sum rate: unlike that, it is a
        geometric program, and its optimum is proven.
    Source
        Spec rrm.md §15 item 8. Fixed point p_k = min(P_k, 1/sum_i G_ik/I_i(p)), a standard
        interference function (Yates 1995); Newton steps, surrogate and bound derived.
    """

    sense = "max"
    unit = "1"
    source = "classic; rrm.md §15.8"
    bound_method = "dual of the geometric program"

    power_max_w: Field = data("K", unit="W", low=0, open_low=True, doc="power cap of the link")

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading, cross gains 3 dB below direct ones on average, 20 dB SNR, 1 W."""
        fields = super().random_fields(rng, shape)
        apart = np.where(np.eye(shape[-1], dtype=bool), 1.0, 5.0)
        return fields | {"gain": fields["gain"] * apart, "power_max_w": 1.0}

    def objective(self, x: Point) -> Array:
        """The product of the SINRs, by its logarithm; 0 where a link sends nothing."""
        sinr = self.sinr(x["power_w"])
        live = np.real(sinr) > 0
        with np.errstate(over="ignore"):
            product = np.exp(np.log(np.where(live, sinr, 1.0)).sum(-1))
        return np.where(live.all(-1), product, 0.0)

    def points(self) -> dict[str, Callable[[], Point]]:
        """``full-power``: everybody at the cap."""
        shape = self.shape_of(type(self).power_w)
        return {"full-power": lambda: {"power_w": np.broadcast_to(self.power_max_w, shape)}}

    def note(self) -> str:
        """Names links without direct gain."""
        return self.dead_links()

    @property
    def _received(self) -> Array:
        """G_kj P_j off the diagonal ``(..., K, K)``, W: interference at full power."""
        return self._cross * self.power_max_w[..., None, :]

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The dual at the witness's ``interference_share``, else at the shares of x."""
        if witness is not None and "interference_share" in witness:
            share = np.asarray(witness["interference_share"])
        else:
            power = (x if x is not None else self.initial())["power_w"]
            share = interference_share(self._received, self.noise_w, power / self.power_max_w)
        with np.errstate(all="ignore"):
            alone = np.log(self._direct * self.power_max_w).sum(-1)
            best = alone - dual_log_product(self._received, self.noise_w, share)
            product = np.where(np.abs(best) < 700, np.exp(best), np.nan)
        return np.where((self._direct > 0).all(-1), product, 0.0)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """The one fixed point, to rounding: Newton steps guarded by the contraction."""
        shape = self.shape_of(type(self).power_w)

        def point() -> Point:
            share = np.exp(balanced(self._received, self.noise_w))
            return {"power_w": np.broadcast_to(share * self.power_max_w, shape)}

        def witness() -> Witness:
            share = np.exp(balanced(self._received, self.noise_w))
            found = interference_share(self._received, self.noise_w, share)
            return {"interference_share": np.broadcast_to(found, (*shape, shape[-1]))}

        return ClosedForm(point, witness)

    @offers(Surrogate)
    def surrogate(self) -> Surrogate:
        """Interference linearised in its logarithm; its optimum is one step of Yates' iteration."""
        return Surrogate(self._yates_at)

    def _yates_at(self, x: Point) -> Problem:
        """f >= f0 (1 + sum_k [ln(p_k/q_k) - c_k (p_k - q_k)]) at q, c_k = sum_i G_ik/I_i(q)."""
        power = np.asarray(x["power_w"])
        heard = self.noise_w + times(self._cross, power)
        return SINRProductSurrogate(
            value=self.objective(x),
            start_w=np.where(power > 0, power, self.power_max_w),
            cost=times(np.swapaxes(self._cross, -1, -2), 1 / heard),
            power_max_w=self.power_max_w,
        )

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """z = ln p/P, minimise minus the logarithm of the product: convex."""
        return LogProduct(self if self.batch_shape == () else self.flat()[0]).form()

    @offers(Model)
    def model(self) -> Model:
        """Geometric program in logarithms; zero gains have no logarithm and are left out."""
        return log_model(self, PRODUCT, False)


class SINRProductSurrogate(Problem):
    """What one step of Yates' iteration maximises: separable, concave, in closed form.

    Problem
        max value (1 + sum_k [ln(p_k/q_k) - c_k (p_k - q_k)]), 0 <= p <= P.
    Choose this when
        never by hand: ``SINRProduct`` makes it at each point for ``sca``.
    Source
        Derived; spec rrm.md §15 item 8.
    """

    sense = "max"
    unit = "1"

    value: Field = data(unit="1", low=0, doc="product of SINRs at the start")
    start_w: Field = data("K", unit="W", low=0, open_low=True, doc="where it was made")
    cost: Field = data("K", unit="1/W", low=0, doc="price of power")
    power_max_w: Field = data("K", unit="W", low=0, open_low=True, doc="power cap")

    power_w = variable("K", unit="W", low=0, high="power_max_w", scale="power_max_w", doc="power")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Start uniform up to the cap of 1 W, prices Exp(2)."""
        start, cost = rng.uniform(0.1, 1.0, size=shape), 2 * rng.exponential(size=shape)
        return {"value": 1.0, "start_w": start, "cost": cost, "power_max_w": 1.0}

    def objective(self, x: Point) -> Array:
        """Lower bound of the product, tight where it was made; -inf without power."""
        power = x["power_w"]
        live = np.real(power) > 0
        rise = np.log(np.where(live, power, 1.0) / self.start_w) - self.cost * (
            power - self.start_w
        )
        rise = np.where(live.all(-1), rise.sum(-1), -np.inf)
        return np.where(self.value > 0, self.value, 0.0) * np.where(self.value > 0, 1 + rise, 0.0)

    @offers(ClosedForm)
    def closed_form(self) -> ClosedForm:
        """p = min(P, 1/c)."""

        def point() -> Point:
            with np.errstate(divide="ignore"):
                return {"power_w": np.minimum(1 / self.cost, self.power_max_w)}

        return ClosedForm(point)
