"""Bandwidth for update synchronisation: everybody's update in as soon as possible.

    min  max_k { c_k + S_k / r_k(b_k) }    s.t.  sum_k b_k <= B,  b >= 0

r_k(b) = b log2(1 + P_k g_k/(N0 b)) is the rate [bit/s], c_k the compute time [s], S_k the payload
[bit]. At the optimum all scheduled devices finish together, so one time t fixes every share;
weaker channels and slower processors get more band. Source: idea arXiv 2007.07174 (abstract) and
1911.03878; formulas spec rrm.md §5 with its corrections, derived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np

from rralloc.errors import NotOffered
from rralloc.fields import data, variable
from rralloc.forms import Level, Model, Smooth, offers
from rralloc.numerics.memo import last_call
from rralloc.numerics.rates import rate
from rralloc.policy import Decision, Round
from rralloc.problems._min_max_models import MODELS, Epigraph
from rralloc.problems._uplink import LADDER, Uplink
from rralloc.typing import Array, Field, Point, Witness


class MinMaxLatency(Uplink):
    """Split the band so that the last device finishes as early as possible.

    Problem
        min_b max_k { c_k + S_k/r_k(b_k) }  s.t.  sum_k b_k <= B, b_k >= 0, over scheduled k.

    Parameters
        path_gain: g ``(..., K)``, linear. A scheduled device with payload and g = 0 makes the
            instance INFEASIBLE, and the message names it.
        compute_s: c ``(..., K)``, s. payload_bit: S ``(..., K)``, bit. power_w: P ``(..., K)``, W.
        bandwidth_budget_hz: B ``(...)``, Hz, > 0. noise_psd_w_hz: N0, default -174 dBm/Hz.
        scheduled: ``(..., K)`` bool, default everybody; the others get no band and do not count.
    Variables
        bandwidth_hz: b ``(..., K)``, Hz.
    Bound
        A time by which finishing would need more than the whole band.
    Choose this when
        a synchronous round ends with its slowest device and the server divides the band.
    Source
        Idea arXiv 2007.07174 (abstract), 1911.03878; algorithm rrm.md §5 problem A, derived.
    """

    bound_method = "a time that would need more than the whole band"
    differentiable = False  # a maximum; the Smooth form below goes through the epigraph

    scheduled: Field = data("K", unit="1", dtype=bool, default=True, doc="who takes part")

    bandwidth_hz = variable("K", unit="Hz", low=0, scale="bandwidth_budget_hz", doc="bandwidth")

    def excluding(self, *, max_compute_s: float = np.inf, min_path_gain: float = 0.0) -> Self:
        """Problem B: without devices that compute longer or hear less than the thresholds."""
        kept = (self.compute_s <= max_compute_s) & (self.path_gain >= min_path_gain)
        return self.replace(scheduled=self.scheduled & kept)

    def _held(self, values: Array, idle: float) -> Array:
        return np.where(self.scheduled, values, idle)

    def objective(self, x: Point) -> Array:
        """The latest scheduled device's finishing time in s; 0 when nobody is scheduled."""
        return self._held(self.latency(x["bandwidth_hz"]), 0.0).max(-1)

    def infeasible(self) -> Array:
        """Somebody must send and cannot be heard."""
        deaf = (self.snr_bandwidth_hz <= 0) & (self.payload_bit > 0) & self.scheduled
        return deaf.any(-1)

    def why_infeasible(self) -> str:
        """Name the devices that cannot be heard."""
        deaf = (self.snr_bandwidth_hz <= 0) & (self.payload_bit > 0) & self.scheduled
        names = ", ".join(str(k) for k in np.flatnonzero(np.broadcast_to(deaf, self.sizes["K"])))
        return (
            f"device {names} has a payload to send but no received power (P g = 0): no bandwidth "
            "helps; leave it out with scheduled=False or excluding(min_path_gain=...)"
        )

    def points(self) -> dict[str, Callable[[], Point]]:
        """``equal-split``; ``by-need``: band in proportion to payload over spectral efficiency."""
        shape = self.shape_of(type(self).bandwidth_hz)
        total = self.bandwidth_budget_hz[..., None]

        def split(score: Array) -> Point:
            score = self._held(np.broadcast_to(score, shape), 0.0)
            return {
                "bandwidth_hz": total * score / np.maximum(score.sum(-1, keepdims=True), 1e-300)
            }

        def equal() -> Point:
            return split(np.ones(shape))

        def by_need() -> Point:
            band = equal()["bandwidth_hz"]
            with np.errstate(divide="ignore", invalid="ignore"):
                need = self.payload_bit * band / rate(band, self.snr_bandwidth_hz)
            need = np.where(np.isfinite(need), need, 0.0)
            return split(np.where(need.any(-1, keepdims=True), need, 1.0))

        return {"equal-split": equal, "by-need": by_need}

    def used(self, time_s: Array) -> Array:
        """Band that everybody needs to finish by ``time_s (...)``; non-increasing, convex."""
        return self._held(self.needed(time_s), 0.0).sum(-1)

    def bound(self, x: Point | None = None, witness: Witness | None = None) -> Array:
        """The latest time that provably cannot be met, just below x's or the witness's time."""
        time = self.objective(x if x is not None else self.initial())
        best = self._held(self.earliest_s, 0.0).max(-1)
        for claimed in (time, np.asarray((witness or {}).get("latency_s", time))):
            for step in LADDER:
                early = np.where(np.isfinite(claimed), claimed * (1 - step), 0.0)
                proven = self.used(early) >= self.bandwidth_budget_hz
                best = np.where(proven, np.maximum(best, early), best)
                if proven.all():
                    break
        return best

    @offers(Level)
    def level(self) -> Level:
        """level = finishing time; the band needed falls as time passes."""
        equal = self.points()["equal-split"]()
        late = self.objective(equal)
        soon = self._held(self.earliest_s, 0.0).max(-1)
        if not np.isfinite(late).all():
            raise NotOffered("some device cannot be heard: no time suffices")

        band_at = last_call(lambda time: self._held(self.needed(time), 0.0))

        def point(time: Array) -> Point:
            band = band_at(time)
            # Nothing to send (or time to spare): fill the band equally; else share the rounding.
            total = band.sum(-1, keepdims=True)
            spare = np.where(np.isfinite(total) & (total > 0), band, equal["bandwidth_hz"])
            size = spare.sum(-1, keepdims=True)
            fill = self.bandwidth_budget_hz[..., None] / np.where(size > 0, size, 1.0)
            return {"bandwidth_hz": spare * fill}

        def used(time: Array) -> Array:
            return band_at(time).sum(-1)

        def slope(time: Array) -> Array:
            return self.needed_slope(time, band_at(time)).sum(-1)

        budget = self.bandwidth_budget_hz
        return Level(point, used, budget, (soon, late), "linear", slope, lambda t: {"latency_s": t})

    @offers(Smooth)
    def smooth(self) -> Smooth:
        """Epigraph: z = (b/B, t/t0), minimise t with t - c_k - S_k/r_k >= 0 and sum b <= B."""
        one = self if self.batch_shape == () else self.flat()[0]
        return Epigraph(one).form()

    @offers(Model)
    def model(self) -> Model:
        """y = b/B, tau = t/t0; DPP as kappa inv_pos(window) <= -rel_entr(y, y + a)."""
        size = self.sizes["K"]
        return Model(("MinMaxLatency", size), lambda backend: MODELS[backend](size))

    @classmethod
    def from_round(cls, round: Round) -> Self:
        """Everybody with data takes part; the known gain counts as the gain."""
        return cls(
            path_gain=round.path_gain,
            compute_s=round.compute_s,
            payload_bit=round.payload_bit,
            power_w=round.power_w,
            bandwidth_budget_hz=round.bandwidth_hz,
            noise_psd_w_hz=round.noise_psd_w_hz,
            scheduled=round.share > 0,
        )

    def to_decision(self, x: Point, round: Round, rng: np.random.Generator) -> Decision:
        """Everybody scheduled sends at once; the aggregate is the plain weighted mean."""
        scheduled = np.broadcast_to(self.scheduled, round.share.shape)
        return Decision(
            scheduled=scheduled,
            weight=np.where(scheduled, round.share, 0.0),
            bandwidth_hz=np.asarray(x["bandwidth_hz"]),
            power_w=np.broadcast_to(round.power_w, round.share.shape),
            x=dict(x),
        )
