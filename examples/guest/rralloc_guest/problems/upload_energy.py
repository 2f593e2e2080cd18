"""Upload energy: split one band so that the devices spend the least energy on their uploads.

    min  sum_k P_k S_k / r_k(b_k)     s.t.  sum_k b_k <= B,  b >= 0,    r_k(b) = b log2(1 + q_k/b)

P_k is the power of device k while it sends [W], S_k its payload [bit], q_k = P_k g_k/N0 [Hz]. A
device sends until it is done, so its energy is power times time. 1/r is convex because r is concave
and positive: the problem is convex. Derived; one price of bandwidth fixes every share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from rralloc.fields import Constraint, data, variable
from rralloc.forms import Handle, Level, Model, offers
from rralloc.numerics.logexp import LN2, log1p_excess, log_expm1_over_x
from rralloc.numerics.rates import rate, rate_slope
from rralloc.numerics.roots import bracketed_root
from rralloc.policy import Decision, Round
from rralloc.problem import Problem
from rralloc.typing import Array, Field, Point, Witness


class UploadEnergy(Problem):
    """Minimise the energy of all uploads over the split of one band.

    Problem
        min sum_k P_k S_k / (b_k log2(1 + q_k/b_k))  s.t.  sum_k b_k <= B, b >= 0.

    Parameters
        snr_bandwidth_hz: q ``(..., K)``, Hz, > 0, received power over noise density P g/N0.
        power_w: P ``(..., K)``, W, > 0. payload_bit: S ``(..., K)``, bit, > 0.
        bandwidth_budget_hz: B ``(...)``, Hz, > 0.
    Variables
        bandwidth_hz: b ``(..., K)``, Hz.
    Bound
        A convex function lies above its tangents, and the least value of one on the feasible set
        is at a corner; nor does anybody spend less than with the whole band.
    Choose this when
        batteries count and time does not; for the time see ``MinMaxLatency``.
    """

    sense = "min"
    unit = "J"
    source = "derived"
    bound_method = "tangent of a convex objective"

    snr_bandwidth_hz: Field = data("K", unit="Hz", low=0, open_low=True, doc="P g/N0")
    power_w: Field = data("K", unit="W", low=0, open_low=True, doc="power while sending")
    payload_bit: Field = data("K", unit="bit", low=0, open_low=True, doc="bits to send")
    bandwidth_budget_hz: Field = data(unit="Hz", low=0, open_low=True, doc="total bandwidth")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    @classmethod
    def random_fields(cls, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
        """Rayleigh fading at 10 dB mean SNR over an equal share of 1 MHz; 1 Mbit at 0.2 W."""
        q = 1e7 / shape[-1] * rng.exponential(size=shape)
        fields = {"power_w": 0.2, "payload_bit": 1e6, "bandwidth_budget_hz": 1e6}
        return {"snr_bandwidth_hz": q, **fields}

    # -- evaluation -------------------------------------------------------------------------

    def objective(self, x: Point) -> Array:
        """Energy of all uploads in J; infinite where a device gets no band."""
        with np.errstate(divide="ignore"):
            seconds = self.payload_bit / rate(x["bandwidth_hz"], self.snr_bandwidth_hz)
        return (self.power_w * seconds).sum(-1)

    def gradient(self, x: Point) -> dict[str, Array]:
        """-P S r'/r^2."""
        return {"bandwidth_hz": -self._saving(x["bandwidth_hz"])}

    def _saving(self, band: Array) -> Array:
        """J saved by one Hz more, P S r'(b)/r(b)^2; falls with b."""
        q = self.snr_bandwidth_hz
        return self.power_w * self.payload_bit * rate_slope(band, q) / rate(band, q) ** 2

    def constraints(self, x: Point) -> tuple[Constraint, ...]:
        """The band."""
        slack = self.bandwidth_budget_hz - x["bandwidth_hz"].sum(-1)
        return (Constraint("total bandwidth", slack, "Hz", self.bandwidth_budget_hz),)

    def project(self, x: Point) -> dict[str, Array]:
        """Scale onto the band: more never costs energy."""
        total = self.bandwidth_budget_hz[..., None]
        band = np.maximum(x["bandwidth_hz"], 1e-12 * total)
        return {"bandwidth_hz": band * (total / band.sum(-1, keepdims=True))}

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal``: the same band for all; ``by-need``: in proportion to the energy at that."""
        shape = self.shape_of(type(self).bandwidth_hz)
        share = np.broadcast_to(self.bandwidth_budget_hz[..., None] / shape[-1], shape)

        def by_need() -> Point:
            need = self.power_w * self.payload_bit / rate(share, self.snr_bandwidth_hz)
            return self.project({"bandwidth_hz": share * need / need.max(-1, keepdims=True)})

        return {"equal": lambda: {"bandwidth_hz": share}, "by-need": by_need}

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The tangent at x, at its best corner; with the whole band each, if that is more."""
        x = self.project(self.initial() if x is None else x)
        slope, total = self.gradient(x)["bandwidth_hz"], self.bandwidth_budget_hz
        corner = total * slope.min(-1) - (slope * x["bandwidth_hz"]).sum(-1)
        alone = self.objective({"bandwidth_hz": np.broadcast_to(total[..., None], slope.shape)})
        return np.maximum(self.objective(x) + corner, alone)

    # -- forms ------------------------------------------------------------------------------

    @offers(Level)
    def level(self) -> Level:
        """level = price of bandwidth in J/Hz, at which each device buys what saves as much."""
        total, q = self.bandwidth_budget_hz, self.snr_bandwidth_hz
        shape = self.shape_of(type(self).bandwidth_hz)
        whole = np.broadcast_to(total[..., None], shape)
        low, high = (self._saving(whole / share).max(-1) for share in (1, shape[-1]))

        def exponent(price: Array) -> Array:
            """u = ln(1 + q/b) at which a Hz more saves the price."""
            size = price[..., None] * q**2 / (self.power_w * self.payload_bit * LN2)
            return _exponent(np.broadcast_to(size, shape))

        def point(price: Array) -> Point:
            return {"bandwidth_hz": q / np.expm1(exponent(price))}

        def slope(price: Array) -> Array:
            u = exponent(price)
            by_u = -q * np.exp(u) / np.expm1(u) ** 2
            return (by_u / (price[..., None] * _log_size(u)[1])).sum(-1)

        def used(price: Array) -> Array:
            return point(price)["bandwidth_hz"].sum(-1)

        return Level(point, used, total, (low, high), "log", slope, lambda price: {"price": price})

    @offers(Model)
    def model(self) -> Model:
        """y = b/B for cvxpy; a variable v <= y ln(1 + a/y) keeps it DPP."""
        size = self.sizes["K"]
        return Model(("UploadEnergy", size), lambda _: _cvxpy(size), backends=("cvxpy",))

    # -- training ---------------------------------------------------------------------------

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """Everybody sends its update, at its power and the gain that the server knows."""
        return cls(
            snr_bandwidth_hz=round.snr_bandwidth_hz,
            power_w=round.power_w,
            payload_bit=round.payload_bit,
            bandwidth_budget_hz=round.bandwidth_hz,
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """All at once, side by side; the plain weighted mean."""
        return Decision(
            scheduled=np.ones(round.devices, dtype=bool),
            weight=round.share,
            bandwidth_hz=np.asarray(x["bandwidth_hz"]),
            power_w=np.broadcast_to(round.power_w, round.share.shape),
            x=dict(x),
        )


def _log_size(u: Array) -> tuple[Array, Array]:
    """ln h(u), h = expm1(u)^2 (u - 1 + e^-u)/u^2, and its derivative; h rises from 0."""
    above = log1p_excess(u)  # u - 1 + e^-u without cancellation
    value = 2 * log_expm1_over_x(u) + np.log(above)
    return value, 2 * (-1 / np.expm1(-u) - 1 / u) - np.expm1(-u) / above


def _exponent(size: Array) -> Array:
    """u with h(u) = size > 0: between ln(1+w)/2 and w = sqrt(2 size)."""

    def fall(u: Array, goal: Array) -> tuple[Array, Array]:
        value, slope = _log_size(u)
        return goal - value, -slope

    w = np.sqrt(2 * size.ravel())
    return bracketed_root(fall, np.log1p(w) / 2, w, np.log(size.ravel())).reshape(size.shape)


def _cvxpy(size: int) -> Handle:
    import cvxpy as cp

    cost, heard = cp.Parameter(size, nonneg=True), cp.Parameter(size, nonneg=True)
    y, sent = cp.Variable(size, nonneg=True), cp.Variable(size, nonneg=True)
    limits = [sent <= -cp.rel_entr(y, y + heard), cp.sum(y) <= 1]
    model = cp.Problem(cp.Minimize(cost @ cp.inv_pos(sent)), limits)

    def assign(problem: UploadEnergy) -> None:
        total = problem.bandwidth_budget_hz
        joule = problem.power_w * problem.payload_bit
        cost.value = np.broadcast_to(joule / joule.max(), size)
        heard.value = np.broadcast_to(problem.snr_bandwidth_hz / total, size)

    return Handle(model, assign, lambda p: {"bandwidth_hz": y.value * p.bandwidth_budget_hz})
